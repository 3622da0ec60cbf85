"""The client: one connection to a core, one attribute for each service."""

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
    """Talks to the core at a target: host:port, dns:///name:port, or unix:/path.

    The timeout, in seconds, bounds calls that return one response; streams last as
    long as they last. Metadata and credential (a bearer token) go with every call.
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
        """The same connection with other options for its calls: cheap, one for each caller if need be.

        Metadata is added to the client's own and replaces what has its name.
        """
        varied = Client.__new__(type(self))
        varied._use(self.calls.varied(credential, metadata, timeout))
        return varied

    def renew_tls(self, tls: grpc.ChannelCredentials | None) -> None:
        """Other credentials, as when a certificate was renewed, for calls that begin from now on, those of
        clients made by with_options too. Calls under way go on, until this is called once more."""
        self.calls.connection.renew(tls)

    async def healthy(self) -> bool:
        """Whether the core can be reached and serves."""
        health = health_pb2_grpc.HealthStub(self.calls.connection.channel)  # type: ignore[no-untyped-call]
        try:
            response = await self.calls.unary(health.Check, health_pb2.HealthCheckRequest())
        except (Unavailable, DeadlineExceeded):
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Ends the connection and all calls on it, those of clients made by with_options too."""
        await self.calls.connection.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
