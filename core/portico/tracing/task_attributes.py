"""Request id, trace headers and attributes for everything that is traced in the current task."""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from portico.telemetry.log import log_ids

_NONE: Mapping[str, str] = MappingProxyType({})
_request_id: ContextVar[str] = ContextVar("portico traced request", default="")
_header: ContextVar[Mapping[str, str]] = ContextVar("portico trace header", default=_NONE)
_attributes: ContextVar[Mapping[str, str]] = ContextVar("portico trace attributes", default=_NONE)


class TracingUtil:
    """Values for the current task and the tasks that it starts."""

    @staticmethod
    def set_request_id(value: str = "") -> None:
        _request_id.set(value)

    @staticmethod
    def get_request_id(default_value: str = "") -> str:
        """The id that was set, or else the id of the caller's request or of the run."""
        return _request_id.get() or log_ids.request_id.get() or log_ids.run_id.get() or default_value

    @staticmethod
    def set_trace_header(trace_headers: Mapping[str, str]) -> None:
        """Sets W3C headers of the trace to which spans without another parent belong."""
        _header.set(dict(trace_headers))

    @staticmethod
    def get_trace_header() -> Mapping[str, str]:
        return _header.get()

    @staticmethod
    def set_common_attributes(attributes: Mapping[str, str]) -> None:
        """Adds attributes to the existing ones."""
        _attributes.set({**_attributes.get(), **attributes})

    @staticmethod
    def get_common_attributes() -> dict[str, str]:
        return dict(_attributes.get())

    @staticmethod
    def clear_common_attributes() -> None:
        _attributes.set({})
