import sqlite3
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from support.revisions import database_at

from portico.core.errors import StoreUnavailable
from portico.core.stores.open_stores import open_stores
from portico.core.stores.search.ranking import MAX_SCORED
from portico.core.stores.sql.schema import metadata
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.migrate import SCRIPTS, migrate, newest


def _schema(path: Path) -> dict[str, str]:
    """The names of all schema objects, without those of Alembic and FTS5."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {
        name: " ".join(sql.split())
        for name, sql in rows
        if not name.startswith(("alembic_", "sqlite_", "message_search", "memory_search"))
    }


def test_a_migrated_database_has_the_tables_of_the_schema(tmp_path: Path) -> None:
    migrate(SqliteFile(tmp_path / "migrated.db"))
    engine = create_engine(f"sqlite:///{tmp_path}/created.db")
    metadata.create_all(engine)
    engine.dispose()
    assert _schema(tmp_path / "migrated.db") == _schema(tmp_path / "created.db")


def test_the_newest_migration_is_known_by_its_name() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_current_head() == newest()


def test_a_database_that_is_up_to_date_is_opened_without_what_migrates(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "x.db")
    migrate(file)
    program = (
        "import sys; from pathlib import Path; from portico.core.stores.sqlite.migrate import migrate;"
        "from portico.core.stores.sqlite.database_file import SqliteFile;"
        f"migrate(SqliteFile(Path({str(file.path)!r}))); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "x.db")
    migrate(file)
    first = _schema(file.path)
    migrate(file)
    assert _schema(file.path) == first


def test_of_several_who_start_on_a_new_database_at_once_one_migrates(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "x.db")
    with ThreadPoolExecutor(5) as threads:
        for done in [threads.submit(migrate, file) for _ in range(5)]:
            done.result()
    assert "runs" in _schema(file.path)


def test_a_database_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "x.db")
    migrate(file)
    connection = file.connect()
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreUnavailable, match="newer release"):
        migrate(file)


def test_a_path_with_a_percent_sign_is_migrated(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "100%(x)s.db")
    migrate(file)
    assert "runs" in _schema(file.path)


def _rows(file: SqliteFile, query: str) -> list[tuple[object, ...]]:
    connection = file.connect()
    rows = connection.execute(query).fetchall()
    connection.close()
    return rows


def test_push_configs_without_a_protocol_are_kept(tmp_path: Path) -> None:
    file = database_at("0002", tmp_path / "x.db")
    connection = file.connect()
    connection.execute(
        "INSERT INTO push_configs VALUES ('r', 'c', 'https://e.org', 't', 'Bearer', 's', 4, 0, 1.5, 'v')"
    )
    connection.close()
    migrate(file)
    (row,) = _rows(file, "SELECT * FROM push_configs")
    assert row == ("r", "c", "https://e.org", "t", "Bearer", "s", 4, 0, 1.5, "v", "")


def test_parts_of_states_get_a_column_and_sessions_keep_their_names(tmp_path: Path) -> None:
    file = database_at("0004", tmp_path / "x.db")
    connection = file.connect()
    for user_id, session_id in (
        ("ada", "s"),
        ("ada", "a#b"),
        ("ada", "real"),
        ("ada", "real#agno"),
        ("ada", "x#langgraph:y"),
    ):
        connection.execute("INSERT INTO sessions VALUES (?, ?, 1, 1, '')", (user_id, session_id))
    kept = {
        ("ada", "s"): ("s", ""),
        ("ada", "s#agentscope"): ("s", "agentscope"),
        ("ada", "s#agentscope1"): ("s", "agentscope1"),
        ("ada", "s#agno"): ("s", "agno"),
        ("ada", "s#autogen"): ("s", "autogen"),
        ("ada", "s#ms_agent_framework"): ("s", "ms_agent_framework"),
        ("ada", "s#langgraph:s"): ("s", "langgraph:s"),
        ("ada", "s#langgraph:t#agno"): ("s", "langgraph:t#agno"),
        ("ada", "a#b#langgraph:a#b"): ("a#b", "langgraph:a#b"),
        ("ada", "x#langgraph:y#langgraph:z"): ("x#langgraph:y", "langgraph:z"),
        # Sessions whose ids look like those of parts, and ambiguous ids.
        ("ada", "real#agno"): ("real#agno", ""),
        ("ada", "s#draft"): ("s#draft", ""),
        ("ada", "#agno"): ("#agno", ""),
        ("ada", "gone#agno"): ("gone#agno", ""),
        ("bob", "s#agno"): ("s#agno", ""),
    }
    for user_id, session_id in kept:
        for round_id in (1, 7):
            row = (user_id, session_id, round_id, f'"{session_id}"', f"etag {round_id}", 1.5)
            connection.execute("INSERT INTO states VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.close()
    migrate(file)
    found = _rows(file, "SELECT user_id, session_id, part, round_id, state, etag, updated_at FROM states")
    assert sorted(found, key=str) == sorted(
        (
            (user_id, session_id, part, round_id, f'"{before}"', f"etag {round_id}", 1.5)
            for (user_id, before), (session_id, part) in kept.items()
            for round_id in (1, 7)
        ),
        key=str,
    )


def test_members_of_memories_and_types_of_messages_are_read_from_what_is_there(tmp_path: Path) -> None:
    path = database_at("0008", tmp_path / "x.db").path
    call = b"\x0a\x05msg_1\x10\x04\x18\x05" + b"x" * 5000
    payloads = [call, b"\x0a\x05msg_2\x10\x01", b"\x0a\x05msg_3", b"\x10\x0d", b"\x03\x0a\x01m\x10\x04", b""]
    payloads.append(b"\x01" + zlib.compress(call))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO memories (number, memory_id, user_id, session_id, text, created_at, metadata)"
            " VALUES (3, 'm3', 'ada', '', 'a penguin', 2.5, ?), (4, 'm4', 'ada', '', 'x', 3.5, '')",
            ['{"a": 5, "b": "x", "c": {"d": null}, "e": [1], "f": true}'],
        )
        connection.execute("INSERT INTO memory_members VALUES (3, 'a', '5'), (3, 'b', 'x')")
        connection.executemany(
            "INSERT INTO messages (user_id, session_id, message_id, role, text, payload, created_at, run_id)"
            " VALUES ('ada', 's1', ?, 'user', '', ?, 1, '')",
            list(enumerate(payloads)),
        )
    migrate(SqliteFile(path))
    with closing(sqlite3.connect(path)) as connection:
        members = connection.execute("SELECT * FROM memory_members ORDER BY name").fetchall()
        kept = connection.execute("SELECT key, updated_at, expires_at FROM memories").fetchall()
        types = [row[0] for row in connection.execute("SELECT type FROM messages ORDER BY position")]
    assert members == [
        (3, '["a"]', "number", "5", 5.0),
        (3, '["b"]', "text", "x", None),
        (3, '["c","d"]', "null", None, None),
        (3, '["c"]', "object", None, None),
        (3, '["e"]', "array", None, None),
        (3, '["f"]', "boolean", "true", None),
    ]
    assert kept == [("", 2.5, None), ("", 3.5, None)]
    assert types == [
        *("plugin_call", "message", "message", "reasoning", "plugin_call", "message", "plugin_call")
    ]


async def test_memories_and_messages_of_an_older_release_are_found(tmp_path: Path) -> None:
    file = database_at("0008", tmp_path / "x.db")
    connection = file.connect()
    for number in range(1, 2502):
        row = (number, f"mem_{number}", "ada", "s1", f"penguin follow-up number{number}", 1.5, "")
        connection.execute("INSERT INTO memories VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute(
            "INSERT INTO memory_search (rowid, owner, text) VALUES (?, 'u0', ?)", (number, row[4])
        )
    connection.execute("INSERT INTO sessions VALUES ('ada', 's1', 1, 1, '')")
    connection.execute(
        "INSERT INTO messages VALUES (5, 'ada', 's1', 'm5', 'user', 'a herring', x'70', 1, 'r1')"
    )
    connection.execute("INSERT INTO message_search (rowid, owner, text) VALUES (5, 'u0', 'a herring')")
    connection.execute("UPDATE search_progress SET position = 5")
    connection.close()
    stores = await open_stores(f"sqlite:///{file.path}")
    [hit] = await stores.memories.search("ada", "followup number2501", 1)
    assert hit.memory.memory_id == "mem_2501"
    assert len(await stores.memories.search("ada", "penguins", 3000)) == MAX_SCORED
    assert await stores.memories.delete("ada", None, "mem_2501") == 1
    assert await stores.memories.search("ada", "number2501", 1) == []
    [found] = await stores.sessions.search("ada", "herrings", None, 5)
    assert found.message.message_id == "m5"
    await stores.close()
    for name in ("memory_search", "message_search"):
        _rows(file, f"INSERT INTO {name} ({name}) VALUES ('integrity-check')")
