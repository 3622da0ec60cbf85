"""Code inside is nobody in a mount, or its owner if that was asked for; and never somebody else."""

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

from portico.sandbox import errors
from portico.sandbox.docker import hardening
from portico.sandbox.sources import opened
from portico.sandbox.spec import Mount

SOURCE = Path(__file__).parents[3] / "sandbox"
NOBODY = 65_534
PROGRAM = """
    import asyncio, sys
    from portico.sandbox import errors
    from portico.sandbox.choice import make_backend
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
