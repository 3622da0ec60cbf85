"""Runs the migrations that a database file lacks, with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import NullPool, create_engine, event, inspect
from sqlalchemy.engine import Connection

from portico.core.errors import StoreUnavailable
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.sqlite_errors import translate_sqlite_errors


def upgrade(file: SqliteFile, scripts: Path) -> None:
    """Run the missing migrations of the directory `scripts` in one transaction. Blocks.

    Raises:
        StoreUnavailable: The file can't be used, or is not a database of this or an older release.
    """
    engine = create_engine("sqlite://", creator=file.connect, poolclass=NullPool)
    event.listen(engine, "begin", _begin)
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    try:
        with translate_sqlite_errors(), engine.begin() as connection:
            tables = inspect(connection).get_table_names()
            if tables and "alembic_version" not in tables:
                raise StoreUnavailable("the database belongs to another program")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise StoreUnavailable("the database was written by a newer release of Portico") from error
    finally:
        engine.dispose()


def _begin(connection: Connection) -> None:
    # Takes the write lock at once: of two processes that start together, one migrates and the other waits.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
