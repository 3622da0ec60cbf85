import os
import sqlite3
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy.engine import URL

from portico.core.errors import StoreUnavailable
from portico.core.integrity import doctor
from portico.core.server.private_paths import private_paths
from portico.core.settings.core_settings import CoreSettings
from portico.core.stores.open_stores import StoreDriver, directory_of, open_stores, supported_urls
from portico.core.stores.ports.stores import Stores
from portico.core.stores.sqlite.log.run_log import SqliteRunLog


@pytest.mark.parametrize(
    "url",
    ["", "portico.db", "postgresql://localhost/portico", "redis://x", "sqlite://", "sqlite:///:memory:"],
)
async def test_a_url_that_means_no_store_is_refused_with_those_that_do(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        await open_stores(url)
    assert supported_urls() in str(caught.value)


def test_the_supported_urls_come_from_the_table() -> None:
    assert supported_urls() == "memory://, sqlite:///relative.db and sqlite:////absolute.db"


class Point:
    """A store of another package, which keeps its data in the memory store."""

    name = "moon"

    def load(self) -> StoreDriver:
        return StoreDriver(
            forms=("moon://crater",),
            check=self.check,
            open=self.open,
            directory=lambda url: f"/srv/{url.host}",
        )

    def check(self, url: URL) -> None:
        if not url.host:
            raise ValueError("the URL names no crater")

    async def open(self, url: URL, migration_copy: bool) -> Stores:
        return await open_stores("memory://")


class BrokenPoint(Point):
    def load(self) -> StoreDriver:
        raise ImportError("No module named 'moon'")


def register(monkeypatch: pytest.MonkeyPatch, point: Point) -> None:
    def entry_points(*, group: str, name: str = "moon") -> list[Point]:
        assert group == "portico.stores"
        return [point] if name == "moon" else []

    monkeypatch.setattr("portico.core.stores.open_stores.entry_points", entry_points)


async def test_a_store_of_another_package_is_opened_by_its_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Point())
    stores = await open_stores(CoreSettings(store="moon://tycho").store)
    assert await stores.runs.unfinished() == []
    await stores.close()
    assert directory_of("moon://tycho") == "/srv/tycho"
    assert private_paths(CoreSettings(store="moon://tycho"))["the database's directory"] == "/srv/tycho"


async def test_a_store_of_another_package_checks_its_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Point())
    with pytest.raises(ValidationError, match="names no crater"):
        CoreSettings(store="moon://")
    with pytest.raises(
        ValueError, match=r"unsupported store URL sun://; supported are memory://.* and moon://$"
    ):
        await open_stores("sun://x")


async def test_a_store_whose_package_cannot_be_imported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, BrokenPoint())
    with pytest.raises(ValueError, match=r"moon:// can't be imported \(No module named 'moon'\)"):
        await open_stores("moon://tycho")


def test_the_doctor_refuses_stores_without_a_database_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register(monkeypatch, Point())
    for url in ("moon://tycho", "memory://"):
        assert doctor.main(["--store", url]) == 2
        assert "only sqlite:/// databases can be checked" in capsys.readouterr().err


@pytest.mark.parametrize(
    "query", ["synchronous=off", "journal_mode=delete", "synchronous=full&synchronous=full"]
)
async def test_an_option_that_there_is_not_is_refused(query: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        await open_stores(f"sqlite:///{tmp_path}/x.db?{query}")
    assert list(tmp_path.iterdir()) == []


async def test_a_refused_url_does_not_leak_its_password() -> None:
    with pytest.raises(ValueError) as caught:
        await open_stores("postgresql://me:hunter2@host/db")
    assert "hunter2" not in str(caught.value)


async def test_a_relative_path_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stores = await open_stores("sqlite:///.portico/deep/portico.db")
    await stores.close()
    assert (tmp_path / ".portico/deep/portico.db").is_file()


async def test_a_closed_database_is_one_file(tmp_path: Path) -> None:
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    await stores.states.save("ada", "s", None, "{}", None)
    await stores.close()
    assert not list(tmp_path.glob("*-wal"))
    assert not list(tmp_path.glob("*-shm"))


@pytest.mark.parametrize(("query", "level"), [("", 1), ("?synchronous=normal", 1), ("?synchronous=full", 2)])
async def test_synchronous_says_how_carefully_it_is_written(query: str, level: int, tmp_path: Path) -> None:
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db{query}")
    assert isinstance(stores.runs, SqliteRunLog)
    assert stores.runs._writing.execute("PRAGMA synchronous").fetchone() == (level,)
    await stores.close()


async def test_a_directory_that_cannot_be_made_or_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (f"{tmp_path}/file/portico.db", f"{tmp_path}/{'x' * 252}"):
        with pytest.raises(StoreUnavailable, match="directory") as caught:
            await open_stores(f"sqlite:///{path}")
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("content", [b"hello", b"garbage" * 5000])
async def test_a_file_that_is_no_database_is_unavailable(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(content)
    with pytest.raises(StoreUnavailable, match="the file is not a database"):
        await open_stores(f"sqlite:///{tmp_path}/x.db")
    assert (tmp_path / "x.db").read_bytes() == content


async def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="can't be opened"):
        await open_stores(f"sqlite:///{tmp_path}")


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StoreUnavailable, match="another program"):
        await open_stores(f"sqlite:///{tmp_path}/x.db")


async def test_closed_stores_are_unavailable(tmp_path: Path) -> None:
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    await stores.close()
    for call in (
        stores.states.save("ada", "s", None, "{}", None),
        stores.sessions.list("ada", None, 1),
        stores.sessions.search("ada", "word", None, 1),
        stores.memories.delete("ada", None, None),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call


async def test_a_database_belongs_to_one_core_at_a_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/portico.db"
    stores = await open_stores(url)
    with pytest.raises(StoreUnavailable, match="another core"):
        await open_stores(url)
    await stores.close()
    await (await open_stores(url)).close()


async def test_a_database_that_could_not_be_opened_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await open_stores(f"sqlite:///{path}")
    path.unlink()
    await (await open_stores(f"sqlite:///{path}")).close()


async def test_only_the_owner_may_read_what_is_stored(tmp_path: Path) -> None:
    file = tmp_path / "data/portico.db"
    before = os.umask(0)
    try:
        stores = await open_stores(f"sqlite:///{file}")
        modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
        assert {"portico.db", "portico.db-wal", "portico.db-shm"} <= modes.keys()
        assert set(modes.values()) == {0o600}
        assert file.parent.stat().st_mode & 0o777 == 0o700
        await stores.close()
    finally:
        os.umask(before)
    # Files of an older release, with permissions by the umask.
    for folder, closed in ((file.parent, 0o755), (tmp_path / ".portico", 0o700)):
        folder.mkdir(exist_ok=True)
        file = file.rename(folder / file.name)
        file.chmod(0o664)
        folder.chmod(0o755)
        await (await open_stores(f"sqlite:///{file}")).close()
        assert file.stat().st_mode & 0o777 == 0o600
        # Another directory may contain files of other programs.
        assert folder.stat().st_mode & 0o777 == closed
    # Permissions that a user has set.
    file.chmod(0o640)
    await (await open_stores(f"sqlite:///{file}")).close()
    assert file.stat().st_mode & 0o777 == 0o640
