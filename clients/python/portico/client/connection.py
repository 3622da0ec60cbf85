"""The channel to a core, and the options that all calls on it share."""

import asyncio
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import grpc
import grpc.aio

from portico.client import rate_limits
from portico.client.errors import typed_errors
from portico.client.trace_context import Metadata, in_trace
from portico.v1 import (
    agent_pb2_grpc,
    identity_pb2_grpc,
    memory_pb2_grpc,
    push_pb2_grpc,
    query_pb2_grpc,
    sandbox_pb2_grpc,
    session_pb2_grpc,
    state_pb2_grpc,
)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# Larger than the metadata of an HTTP request may be. Between gRPC's soft and hard limits calls fail at
# random.
METADATA_BYTES = 128 * 1024
# Less than the span of a call's retries (at least 2 s), so that the last attempt finds a restarted core.
_MAX_RECONNECT_DELAY_MS = 1_000

# Calls that may be repeated: reads, and StartRun because its request always has an idempotency key.
_RETRIED = {
    "AgentService": ("ListAgents", "GetAgent"),
    "IdentityService": ("GetCaller", "ListKeys", "RevokeKey"),
    "MemoryService": ("GetMemory", "SearchMemories", "ListMemories"),
    "PushService": ("GetPushConfig", "ListPushConfigs", "DeletePushConfig", "AckPush"),
    "QueryService": ("StartRun", "GetRun", "ListRuns"),
    "SandboxService": (
        *("GetSandbox", "ListSandboxes", "TouchSandbox", "GetSandboxMetrics", "ListProcesses"),
        *("ListSnapshots", "ListTools", "StatFile", "ListDirectory", "SearchFiles"),
    ),
    "SessionService": ("GetSession", "ListSessions", "ListMessages", "SearchSessions"),
    "StateService": ("GetState", "ListStates"),
}
_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [
                    {"service": f"portico.v1.{service}", "method": method}
                    for service, methods in _RETRIED.items()
                    for method in methods
                ],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2.5,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    # A core restarts within seconds; gRPC's own maximum backoff is two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", _MAX_RECONNECT_DELAY_MS),
    ("grpc.service_config", _SERVICE_CONFIG),
)

_RequestT = TypeVar("_RequestT")
_ResponseT = TypeVar("_ResponseT")


def _is_loopback(target: str) -> bool:
    """Returns whether the target is an address of this machine, which needs no proxy."""
    host = target.rpartition("/")[2].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Connection:
    """One channel and its stubs, created on first use because a channel belongs to the event loop that
    creates it.
    """

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        self._target = target
        self._credentials = credentials
        self._replaced: list[grpc.aio.Channel] = []
        self._closing: asyncio.Task[None] | None = None

    @property
    def secure(self) -> bool:
        """Whether the channel uses TLS."""
        return self._credentials is not None

    def renew(self, credentials: grpc.ChannelCredentials | None) -> None:
        """Replaces the TLS credentials for calls that begin later.

        Calls under way stay on the old channel until the next renewal.
        """
        self._credentials = credentials
        if "channel" in self.__dict__:
            self._replaced.append(self.channel)
        if len(self._replaced) > 1:
            self._closing = asyncio.create_task(self._replaced.pop(0).close())
        for made in [name for name in self.__dict__ if not name.startswith("_")]:
            del self.__dict__[made]

    @cached_property
    def channel(self) -> grpc.aio.Channel:
        options = [*_OPTIONS, ("grpc.enable_http_proxy", 0)] if _is_loopback(self._target) else _OPTIONS
        if self._credentials is not None:
            return grpc.aio.secure_channel(self._target, self._credentials, options=options)
        return grpc.aio.insecure_channel(self._target, options=options)

    @cached_property
    def agents(self) -> "agent_pb2_grpc.AgentServiceAsyncStub":
        return agent_pb2_grpc.AgentServiceStub(self.channel)

    @cached_property
    def identity(self) -> "identity_pb2_grpc.IdentityServiceAsyncStub":
        return identity_pb2_grpc.IdentityServiceStub(self.channel)

    @cached_property
    def memories(self) -> "memory_pb2_grpc.MemoryServiceAsyncStub":
        return memory_pb2_grpc.MemoryServiceStub(self.channel)

    @cached_property
    def pushes(self) -> "push_pb2_grpc.PushServiceAsyncStub":
        return push_pb2_grpc.PushServiceStub(self.channel)

    @cached_property
    def runs(self) -> "query_pb2_grpc.QueryServiceAsyncStub":
        return query_pb2_grpc.QueryServiceStub(self.channel)

    @cached_property
    def sandboxes(self) -> "sandbox_pb2_grpc.SandboxServiceAsyncStub":
        return sandbox_pb2_grpc.SandboxServiceStub(self.channel)

    @cached_property
    def sessions(self) -> "session_pb2_grpc.SessionServiceAsyncStub":
        return session_pb2_grpc.SessionServiceStub(self.channel)

    @cached_property
    def states(self) -> "state_pb2_grpc.StateServiceAsyncStub":
        return state_pb2_grpc.StateServiceStub(self.channel)

    async def close(self) -> None:
        """Closes the channel and ends all calls. Does nothing if no call was made."""
        for channel in (*self._replaced, self.channel):
            await channel.close()


# The timeout of calls that delete any number of items. The core deletes in steps and reverts none, so the
# next call deletes what a call that ended early left.
DELETE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Calls:
    """The options of calls: the connection, the metadata and the timeout in seconds."""

    connection: Connection
    given: Metadata
    timeout: float

    @property
    def metadata(self) -> Metadata:
        """Returns the metadata for a call that starts now."""
        return in_trace(self.given)

    def varied(
        self, credential: str | None, metadata: Mapping[str, str | bytes] | None, timeout: float | None
    ) -> "Calls":
        """Returns a copy with other options; metadata is added and replaces entries of the same name."""
        given = {key.lower(): value for key, value in (metadata or {}).items()}
        if credential is not None:
            given["authorization"] = f"Bearer {credential}"
        return replace(
            self,
            given=tuple({**dict(self.given), **given}.items()),
            timeout=self.timeout if timeout is None else timeout,
        )

    def deleting(self, timeout: float | None) -> "Calls":
        """Returns a copy for calls that may delete many items: with this timeout, or at least
        DELETE_SECONDS.
        """
        return replace(self, timeout=max(self.timeout, DELETE_SECONDS) if timeout is None else timeout)

    async def unary(
        self, method: "grpc.aio.UnaryUnaryMultiCallable[_RequestT, _ResponseT]", request: _RequestT
    ) -> _ResponseT:
        """Makes a call with one request and one response, within the timeout. Raises PorticoError."""
        with typed_errors():
            call = method(request, metadata=self.metadata, timeout=self.timeout)
            response = await call
            if (told := rate_limits.observer()) is not None:
                rate_limits.from_metadata(await call.trailing_metadata(), told)
            return response
