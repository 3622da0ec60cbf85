"""The asyncio client: one connection to a core, with one attribute for each service."""

from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from portico.client.connection import Calls, Connection
from portico.client.errors import DeadlineExceeded, Unavailable
from portico.client.sandboxes.sandboxes import Sandboxes
from portico.client.services.agents import Agents
from portico.client.services.identity import Identity
from portico.client.services.memories import Memories
from portico.client.services.pushes import Pushes
from portico.client.services.runs import Runs
from portico.client.services.sessions import Sessions
from portico.client.services.states import States


class Client:
    """Connects to a core at a target: host:port, dns:///name:port, or unix:/path.

    The timeout, in seconds, bounds calls that return one response. Streams have no time limit. The
    metadata and the credential (a bearer token) go with every call.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        credential: str | None = None,
        metadata: Mapping[str, str | bytes] | None = None,
        timeout: float = 30.0,
        tls: grpc.ChannelCredentials | None = None,
    ) -> None:
        calls = Calls(Connection(target, tls), given=(), timeout=timeout)
        self._use(calls.varied(credential, metadata, None))

    def _use(self, calls: Calls) -> None:
        self.calls = calls
        self.agents = Agents(calls)
        self.identity = Identity(calls)
        self.memories = Memories(calls)
        self.pushes = Pushes(calls)
        self.runs = Runs(calls)
        self.sandboxes = Sandboxes(calls)
        self.sessions = Sessions(calls)
        self.states = States(calls)

    def with_options(
        self,
        *,
        credential: str | None = None,
        metadata: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> "Client":
        """Returns a client that shares this connection and uses other options for its calls.

        It is cheap: a gateway can make one for each caller. The metadata is added to the client's own
        and replaces entries of the same name.
        """
        varied = Client.__new__(type(self))
        varied._use(self.calls.varied(credential, metadata, timeout))
        return varied

    def renew_tls(self, tls: grpc.ChannelCredentials | None) -> None:
        """Replaces the TLS credentials, for example after a certificate was renewed.

        Calls that begin later use the new credentials, calls of clients made by with_options included.
        Calls that are under way continue until the next renewal.
        """
        self.calls.connection.renew(tls)

    async def healthy(self) -> bool:
        """Returns whether the core is reachable and serves."""
        health = health_pb2_grpc.HealthStub(self.calls.connection.channel)  # type: ignore[no-untyped-call]
        try:
            response = await self.calls.unary(health.Check, health_pb2.HealthCheckRequest())
        except (Unavailable, DeadlineExceeded):
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Closes the connection and ends all calls on it, calls of clients made by with_options included."""
        await self.calls.connection.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
