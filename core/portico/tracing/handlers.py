"""The interface of a tracer's handlers, and the handler that writes to the process's log."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("portico.tracing")
Payload = Mapping[str, Any]


class TracerHandler(ABC):
    """Receives events in the thread or task of the traced work; must be fast."""

    @abstractmethod
    def on_start(self, event_name: str, payload: Payload, **kwargs: Any) -> None: ...

    @abstractmethod
    def on_end(
        self, event_name: str, start_payload: Payload, end_payload: Any, start_time: float, **kwargs: Any
    ) -> None: ...

    @abstractmethod
    def on_log(self, message: str, **kwargs: Any) -> None: ...

    @abstractmethod
    def on_error(
        self,
        event_name: str,
        start_payload: Payload,
        error: Exception,
        start_time: float,
        traceback_info: str,
        **kwargs: Any,
    ) -> None: ...


class BaseLogHandler(TracerHandler):
    """Writes events to the logger `portico.tracing`."""

    def on_start(self, event_name: str, payload: Payload, **kwargs: Any) -> None:
        log.info("%s begins: %s", event_name, payload)

    def on_end(
        self, event_name: str, start_payload: Payload, end_payload: Any, start_time: float, **kwargs: Any
    ) -> None:
        log.info("%s ends after %.3f s: %s", event_name, time.time() - start_time, end_payload)

    def on_log(self, message: str, **kwargs: Any) -> None:
        log.info("%s", message)

    def on_error(
        self,
        event_name: str,
        start_payload: Payload,
        error: Exception,
        start_time: float,
        traceback_info: str,
        **kwargs: Any,
    ) -> None:
        log.error("%s fails after %.3f s: %s", event_name, time.time() - start_time, traceback_info)
