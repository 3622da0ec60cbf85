"""Python client of Portico: runs agents, follows runs, and manages sessions, states, memories and
sandboxes.
"""

from portico.client.client import Client
from portico.client.convert import JsonText, user_message
from portico.client.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    ClosedEarly,
    CursorAhead,
    CursorExpired,
    DeadlineExceeded,
    EtagMismatch,
    FailedPrecondition,
    HandshakeFailed,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    PorticoError,
    ProtocolError,
    ResourceExhausted,
    RunFailed,
    SessionBusy,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from portico.client.multiplexed_stream import MultiplexedStream
from portico.client.multiplexer import Multiplexer
from portico.client.paging import Listing
from portico.client.rate_limits import RateLimit, observing
from portico.client.run_request import QueryOptions, query_request
from portico.client.streams.run_stream import RunStream
from portico.client.sync.sync_client import SyncClient

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "Client",
    "ClosedEarly",
    "CursorAhead",
    "CursorExpired",
    "DeadlineExceeded",
    "EtagMismatch",
    "FailedPrecondition",
    "HandshakeFailed",
    "Internal",
    "InvalidArgument",
    "JsonText",
    "Listing",
    "MultiplexedStream",
    "Multiplexer",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "PorticoError",
    "ProtocolError",
    "QueryOptions",
    "RateLimit",
    "ResourceExhausted",
    "RunFailed",
    "RunStream",
    "SessionBusy",
    "SyncClient",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "observing",
    "query_request",
    "user_message",
]
