"""The Python client of Portico: run agents, follow runs, keep sessions, states and memories."""

import os

# Before gRPC is imported, if this comes first: a message is then taken off the wire by the thread that waits
# for it, and not handed from one thread to the next, which takes 0.1 ms of each round trip.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

from portico.client.client import Client
from portico.client.convert import JsonText, user_message
from portico.client.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    CursorAhead,
    CursorExpired,
    DeadlineExceeded,
    EtagMismatch,
    FailedPrecondition,
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
from portico.client.multiplex import Multiplexer
from portico.client.mux_stream import MuxStream
from portico.client.paging import Listing
from portico.client.query import QueryOptions, query_request
from portico.client.run_stream import RunStream
from portico.client.sync import SyncClient

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "Client",
    "CursorAhead",
    "CursorExpired",
    "DeadlineExceeded",
    "EtagMismatch",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "JsonText",
    "Listing",
    "Multiplexer",
    "MuxStream",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "PorticoError",
    "ProtocolError",
    "QueryOptions",
    "ResourceExhausted",
    "RunFailed",
    "RunStream",
    "SessionBusy",
    "SyncClient",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "query_request",
    "user_message",
]
