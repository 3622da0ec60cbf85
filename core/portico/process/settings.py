"""Reads settings from arguments and environment variables, with error messages that name both."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AfterValidator, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsError

# Messages by pydantic's error type; `{…}` is a value of the error's context.
_WORDS: Mapping[str, str] = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
}
_UNKNOWN = "has an invalid value"

_TCP = re.compile(r"(\[[\w:.%]+\]|[^:\[\]/\s]*):(\d{1,5})")
LAST_PORT = 65535

S = TypeVar("S", bound=BaseSettings)


class Misconfigured(ValueError):
    """A setting has an invalid value; the message names its option and its variable, and the valid values."""


def check_address(address: str) -> str:
    """Checks a host:port address and returns it. Raises ValueError."""
    found = _TCP.fullmatch(address)
    if found is None or int(found.group(2)) > LAST_PORT:
        raise ValueError(f"must be host:port, with a port up to {LAST_PORT}, not {address!r}")
    return address


def _check_file(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"names a file that can't be read: {path}: {error.strerror}") from None


ReadableFile = Annotated[Path, AfterValidator(_check_file)]


def flag(field: str) -> str:
    """The command-line option of a setting."""
    return f"--{field.replace('_', '-')}"


def read(settings: type[S], given: Mapping[str, Any], option: Callable[[str], str] = flag) -> S:
    """Reads settings from arguments, and from variables for settings without an argument.

    Args:
        settings: The class of the settings.
        given: Values of arguments by setting.
        option: Converts a setting's name to its option, for messages.

    Raises:
        Misconfigured: A value is invalid.
    """
    try:
        return settings(**given)
    except ValidationError as error:
        said = [
            _complaint(settings, one, option) for one in error.errors(include_url=False, include_input=False)
        ]
    except SettingsError:
        said = [
            f"{named(settings, field, option)} is a list and must be JSON, such as "
            f"""{orjson.dumps(["a", "b"]).decode()}"""
            for field in settings.model_fields
            if not _is_json(os.environ.get(variable(settings, field)))
            and settings.model_fields[field].annotation == list[str]
        ]
    raise Misconfigured("; ".join(dict.fromkeys(said)))


def variable(settings: type[BaseSettings], field: str) -> str:
    return f"{settings.model_config.get('env_prefix', '')}{field}".upper()


def named(settings: type[BaseSettings], field: str, option: Callable[[str], str] = flag) -> str:
    """Names a setting by option and variable; a secret has no option, because every user can read
    arguments."""
    if settings.model_fields[field].annotation == SecretStr | None:
        return variable(settings, field)
    return f"{option(field)} ({variable(settings, field)})"


def _complaint(settings: type[BaseSettings], error: ErrorDetails, option: Callable[[str], str]) -> str:
    words = _WORDS.get(error["type"], _UNKNOWN).format(**error.get("ctx", {}))
    field = str(error["loc"][0]) if error["loc"] else ""
    if field in settings.model_fields:
        return f"{named(settings, field, option)} {words}"
    return words  # an error about several settings; its message names them already


def _is_json(text: str | None) -> bool:
    try:
        return text is None or isinstance(orjson.loads(text), list)
    except orjson.JSONDecodeError:
        return False
