"""The docker backend: images, the pool, how containers are configured, and that none remains."""

import asyncio
import io
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.engines import need

from portico.sandbox import errors
from portico.sandbox.docker import backend, images
from portico.sandbox.docker.backend import DockerBackend
from portico.sandbox.docker.engine import Engine
from portico.sandbox.docker.settings import DockerSettings
from portico.sandbox.events import CellEnd
from portico.sandbox.local.process_owner import ProcessOwner
from portico.sandbox.spec import Limits, Mount, NetworkPolicy, Spec


@pytest.fixture
def settings(docker_url: str) -> DockerSettings:
    return DockerSettings(url=docker_url)


@pytest.fixture
async def docker(settings: DockerSettings) -> AsyncIterator[DockerBackend]:
    async with DockerBackend(settings) as opened:
        yield opened


async def containers(settings: DockerSettings, owner: str = "") -> list[dict[str, Any]]:
    """The containers of an owner (default: this process); other tests use the engine too."""
    engine = Engine(settings.url)
    await engine.open()
    try:
        mine = f"portico.owner={owner or ProcessOwner.current().name}"
        listed: list[dict[str, Any]] = await engine.call("containers", all=True, filters={"label": [mine]})
        return listed
    finally:
        await engine.close()


async def test_many_sandboxes_by_many_clients_leave_nothing(settings: DockerSettings) -> None:
    async with DockerBackend(settings) as docker:

        async def client(number: int) -> None:
            for _ in range(2):
                box = await docker.create(Spec())
                code = f"import subprocess; subprocess.Popen(['sleep', '60']); {number}"
                result = await box.run_cell(code)
                assert result.rich[0].data["text/plain"] == str(number).encode()
                await box.destroy()

        await asyncio.gather(*(client(number) for number in range(8)))
        await docker.create(Spec())
    assert await containers(settings) == []


