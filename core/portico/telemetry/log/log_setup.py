"""Log output for people or as JSON; each line has the ids of its request, run and trace, and no secrets.

Unless --log-content is set, texts of callers and agents are left out too: exceptions are logged without their
messages, which often contain such texts.
"""

import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson
from opentelemetry import trace

from portico.telemetry.log import log_ids, standard_error
from portico.telemetry.log.retry_log import RetryLog
from portico.telemetry.log.terminal_text import escape_control_characters

Format = Literal["human", "json"]
Level = Literal["debug", "info", "warning", "error"]

HIDDEN = "***"
WITHHELD = "(message withheld; --log-content shows it)"
# Credentials, recognised by the text before them or by their form.
_SECRETS = re.compile(
    r"""((?:bearer|basic)\s+ | (?:api[_-]?key|authorization|token|password|passwd|secret)["']?\s*[=:]\s*["']?
        (?!(?:bearer|basic)\s) | ://[^\s/:@]*:(?=[^\s/@]+@))
        [^\s"',;&@)]+
      | \b(?:sk|pk|ghp|xox[bp])[-_][A-Za-z0-9_.-]{16,} | \beyJ[\w-]+\.[\w-]+\.[\w-]*""",
    re.IGNORECASE | re.VERBOSE,
)
# Loggers that log every request, or their own operation.
_CHATTY = ("alembic", "httpcore", "httpx", "mcp")
# OpenTelemetry's exporters log each failed attempt to reach a collector.
_TRYING_AGAIN = "opentelemetry."


def configure(
    *, level: Level, format: Format, content: bool, service: str, stream: TextIO | None = None
) -> None:
    """Configures the log of this process on standard error. As JSON, this includes everything else that the
    process writes there."""
    if stream is None:
        stream = standard_error.redirect_to_log() if format == "json" else sys.stderr
    handler = _Handler(stream)
    handler.setFormatter(
        JsonFormatter(service, content=content) if format == "json" else HumanFormatter(content=content)
    )
    handler.addFilter(_Attempts())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)


def wants_json(arguments: Sequence[str], variable: str) -> bool:
    """Whether to log as JSON, for a process that has not read its settings yet."""
    for number, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--log-format":
            return (value or "".join(arguments[number + 1 : number + 2])) == "json"
    return os.environ.get(variable) == "json"


def without_secrets(text: str) -> str:
    """Replaces text that looks like a credential."""
    return _SECRETS.sub(lambda found: f"{found.group(1) or ''}{HIDDEN}", text)


def known_ids() -> dict[str, str]:
    """Ids of the current request, run, trace and span, as far as known."""
    found = {"request_id": log_ids.request_id.get(), "run_id": log_ids.run_id.get()}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        found["trace_id"] = trace.format_trace_id(span.trace_id)
        found["span_id"] = trace.format_span_id(span.span_id)
    return {name: value for name, value in found.items() if value}


class _Handler(logging.StreamHandler[TextIO]):
    """Logs an error for a record that can't be formatted; a failed write can't be reported."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if record.name == __name__ or not isinstance(error, TypeError | ValueError | KeyError):
            return
        about = logging.LogRecord(
            *(__name__, logging.ERROR, record.pathname, record.lineno),
            *("a record of the logger %s can't be formatted", (record.name,), (type(error), error, None)),
        )
        self.handle(about)


class _Attempts(logging.Filter):
    """Reduces the lines of a logger that logs each of its attempts."""

    def __init__(self) -> None:
        super().__init__()
        self._loggers: dict[str, RetryLog] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_TRYING_AGAIN):
            return True
        return self._loggers.setdefault(record.name, RetryLog()).due()


class _Formatter(logging.Formatter):
    def __init__(self, *, content: bool) -> None:
        super().__init__()
        self._content = content

    def _exception(self, record: logging.LogRecord) -> str:
        if not record.exc_info or record.exc_info[1] is None:
            return ""
        error = record.exc_info[1]
        told = traceback.TracebackException.from_exception(error, compact=True)
        if not self._content and not getattr(record, log_ids.WITH_WORDS, False):
            _withhold(told)
        return without_secrets("".join(told.format()).rstrip())


class HumanFormatter(_Formatter):
    """One line per record, with its exception below; without control characters, which a terminal would
    execute."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        about = "".join(f" {name}={value}" for name, value in known_ids().items() if name != "span_id")
        line = f"{at} {record.levelname} {record.name} {without_secrets(record.getMessage())}{about}"
        exception = self._exception(record)
        return escape_control_characters(f"{line}\n{exception}" if exception else line)


class JsonFormatter(_Formatter):
    """One JSON object per line."""

    def __init__(self, service: str, *, content: bool) -> None:
        super().__init__(content=content)
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            **known_ids(),
        }
        if exception := self._exception(record):
            told["exception"] = exception
        # Characters that JSON can't encode (lone surrogates) become question marks.
        safe = {name: value.encode(errors="replace").decode() for name, value in told.items()}
        return orjson.dumps(safe).decode()


def _withhold(told: traceback.TracebackException) -> None:
    """Removes the messages of an exception and its causes; types and tracebacks stay."""
    seen: list[traceback.TracebackException | None] = [told]
    while seen:
        one = seen.pop()
        if one is not None:
            one._str = WITHHELD  # type: ignore[attr-defined]
            one.__notes__ = None
            seen += [one.__cause__, one.__context__, *(one.exceptions or ())]
