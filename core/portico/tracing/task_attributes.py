"""What all that is traced in this task has in common."""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from portico.telemetry.log import log_ids

_NONE: Mapping[str, str] = MappingProxyType({})
_request_id: ContextVar[str] = ContextVar("portico traced request", default="")
_header: ContextVar[Mapping[str, str]] = ContextVar("portico trace header", default=_NONE)
_attributes: ContextVar[Mapping[str, str]] = ContextVar("portico trace attributes", default=_NONE)


class TracingUtil:
    """Set for the task that sets it, and for those that it starts."""

    @staticmethod
    def set_request_id(value: str = "") -> None:
        _request_id.set(value)

    @staticmethod
    def get_request_id(default_value: str = "") -> str:
        """As it was set, or else the id of the caller's request, or of the run."""
        return _request_id.get() or log_ids.request_id.get() or log_ids.run_id.get() or default_value

    @staticmethod
    def set_trace_header(trace_headers: Mapping[str, str]) -> None:
        """W3C headers of a trace that spans without another parent join."""
        _header.set(dict(trace_headers))

    @staticmethod
    def get_trace_header() -> Mapping[str, str]:
        return _header.get()

    @staticmethod
    def set_common_attributes(attributes: Mapping[str, str]) -> None:
        """Added to those that there are."""
        _attributes.set({**_attributes.get(), **attributes})

    @staticmethod
    def get_common_attributes() -> dict[str, str]:
        return dict(_attributes.get())

    @staticmethod
    def clear_common_attributes() -> None:
        _attributes.set({})