async def test_nothing_outlives_an_owner_that_is_killed(settings: DockerSettings) -> None:
    program = f"""
        import asyncio
        from portico.sandbox.docker.backend import DockerBackend
        from portico.sandbox.docker.settings import DockerSettings
        from portico.sandbox.local.process_owner import ProcessOwner
        from portico.sandbox.spec import Spec
        async def main():
            backend = DockerBackend(DockerSettings(url={settings.url!r}))
            await backend.open()
            boxes = [await backend.create(Spec()) for _ in range(2)]
            print(ProcessOwner.current().name, flush=True)
            await asyncio.gather(*(box.run_cell("while True: pass") for box in boxes))
        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    owner = (await process.stdout.readline()).decode().strip()
    assert {one["State"] for one in await containers(settings, owner)} == {"running"}
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with asyncio.timeout(20):  # the engine closes their standard input, and they exit
        while "running" in {one["State"] for one in await containers(settings, owner)}:
            await asyncio.sleep(0.1)
    async with DockerBackend(settings), asyncio.timeout(20):
        while await containers(settings, owner):  # another test's backend may be about to remove them
            await asyncio.sleep(0.1)


async def test_a_container_is_made_as_hard_as_it_can_be(docker: DockerBackend) -> None:
    box = await docker.create(Spec(limits=Limits(cpus=64, memory_bytes=64 << 20)))
    made = await docker._engine.call("inspect_container", box._container)
    host = made["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"]
    assert host["NetworkMode"] == "none"
    assert host["Memory"] == host["MemorySwap"] == 64 << 20
    assert host["PidsLimit"] == 129
    assert host["LogConfig"]["Type"] == "none"
    assert not host["Binds"]
    assert made["Config"]["User"] == "1000:1000"
    for name, most in (("tcp_rmem", b"131072"), ("tcp_wmem", b"262144")):
        told = await box.run_shell(f"cat /proc/sys/net/ipv4/{name}")
        assert told.stdout.split()[2] == most
    assert (await box.run_shell("grep Seccomp_filters /proc/self/status")).stdout.split()[1] == b"2"


async def test_a_waiting_sandbox_is_claimed_with_the_environment_asked_for(settings: DockerSettings) -> None:
    async with DockerBackend(replace(settings, pool_size=1)) as docker:
        async with asyncio.timeout(30):
            while not docker._pool.ready:
                await asyncio.sleep(0.05)
        waiting = set(docker._boxes)
        box = await docker.create(Spec(env={"A": "b"}), "sbx_mine")
        assert box.id == "sbx_mine"
        assert waiting.isdisjoint(docker._boxes)
        assert (await box.run_cell("import os; print(os.environ['A'])")).stdout == b"b\n"
        other = await docker.create(
            Spec(limits=Limits(processes=16), network=NetworkPolicy(("example.com",)))
        )
        assert other.id not in waiting
    assert await containers(settings) == []


async def test_modules_are_preloaded_and_mounts_are_seen(docker: DockerBackend, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    (tmp_path / "note").write_text("from the host")
    mounts = (Mount(str(tmp_path), "/workspace/data"), Mount(str(tmp_path), "/data"))
    box = await docker.create(Spec(preload=("decimal",), mounts=mounts))
    assert (await box.run_cell("import sys; print('decimal' in sys.modules)")).stdout == b"True\n"
    assert await box.files.read("data/note") == b"from the host"
    assert await box.files.read("/data/note") == b"from the host"
    assert (await box.run_cell("open('/data/new', 'w')")).end.error is not None
    with pytest.raises(errors.InvalidRequest, match="preload: no_such_module: ModuleNotFoundError"):
        await docker.create(Spec(preload=("no_such_module",)))
    with pytest.raises(errors.BackendUnavailable, match="nonsense"):
        await docker.create(Spec(mounts=(Mount("/nonsense", "/data"),)))


async def test_a_container_that_is_not_ready_in_time_is_given_up(
    docker: DockerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_START_SECONDS", 0.001)
    with pytest.raises(errors.LimitExceeded, match="preload: decimal: not ready") as refused:
        await docker.create(Spec(preload=("decimal",)))
    assert refused.value.limit == "preload"
    with pytest.raises(errors.BackendUnavailable, match="not ready"):
        await docker.create(Spec())
    assert not docker._boxes


async def test_a_sandbox_that_ends_says_of_what(docker: DockerBackend) -> None:
    box = await docker.create(Spec())
    async with aclosing(box.stream_cell("print('running')\nwhile True: pass")) as events:
        await anext(events)
        await docker._engine.call("kill", box._container)
        end = [event async for event in events][-1]
    assert isinstance(end, CellEnd)
    assert isinstance(end.failure, errors.SandboxGone)
    assert end.failure.cause == "killed"
    with pytest.raises(errors.SandboxGone):
        await box.pause()
    async with asyncio.timeout(10):
        while docker._boxes:
            await asyncio.sleep(0.01)


async def test_what_is_missing_is_named_when_it_opens(settings: DockerSettings) -> None:
    for wrong, told in (
        (replace(settings, tag="absent"), "portico sandbox build"),
        (replace(settings, runtime="moon"), "runc"),
        (DockerSettings(url="unix:///nonsense/docker.sock"), "does not answer"),
    ):
        backend = DockerBackend(wrong)
        with pytest.raises(errors.BackendUnavailable, match=told):
            await backend.open()
        await backend.close()
        with pytest.raises(errors.BackendUnavailable):
            await backend.create(Spec())


async def test_an_image_of_another_version_is_refused(
    settings: DockerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "agent_digest", lambda: "another")
    with pytest.raises(errors.BackendUnavailable, match="another version"):
        await DockerBackend(settings).open()


async def test_an_engine_that_cannot_limit_is_refused_unless_that_is_accepted(
    settings: DockerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = Engine.open

    async def without_limits(engine: Engine) -> dict[str, Any]:
        return {**await genuine(engine), "SwapLimit": False, "PidsLimit": False, "SecurityOptions": []}

    monkeypatch.setattr(Engine, "open", without_limits)
    with pytest.raises(errors.BackendUnavailable, match="processes"):
        await DockerBackend(settings).open()
    async with DockerBackend(replace(settings, weaker=True)) as docker:
        always = {"terminals", "user", "TCP buffers"}  # the last only with control groups v1
        assert set(docker.capabilities.missing) - always == {"memory", "swap", "processes", "filter"}
        assert docker.capabilities.limits == {"cpus", "disk", "inodes", "output", "time"}


async def test_an_image_has_matplotlib_and_fonts_unless_it_is_made_without_a_network(
    settings: DockerSettings,
) -> None:
    """The base image has an apt-get and a pip that record their arguments."""
    engine = Engine(settings.url)
    await engine.open()
    script = "RUN printf '#!/bin/sh\\necho $0 $@ >> /asked\\n' > {0} && chmod 755 {0}\n"
    lines = "".join(script.format(f"/usr/bin/{name}") for name in ("apt-get", "pip"))
    dockerfile = io.BytesIO(f"FROM {images.LOCAL_BASE}\nRUN mkdir -p /var/lib/apt/lists\n{lines}".encode())
    steps = await engine.call("build", fileobj=dockerfile, tag="portico-test:recording", rm=True, decode=True)
    await asyncio.to_thread(list, steps)
    await engine.close()
    asked = "/usr/bin/apt-get update\n/usr/bin/apt-get install -y --no-install-recommends fonts-noto-cjk\n"
    for plots, packages, expected in (
        (True, ("numpy",), f"{asked}/usr/bin/pip install --no-cache-dir matplotlib numpy\n"),
        (None, (), ""),
    ):
        tagged = replace(settings, tag=f"plots-{plots}".lower())
        await images.build(tagged, base="portico-test:recording", packages=packages, plots=plots)
        async with DockerBackend(tagged) as docker:
            box = await docker.create(Spec())
            assert (await box.run_shell("cat /asked")).stdout.decode() == expected
            family = (await box.run_shell("cat $MATPLOTLIBRC")).stdout
            assert family == (b"font.family: DejaVu Sans, Noto Sans CJK JP\n" if plots else b"")


async def test_a_build_that_fails_says_why(settings: DockerSettings) -> None:
    with pytest.raises(errors.BackendUnavailable, match=r"cannot be built|reference"):
        await images.build(replace(settings, tag="broken"), base="Not A Name")


def test_the_image_is_named_as_the_environment_says() -> None:
    assert DockerSettings.from_environment({}).image == "portico/portico-sandbox-base:latest"
    environ = {
        "RUNTIME_SANDBOX_REGISTRY": "registry.example.com",
        "RUNTIME_SANDBOX_IMAGE_NAMESPACE": "team",
        "RUNTIME_SANDBOX_IMAGE_TAG": "preview",
    }
    settings = DockerSettings.from_environment(environ, runtime="runsc")
    assert settings.image == "registry.example.com/team/portico-sandbox-base:preview"
    assert settings.backend == "docker:runsc"


async def test_gvisor_runs_cells_commands_and_files_and_a_memory_bomb_ends_the_sandbox(
    settings: DockerSettings,
) -> None:
    need("gvisor")
    async with DockerBackend(replace(settings, runtime="runsc")) as backend:
        assert (backend.name, backend.capabilities.tier) == ("docker:runsc", "gvisor")
        assert {"inodes", "pause", "checkpoints", "survival"} <= set(backend.capabilities.missing)
        box = await backend.create(Spec(limits=Limits(memory_bytes=128 << 20, processes=32)))
        assert (await box.run_cell("x = 21")).ok
        assert (await box.run_cell("x * 2")).rich[0].data["text/plain"] == b"42"
        assert (await box.run_shell("id -u; exit 3")).exit_code == 3
        await box.files.write("a/b", "text")
        assert await box.files.read("a/b") == b"text"
        for refused in (box.pause(), box.checkpoint("one")):
            with pytest.raises(errors.Unsupported):
                await refused
        unreached = await box.run_cell("import socket; socket.create_connection(('1.1.1.1', 53), 1)")
        assert unreached.end.error is not None
        failure = (await box.run_cell("b = bytearray(1 << 30)\nb[::4096] = b'x' * (1 << 18)")).end.failure
        assert isinstance(failure, errors.SandboxGone)
        assert failure.cause == "memory"
