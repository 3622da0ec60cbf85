"""The socket between core and gateways, with various folders for temporary files."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from portico.process.core_socket import PATH_BYTES, PREFIX, core_socket


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a path short enough for a socket; pytest's own may be too long."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def left(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir() if one.name.startswith(PREFIX)]


def test_the_folder_is_for_its_owner_and_goes_at_the_end(temporary: Path) -> None:
    with core_socket() as address:
        path = Path(address.removeprefix("unix:"))
        assert path.parent.parent == temporary
        assert path.parent.stat().st_mode & 0o777 == 0o700
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    assert left(temporary) == []


def test_where_the_path_is_too_long_another_folder_is_taken(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = temporary / ("long" * 30)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with core_socket() as address:
        path = address.removeprefix("unix:")
        assert len(path) <= PATH_BYTES
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
    assert not Path(path).parent.exists()
    assert left(long) == []


def test_where_no_folder_can_be_written_the_socket_is_abstract(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico.process.core_socket.USUAL", ())
    monkeypatch.setenv("TMPDIR", str(temporary / "none"))
    with core_socket(temporary / "neither") as first, core_socket() as second:
        assert first != second
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("\0" + first.removeprefix("unix-abstract:"))
    with core_socket(temporary) as address:
        assert Path(address.removeprefix("unix:")).parent.parent == temporary
    monkeypatch.setenv("PORTICO_CORE_TLS_CLIENT_CA", "ca.pem")
    with pytest.raises(OSError, match="set TMPDIR"), core_socket():
        pass


def test_what_a_killed_supervisor_left_goes_at_the_next_start(temporary: Path) -> None:
    (temporary / "mine").mkdir()
    (temporary / f"{PREFIX}link").symlink_to(temporary / "mine")
    with core_socket() as living:
        killed = temporary / f"{PREFIX}abandoned"
        killed.mkdir()
        (killed / "core.sock").touch()
        with core_socket() as another:
            names = {Path(address.removeprefix("unix:")).parent.name for address in (living, another)}
            assert set(left(temporary)) == {*names, f"{PREFIX}link"}
    assert (temporary / "mine").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_what_belongs_to_another_user_stays(temporary: Path) -> None:
    theirs = temporary / f"{PREFIX}theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    with core_socket():
        pass
    assert theirs.exists()
