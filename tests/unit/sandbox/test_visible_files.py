"""The files of this machine that a sandbox with its programs sees."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engines import need

from portico.core.sandboxes.allowed_mounts import AllowedMounts
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.sandboxes.sandbox_policy import SandboxPolicy
from portico.sandbox import errors, visible_files
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.spec import Spec

ROOT = Path(__file__).parents[3]
PROGRAM = """
    import asyncio, json, sys
    from portico.sandbox.backend_registry import make_backend
    from portico.sandbox.spec import Spec
    async def main():
        async with make_backend(sys.argv[1]) as backend:
            box = await backend.create(Spec())
            seen = await box.run_shell(f"cd {sys.argv[2]}; find $PWD -maxdepth 2; cat .env .portico/*")
            cell = await box.run_cell("import packaged; packaged.told")
            shell = await box.run_shell("python3 -c 'import packaged; print(packaged.told)'")
            print(json.dumps({
                "seen": seen.stdout.decode(), "cell": cell.end.error is None, "shell": shell.stdout.decode(),
                "missing": backend.capabilities.missing.get("packages", ""),
            }))
    asyncio.run(main())
"""


@pytest.fixture
def project() -> Iterator[Path]:
    """A project with settings, data and a virtual environment."""
    with tempfile.TemporaryDirectory(prefix=".project-", dir=ROOT) as name:
        yield made(Path(name))


def made(project: Path) -> Path:
    """The environment is the project's directory itself, as made by `python -m venv .`."""
    project.chmod(0o755)
    (project / ".env").write_text("SECRET")
    (project / ".portico").mkdir()
    (project / ".portico/portico.db").write_text("SECRET")
    base = os.path.realpath(sys.executable)
    subprocess.run([base, "-m", "venv", "--without-pip", project], check=True, timeout=60)
    (packages,) = (project / "lib").glob("python3*/site-packages")
    (packages / "packaged.py").write_text("told = 'packaged'")
    return project


async def look(backend: str, project: Path) -> dict[str, str]:
    process = await asyncio.create_subprocess_exec(
        project / "bin/python", "-c", textwrap.dedent(PROGRAM), backend, str(project),
        env={"PYTHONPATH": str(ROOT / "sandbox"), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE, cwd=project,
    )  # fmt: skip
    told: dict[str, str] = json.loads((await process.communicate())[0])
    return told


@pytest.mark.parametrize("backend", ["local", "bubblewrap"])
async def test_of_a_project_only_what_an_import_needs_is_seen(backend: str, project: Path) -> None:
    if backend == "bubblewrap":
        need("bubblewrap")
    told = await look(backend, project)
    assert "SECRET" not in told["seen"]
    assert f"{project}/.env" not in told["seen"]
    assert f"{project}/.portico" not in told["seen"]
    if told["missing"]:
        assert backend == "bubblewrap"
        pytest.skip("NOT TESTED: not every user may enter the checkout")
    assert told["cell"]
    assert backend == "bubblewrap" or told["shell"] == "packaged\n"  # its shell has the system's programs


async def test_an_environment_where_a_sandbox_has_its_own_directory_is_told() -> None:
    with tempfile.TemporaryDirectory(prefix="portico-project-", dir="/tmp") as name:
        told = await look("local", made(Path(name)))
    assert "/tmp/portico-project-" in told["missing"]
    assert not told["cell"]


async def test_a_python_where_a_sandbox_has_its_own_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr("sys.base_prefix", str(tmp_path))
    monkeypatch.setattr("portico.sandbox.visible_files._OWN", (str(tmp_path),))
    with pytest.raises(errors.BackendUnavailable, match="this Python is in"):
        await LocalBackend().open()


async def test_what_is_private_is_not_among_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (library,) = (
        path for path in visible_files.environment() if path.endswith(os.path.basename(os.__file__[:-6]))
    )
    (tmp_path / "link").symlink_to(library)
    for path in ("/usr/share", f"{library}/data", f"{tmp_path}/link/data"):
        policy = SandboxPolicy(more_backends=("docker",), private={"the database's directory": path})
        with pytest.raises(ValueError, match="the database's directory"):
            await CoreSandboxes(policy).start()
    await CoreSandboxes(SandboxPolicy(private={"the database's directory": "/usr/src/app/.portico"})).start()
    private = {"the audit log": f"{tmp_path}/a"}
    with pytest.raises(ValueError, match="the audit log"):
        await CoreSandboxes(SandboxPolicy(backend=f"bubblewrap:{tmp_path}", private=private)).start()
    with pytest.raises(ValueError, match="the audit log"):
        AllowedMounts((str(tmp_path),), {"the audit log": f"{tmp_path}/deep/audit.log"})
    monkeypatch.chdir("/usr/share")
    with pytest.raises(ValueError, match="the working directory"):
        await CoreSandboxes(SandboxPolicy()).start()
    with pytest.raises(errors.BackendUnavailable, match="the working directory"):
        await LocalBackend().open()


async def test_sources_and_settings_below_the_system_are_not_seen(backend: LocalBackend) -> None:
    box = await backend.create(Spec())
    found = await box.run_shell("find /usr/src /usr/local/src /usr/local/etc -mindepth 1 2>/dev/null")
    assert found.stdout == b""
    assert (await box.run_shell("ls -d /usr/bin/env")).ok
