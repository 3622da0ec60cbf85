"""Packages that sandboxed code installs from an allowed index; every Python in the sandbox finds them."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pip
import pytest
from support.egress import LOOPBACK
from support.package_index import add_wheel, package_index

from portico.sandbox.backend import Backend
from portico.sandbox.spec import Mount, NetworkPolicy, Spec

WHERE = "/tools"  # contains pip, since some sandboxes' Python lacks it


@pytest.fixture
def tools() -> Iterator[Mount]:
    """A folder with pip; not one of pytest's folders, since only their user can access them."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(Path(pip.__file__).parent, folder / "pip", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    yield Mount(str(folder), WHERE)
    shutil.rmtree(folder)


async def test_packages_are_installed_from_an_index_that_is_allowed(
    backend: Backend, tools: Mount, tmp_path: Path
) -> None:
    add_wheel(tmp_path, "inner_part", "1.0", "value = 6\ndef main(): pass\n")
    code = "import inner_part\nvalue = inner_part.value * {}\ndef main(): print('made', value)\n"
    add_wheel(tmp_path, "outer_part", "1.0", code.format(6), ("inner_part",))
    add_wheel(tmp_path, "outer_part", "2.0", code.format(7), ("inner_part",))
    async with package_index(tmp_path) as port:
        env = {
            "no_proxy": "",
            "NO_PROXY": "",
            "PYTHONPATH": WHERE,
            "PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple",
        }
        network = NetworkPolicy((f"127.0.0.1:{port}",), LOOPBACK)
        box = await backend.create(Spec(mounts=(tools,), network=network, env=env))
        before = await box.run_cell(
            "try:\n    import outer_part\nexcept ImportError as error:\n    print(error)"
        )
        assert b"No module named" in before.stdout
        done = await box.run_shell("python3 -m pip install outer_part==1.0 && outer_part")
        assert done.exit_code == 0, done.stderr
        assert done.stdout.endswith(b"made 36\n")
        # The kernel that failed to import it before, a program, and a new kernel.
        show = "import outer_part; print(outer_part.value, outer_part.__file__)"
        assert (await box.run_cell(show)).stdout.startswith(b"36 /workspace/.local/")
        assert (await box.run_shell(["python3", "-c", show])).stdout.startswith(b"36 /workspace/.local/")
        upgraded = await box.run_cell("%pip install -U outer_part")
        assert b"Successfully installed outer_part-2.0" in upgraded.stdout, upgraded
        await box.restart_kernel()
        assert (await box.run_cell(show)).stdout.startswith(b"42 /workspace/.local/")


async def test_without_a_network_pip_says_at_once_what_to_do(backend: Backend, tools: Mount) -> None:
    box = await backend.create(Spec(mounts=(tools,), env={"PYTHONPATH": WHERE}))
    begun = time.monotonic()
    done = await box.run_shell("python3 -m pip install anything")
    if backend.name == "local":
        assert time.monotonic() - begun < 10  # 0.6 s on an idle machine
    assert done.exit_code == 1
    assert b"This sandbox has no network: name the hosts it needs in allow_hosts" in done.stderr


async def test_every_client_is_told_that_there_is_no_network(backend: Backend) -> None:
    box = await backend.create(Spec())
    code = """
import socket, urllib.request
def get(url):
    try:
        return urllib.request.urlopen(url, timeout=20).read()
    except OSError as error:
        return str(error)
def hold():
    return [socket.create_connection(("127.0.0.1", 3128), 20) for _ in range(80)]
held = hold()
[get("http://a.test/"), get("https://a.test/")]
"""
    shown = (await box.run_cell(code)).rich[0].data["text/plain"].decode()
    assert (
        shown.count("403: This sandbox has no network") + shown.count("403 This sandbox has no network") == 2
    )
    for _ in range(2):  # ended connections are not counted
        assert (await box.run_cell("for each in held: each.close()\nheld = hold()")).ok
