"""In a mount, code inside is an unrelated user, or the owner if requested, and never another user."""

import asyncio
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.folders import open_to_all

from portico.core.sandboxes.allowed_mounts import AllowedMounts
from portico.core.server.private_paths import private_paths
from portico.core.settings.core_settings import CoreSettings
from portico.sandbox import errors
from portico.sandbox.docker import hardening
from portico.sandbox.handle.replies import Reply
from portico.sandbox.inside import linux
from portico.sandbox.mount_sources import closed, confirm, opened
from portico.sandbox.spec import Mount

SOURCE = Path(__file__).parents[4] / "sandbox"
NOBODY = 65_534
PROGRAM = """
    import asyncio, sys
    from portico.sandbox import errors
    from portico.sandbox.backend_registry import make_backend
    from portico.sandbox.spec import Mount, Spec
    async def main():
        async with make_backend(sys.argv[1]) as backend:
            for source, as_owner in (("mine", False), ("mine", True), ("other", False), ("other", True)):
                mount = Mount(f"{sys.argv[2]}/{source}", "/data", as_owner=as_owner)
                try:
                    box = await backend.create(Spec(mounts=(mount,)))
                except errors.SandboxError as error:
                    print(type(error).__name__)
                else:
                    print((await box.run_shell("cat /data/secret")).stdout.decode())
    asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_to_all() as folder:
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's rights are needed")
@pytest.mark.parametrize("backend", ["local", "bubblewrap"])
async def test_without_roots_rights_a_mount_is_shown_as_its_owner_or_not_at_all(
    backend: str, folder: Path
) -> None:
    if backend == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("NOT TESTED: bubblewrap is not installed")
    for name, owner in (("mine", NOBODY), ("other", 4321)):
        (folder / name).mkdir()
        (folder / name / "secret").write_text("x")
        (folder / name / "secret").chmod(0o600)
        for path in (folder / name, folder / name / "secret"):
            os.chown(path, owner, owner)
    process = await asyncio.create_subprocess_exec(
        os.path.realpath(sys.executable), "-c", textwrap.dedent(PROGRAM), backend, str(folder),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, user=NOBODY, group=NOBODY, extra_groups=[],
        env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]}, cwd="/",
    )  # fmt: skip
    out = (await process.communicate())[0].decode().splitlines()
    assert out == ["Unsupported", "x", "Unsupported", "BackendUnavailable"], out


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's directory is needed")
async def test_a_containers_user_is_an_owner_only_if_that_was_asked_for(tmp_path: Path) -> None:
    os.chown(tmp_path, hardening.UID, hardening.UID)
    (plain,) = await opened((Mount(str(tmp_path), "/data"),))
    (own,) = await opened((Mount(str(tmp_path), "/data", as_owner=True),))
    with pytest.raises(errors.Unsupported, match="userns-remap"):
        hardening.check_mounts((plain,), remapped=False)
    hardening.check_mounts((own,), remapped=False)
    hardening.check_mounts((plain,), remapped=True)
    with pytest.raises(errors.Unsupported, match="as its owner"):
        hardening.check_mounts((own,), remapped=True)


async def test_an_agent_has_to_say_what_was_opened_on_this_kernel(tmp_path: Path) -> None:
    mounts = await opened((Mount(str(tmp_path), "/data"),))
    state = tmp_path.stat()
    told: dict[str, object] = {"boot": linux.boot_id(), "mounts": [[state.st_dev, state.st_ino]]}
    confirm(mounts, Reply(told, broken))
    for wrong in (
        {**told, "boot": "another"},
        {**told, "mounts": [[state.st_dev, state.st_ino + 1]]},
        {**told, "mounts": []},
        {"boot": linux.boot_id()},
        {},
    ):
        with pytest.raises(errors.BackendUnavailable, match="mounts"):
            confirm(mounts, Reply(wrong, broken))
    with pytest.raises(errors.BackendUnavailable, match="mounts"):
        confirm(closed(mounts), Reply({"boot": linux.boot_id()}, broken))


def broken(why: str) -> errors.SandboxGone:
    return errors.SandboxGone(why, "protocol")


def test_sockets_and_data_of_a_core_are_private(tmp_path: Path) -> None:
    settings = CoreSettings(
        listen=["127.0.0.1:0", f"unix:{tmp_path}/core.sock"],
        store=f"sqlite:///{tmp_path}/data/portico.db",
        audit_log=f"{tmp_path}/audit",
    )
    paths = private_paths(settings).values()
    assert {f"{tmp_path}/core.sock", f"{tmp_path}/data", f"{tmp_path}/audit"} <= set(paths)
    for folder in (tmp_path, tmp_path / "data"):
        folder.mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="contains the database"):
            AllowedMounts((f"{folder}:rw",), private_paths(settings))
