"""Sandboxes of real processes: the example, the command line, and a core that is killed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from support.deployment import Deployment, ask, eventually
from support.processes import none_alive
from support.terminal import in_terminal

from portico.client import Client, PorticoError
from portico.v1 import sandbox_pb2

CODER = Path(__file__).parents[2] / "examples" / "coder.py"


@pytest.fixture
def coder(tmp_path: Path) -> Iterator[Deployment]:
    started = Deployment(CODER, tmp_path)
    yield started
    started.stop()


def of_core(core: psutil.Process) -> list[psutil.Process]:
    """Returns the processes of a core: its zygotes, and the processes forked from them."""
    return core.children(recursive=True)


async def test_the_coder_runs_fenced_python_and_remembers(coder: Deployment) -> None:
    async with httpx.AsyncClient(base_url=coder.url, timeout=60) as http, Client(coder.target) as client:
        first = "Look:\n```python\nx = 6\nprint('é')\n```\nand\n```\nx * 7\n```"
        told = {"session_id": "s", "user_id": "ann", "stream": False}
        run = (await http.post("/process", json=ask(first, **told))).json()
        assert "".join(part["text"] for part in run["output"][0]["content"]) == "é\n42\n"
        run = (await http.post("/process", json=ask("print(x)\n1 / 0", **told))).json()
        text = "".join(part["text"] for part in run["output"][0]["content"])
        assert text.startswith("6\n")
        assert "ZeroDivisionError" in text
        code = "class P:\n  def _repr_png_(self): return b'\\x89PNG'\nP()"
        run = (await http.post("/process", json=ask(code, **told))).json()
        (part,) = run["output"][0]["content"]
        assert part["image_url"] == "data:image/png;base64,iVBORw=="
        (own,) = [one async for one in client.sandboxes.list(user_id="ann", session_id="s")]
        assert own.spec.type == "base"


async def test_a_killed_core_leaves_no_sandbox_process(coder: Deployment) -> None:
    async with Client(coder.target) as client:
        for turn in range(3):
            made = [await client.sandboxes.create(fresh=True) for _ in range(4)]
            for one in made:
                await client.sandboxes.start_process(one.sandbox_id, "trap '' TERM HUP; sleep 1000 & wait")
            busy = asyncio.create_task(_spin(client, made[0]))
            await client.sandboxes.create_snapshot(made[1].sandbox_id)
            core = coder.child("portico.core")
            processes = of_core(core)
            assert len(processes) > 8
            coder.kill("portico.core")
            await eventually(partial(none_alive, processes))
            with pytest.raises(PorticoError):
                await busy
            await asyncio.to_thread(coder.wait_ready)
            async with asyncio.timeout(20):
                while not await _serves(client):
                    await asyncio.sleep(0.1)
            # The next core does not adopt them, creates new ones, and has removed their files.
            again = await client.sandboxes.create(fresh=True)
            assert again.sandbox_id not in {one.sandbox_id for one in made}
            assert [one.sandbox_id async for one in client.sandboxes.list()] == [again.sandbox_id]
            assert not list(Path("/tmp").glob(f"portico-snapshots-{core.pid}-*")), turn


async def _serves(client: Client) -> bool:
    """Returns whether the client's channel has reconnected after its core died."""
    try:
        return await client.healthy()
    except PorticoError:
        return False


async def _spin(client: Client, made: sandbox_pb2.Sandbox) -> None:
    async for _ in client.sandboxes.run_cell(made.sandbox_id, "while True: pass"):
        pass


def left_of(core: psutil.Process) -> set[str]:
    """Returns the remains of a core on the machine: control groups, marked processes, files."""
    name = f"{core.pid}-"
    found = {
        f"{folder}/{one}"
        for folder, below, _ in os.walk("/sys/fs/cgroup")
        for one in below
        if one.startswith(f"portico-{name}")
    }
    for process in psutil.process_iter(["cmdline"]):
        if any(word.startswith(f"portico-sandbox-of={name}") for word in process.info["cmdline"] or []):
            found.add(f"process {process.pid}")
    return found | {str(path) for path in Path("/tmp").glob(f"portico-*-{name}*")}


