"""A handler that writes JSON lines to files with size-based rotation."""

import logging
import logging.handlers
import os
import time
from collections.abc import Mapping
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import orjson

from portico.tracing.handlers import Payload, TracerHandler
from portico.tracing.task_attributes import TracingUtil


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """A file that only its owner may read, because it contains texts of agents and users."""

    def _open(self) -> TextIOWrapper:
        fd = os.open(self.baseFilename, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        return TextIOWrapper(open(fd, "ab"), self.encoding, line_buffering=True)


class LocalLogHandler(TracerHandler):
    """Writes all events to `info.log.PID` and failures to `error.log.PID`; `log_file_name` is their
    prefix."""

    def __init__(
        self,
        log_level: int = logging.INFO,
        log_file_name: str | None = None,
        log_dir: str | None = None,
        max_bytes: int = 1024 * 1024 * 1024,
        backup_count: int = 7,
        enable_console: bool = False,
    ) -> None:
        """Opens files of at most `max_bytes` each in `log_dir` (by default ./logs); keeps `backup_count`
        older ones.

        Raises OSError.
        """
        folder = Path("logs" if log_dir is None else log_dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = f"{log_file_name}-" if log_file_name else ""
        # Not a registered logger: another handler with other files must not receive these lines.
        self.logger = logging.Logger("portico.tracing.local", log_level)
        for name, level in (("info", logging.INFO), ("error", logging.ERROR)):
            path = folder / f"{before}{name}.log.{os.getpid()}"
            file = _PrivateFile(
                path, maxBytes=max_bytes, backupCount=backup_count, encoding="utf-8", delay=True
            )
            file.setLevel(level)
            self.logger.addHandler(file)
        if enable_console:
            self.logger.addHandler(logging.StreamHandler())

    def close(self) -> None:
        for handler in self.logger.handlers:
            handler.close()

    def on_start(self, event_name: str, payload: Payload, **kwargs: Any) -> None:
        self._write(logging.INFO, f"{event_name}_start", 0.0, payload)

    def on_end(
        self, event_name: str, start_payload: Payload, end_payload: Any, start_time: float, **kwargs: Any
    ) -> None:
        told = end_payload if isinstance(end_payload, Mapping) else {"output": end_payload}
        self._write(logging.INFO, f"{event_name}_end", time.time() - start_time, told)

    def on_log(self, message: str, **kwargs: Any) -> None:
        step, seconds, told = "", 0.0, {}
        if "step_suffix" in kwargs:
            step = f"{kwargs['event_name']}_{kwargs['step_suffix']}"
            seconds = time.time() - kwargs["start_time"]
            payload = kwargs.get("payload")
            told = dict(payload) if isinstance(payload, Mapping) else {"payload": payload}
        self._write(logging.INFO, step, seconds, told, message=message)

    def on_error(
        self,
        event_name: str,
        start_payload: Payload,
        error: Exception,
        start_time: float,
        traceback_info: str,
        **kwargs: Any,
    ) -> None:
        kind = type(error).__name__
        told = {**start_payload, "type": kind, "details": traceback_info}
        seconds = time.time() - start_time
        self._write(logging.ERROR, f"{event_name}_error", seconds, told, message=str(error), code=kind)

    def _write(self, level: int, step: str, seconds: float, told: Mapping[str, Any], **more: str) -> None:
        line = {
            "time": datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
            "step": step,
            "request_id": TracingUtil.get_request_id(),
            "context": told,
            "interval": {"type": step, "cost": f"{seconds:.3f}"},
            "message": "",
            **more,
        }
        self.logger.log(level, "%s", as_json(line))


def as_json(value: Any) -> str:
    """Encodes any value as JSON; values that JSON can't represent become text."""
    try:
        return orjson.dumps(value, default=_told, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(repr(value).encode(errors="replace").decode()).decode()


def _told(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, set | frozenset):
        return list(value)
    return str(value)
