"""Secrets in files: for settings and for other environment variables.

Every user of a machine can read arguments, and every child process inherits variables. So each secret has a
second setting that names a file: `admin_key_file` for `admin_key`.
"""

import stat
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from portico.process.settings import named

FILE = "_file"
MAX_BYTES = 64 * 1024


def read_secret(path: Path) -> str:
    """Reads a file's text, without the line break at its end. Blocks. Raises ValueError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ValueError(f"names a file that can't be read: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"names a file that is not text: {path}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"names a file of more than {MAX_BYTES // 1024} KiB: {path}")
    if not text.strip():
        raise ValueError(f"names a file that is empty: {path}")
    return text


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting is a secret; it then has no option, because every user can read arguments."""
    return field.annotation == SecretStr | None


def secrets_of(settings: type[BaseSettings]) -> list[str]:
    """Names of the settings that are secrets."""
    return [name for name, field in settings.model_fields.items() if is_secret(field)]


class SecretSettings(BaseSettings):
    """Settings whose secrets may be in files. A subclass with a secret must define the setting for its file,
    or its definition raises TypeError."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name in secrets_of(cls):
            if name + FILE not in cls.model_fields:
                raise TypeError(f"{cls.__name__}.{name} is a secret: it needs the setting {name}{FILE}")

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, given: Any) -> Any:
        values = dict(given)
        for name in secrets_of(cls):
            path = values.get(name + FILE)
            if path is None:
                continue
            file = named(cls, name + FILE)
            if values.get(name) is not None:
                raise ValueError(f"{named(cls, name)} and {file} set the same secret: use one of them")
            try:
                values[name] = read_secret(Path(path))
            except ValueError as error:
                raise ValueError(f"{file} {error}") from None
        return values

    @property
    def secret_files(self) -> dict[str, Path]:
        """Files that secrets were read from, by the setting's name."""
        files = {name: getattr(self, name + FILE) for name in secrets_of(type(self))}
        return {name: path for name, path in files.items() if path is not None}


def exposed_secret_files(settings: SecretSettings) -> Iterator[str]:
    """Yields a warning for each secret file that every user of this machine can read."""
    for name, path in settings.secret_files.items():
        if is_world_readable(path):
            yield f"every user of this machine can read {path}, set by {named(type(settings), name + FILE)}"


def is_world_readable(path: Path) -> bool:
    """Whether a regular file's mode lets every user read it."""
    mode = path.stat().st_mode
    return stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)


def from_file(environment: MutableMapping[str, str], name: str) -> None:
    """Sets the variable NAME to the content of the file that NAME_FILE names, if set. Raises ValueError.

    Removes NAME_FILE, so that child processes find only one of the two."""
    variable = name + FILE.upper()
    path = environment.get(variable)
    if path is None:
        return
    if environment.get(name):
        raise ValueError(f"{name} and {variable} set the same secret: use one of them")
    try:
        environment[name] = read_secret(Path(path))
    except ValueError as error:
        raise ValueError(f"{variable} {error}") from None
    del environment[variable]
