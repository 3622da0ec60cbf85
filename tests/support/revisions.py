"""Databases of older releases."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.migrate import SCRIPTS


def database_at(revision: str, path: Path) -> SqliteFile:
    """Creates an empty database of a revision."""
    file = SqliteFile(path)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    engine = create_engine(f"sqlite:///{file.path}")
    with engine.begin() as opened:
        config.attributes["connection"] = opened
        command.upgrade(config, revision)
    engine.dispose()
    return file