class Crowd:
    """Clients that create sandboxes, use them and end them concurrently."""

    def __init__(self, target: str, core: psutil.Process) -> None:
        self._target, self._core = target, core
        self.made = 0
        # All observed sandboxes. Their namespaces exist as long as their processes: nothing else holds them.
        self.processes: set[psutil.Process] = set()

    async def run(self, clients: int, each: int) -> None:
        async with Client(self._target, timeout=120) as client:
            await asyncio.gather(*(self._client(client, f"user{one}", each) for one in range(clients)))

    async def _client(self, client: Client, user: str, each: int) -> None:
        for turn in range(each):
            made = await client.sandboxes.create(user_id=user, session_id=f"s{turn}")
            code = (
                "import subprocess\nfor _ in range(3): subprocess.Popen(['setsid', 'sleep', '1000'])\n40 + 2"
            )
            events = [one async for one in client.sandboxes.run_cell(made.sandbox_id, code)]
            assert [one.rich.data["text/plain"] for one in events[:-1]] == [b"42"]
            await client.sandboxes.write_file(made.sandbox_id, "file", b"x" * 10_000)
            self.made += 1
            if self.made % 20 == 0:
                self.processes.update(of_core(self._core))
            await client.sandboxes.delete(made.sandbox_id)


def mounted() -> set[str]:
    """Returns the mounts of the kinds that a sandbox has; others may mount other things meanwhile."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line for line in lines if line.partition(" - ")[2].split()[0] in ("tmpfs", "devpts", "proc")}


async def test_two_hundred_sandboxes_of_twenty_clients_leave_nothing(tmp_path: Path) -> None:
    started = Deployment(CODER, tmp_path)
    core, before = started.child("portico.core"), mounted()
    crowd = Crowd(started.target, core)
    await crowd.run(20, 10)
    assert crowd.made == 200
    assert len(crowd.processes) > 100
    async with Client(started.target) as client:
        assert [one async for one in client.sandboxes.list()] == []
    # The zygote with its parent, and the warm pool, remain.
    await eventually(lambda: len(of_core(core)) < 12, 30)
    assert await asyncio.to_thread(started.stop) == 0
    assert left_of(core) == set()
    assert mounted() == before
    assert none_alive(list(crowd.processes))


async def test_a_core_killed_among_two_hundred_sandboxes_leaves_nothing(coder: Deployment) -> None:
    core, before = coder.child("portico.core"), mounted()
    crowd = Crowd(coder.target, core)
    running = asyncio.create_task(crowd.run(20, 10))
    await eventually(lambda: crowd.made >= 60, 120)
    crowd.processes.update(of_core(core))
    coder.kill("portico.core")
    with pytest.raises(PorticoError):
        await running
    await eventually(lambda: none_alive(list(crowd.processes)), 30)
    await asyncio.to_thread(coder.wait_ready)
    await eventually(lambda: coder.child("portico.core").pid != core.pid and not left_of(core), 30)
    assert mounted() == before


async def test_a_stopped_core_leaves_nothing(tmp_path: Path) -> None:
    started = Deployment(CODER, tmp_path)
    async with Client(started.target) as client:
        for _ in range(3):
            await client.sandboxes.create(fresh=True)
        processes = of_core(started.child("portico.core"))
        assert len(processes) > 3
    assert await asyncio.to_thread(started.stop) == 0
    assert none_alive(processes)


def portico(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "portico.cli", *arguments]
    env = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, env=env)


def test_the_command_line_needs_no_core(tmp_path: Path) -> None:
    ran = portico("sandbox", "run", "print(1)\n6 * 7")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "1\n42\n", "")
    ran = portico("sandbox", "run", "--shell", "echo hi; echo oh >&2; exit 3")
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "hi\n", "oh\n")
    ran = portico("sandbox", "run", "-", given="1 / 0")
    assert ran.returncode == 1
    assert "ZeroDivisionError" in ran.stderr
    ran = portico("sandbox", "run", "--timeout", "0.3", "while True: pass")
    assert (ran.returncode, "TIMEOUT" in ran.stderr) == (124, True)
    ran = portico("sandbox", "run", "--memory", "1", "1")
    assert (ran.returncode, "memory" in ran.stderr) == (2, True)
    (tmp_path / "a.txt").write_text("hello")
    ran = portico("sandbox", "run", "--file", str(tmp_path / "a.txt"), "print(open('a.txt').read())")
    assert ran.stdout == "hello\n"
    code = "class P:\n  def _repr_png_(self): return b'png'\nP()"
    ran = portico("sandbox", "run", "--images", str(tmp_path), code)
    assert (tmp_path / "image-1.png").read_bytes() == b"png"


def test_the_command_line_looks_after_a_cores_sandboxes(coder: Deployment) -> None:
    async def make() -> str:
        async with Client(coder.target) as client:
            return (await client.sandboxes.create(user_id="ann")).sandbox_id

    sandbox_id = asyncio.run(make())
    assert sandbox_id in portico("sandbox", "list", "--core", coder.target).stdout
    assert portico("sandbox", "delete", sandbox_id, "--core", coder.target).returncode == 0
    assert sandbox_id not in portico("sandbox", "list", "--core", coder.target).stdout
    assert portico("sandbox", "delete", sandbox_id, "--core", coder.target).returncode == 1


def test_what_a_sandbox_prints_does_not_act_on_the_terminal() -> None:
    says = r"printf '\033]52;c;aGk=\007\033]0;owned\007\033[2J\033[31mred\033[0m 9%%\r10%%\n'"
    code = r"print('\x1b]52;c;aGk=\x07'); raise ValueError('\x1b]0;owned\x07')"
    shell = ("portico.sandbox", "run", "--shell", f"{says}; {says} >&2")
    for shown in (in_terminal(*shell), in_terminal("portico.sandbox", "run", code)):
        assert rb"\x1b]52;c;aGk=\x07" in shown
        assert b"\x1b]" not in shown
        assert b"\x1b[2J" not in shown
        assert b"\x07" not in shown
    shown = in_terminal(*shell)
    assert shown.count(b"\x1b[31mred\x1b[0m 9%\r10%\r\n") == 2
    assert b"\x1b]52;c;aGk=\x07" in in_terminal(*shell, "--raw")
    # A reader of a pipe gets the bytes.
    assert "\x1b]52;c;aGk=\x07\x1b]0;owned\x07\x1b[2J" in portico("sandbox", "run", "--shell", says).stdout


async def test_files_go_in_and_out_with_progress(coder: Deployment, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "data.bin").write_bytes(content)
    async with Client(coder.target) as client:
        box = (await client.sandboxes.create()).sandbox_id
    to, up = ("--core", coder.target), str(tmp_path / "data.bin")
    command = ("portico.cli", "sandbox")
    shown = await asyncio.to_thread(in_terminal, *command, "upload", box, up, "in/it.bin", *to)
    assert b"data.bin" in shown
    assert b"3.0/3.0 MB" in shown
    back = tmp_path / "back.bin"
    back.write_bytes(b"older")
    shown = await asyncio.to_thread(in_terminal, *command, "download", box, "in/it.bin", str(back), *to)
    assert b"3.0/3.0 MB" in shown
    assert back.read_bytes() == content
    missing = await asyncio.to_thread(portico, "sandbox", "download", box, "none", str(back), *to)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "none" in missing.stderr
    assert back.read_bytes() == content
    assert [one.name for one in tmp_path.glob(".*.bin*")] == []
