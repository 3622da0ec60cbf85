"""The interceptor that finds out who calls, once for each call; and the same for each stream of a link."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import grpc
from grpc.aio import ServicerContext

from portico.core.auth.authenticator import Authenticator, bearer, credential_of, missing
from portico.core.errors import PorticoError
from portico.core.services.rpc import audit_log
from portico.core.services.rpc.client_address import Origins
from portico.core.services.rpc.current_principal import ANONYMOUS, call_as, check_scope
from portico.core.services.rpc.dispatch import abort, await_first, stop_sending
from portico.core.services.rpc.rate_limits import RateExceeded, Rates, tell
from portico.core.services.rpc.refusal_metrics import Refusals
from portico.core.services.rpc.trace_context import enter_request
from portico.model.identity import EVERYBODY, Principal

HEALTH = "/grpc.health.v1.Health/"
# What may come without a credential: a card is to be read before; a port's token is one; and a gateway's
# link has none, while what it carries has.
OPEN = frozenset(
    (
        "/portico.v1.AgentService/GetAgent",
        "/portico.v1.QueryService/Multiplex",
        "/portico.v1.SandboxService/ConnectPort",
    )
)
_UPLOADS = frozenset(("/portico.v1.SandboxService/WriteFile",))
MULTIPLEX = "/portico.v1.QueryService/Multiplex"


class StreamChecks(Protocol):
    """Finds out who asks for a stream of a link."""

    def at_once(self, metadata: Mapping[str, str]) -> Principal | None:
        """Who asks; None when `check` must find out. Raises Unauthenticated."""
        ...

    async def check(self, metadata: Mapping[str, str]) -> Principal:
        """Raises Unauthenticated, IssuerUnavailable."""
        ...

    def admit(self, who: Principal, method: str) -> bytes:
        """What the stream is to know of the limits on its caller's calls. Raises PermissionDenied,
        RateExceeded."""
        ...


class Unchecked(grpc.aio.ServerInterceptor):
    """Auth is off: the principal of every call, and of every stream of a link, is EVERYBODY."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        call_as(EVERYBODY)
        return await continuation(handler_call_details)

    def of_link(self, link: Principal) -> StreamChecks:
        return self

    def at_once(self, metadata: Mapping[str, str]) -> Principal | None:
        return EVERYBODY

    async def check(self, metadata: Mapping[str, str]) -> Principal:
        return EVERYBODY

    def admit(self, who: Principal, method: str) -> bytes:
        return b""


class Authentication(grpc.aio.ServerInterceptor):
    """Every call but those for health has a principal, or is refused."""

    def __init__(self, authenticator: Authenticator, rates: Rates, origins: Origins) -> None:
        self._authenticator = authenticator
        self._rates = rates
        self._origins = origins
        self._refusals = Refusals()

    def of_link(self, link: Principal) -> "StreamAuthentication":
        """The same for the streams of a link, whose own caller counts where they bring no credential."""
        return StreamAuthentication(self._authenticator, self._rates, self._refusals, link)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        method: str = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(HEALTH):
            return handler
        try:
            call_as(await self._principal(method, handler_call_details.invocation_metadata))
        except PorticoError as error:
            self._refusals.note(error)
            return self._refusal(handler, error, method)
        return handler

    async def _principal(self, method: str, metadata: Any) -> Principal:
        """Raises Unauthenticated, PermissionDenied, RateExceeded, IssuerUnavailable."""
        credential = credential_of(metadata)
        if not credential:
            if method in OPEN:
                return ANONYMOUS
            raise missing()
        who = await self._authenticator.check(credential)
        call_as(who)  # also where it is refused what it asks for
        if method != MULTIPLEX:
            try:
                tell(self._rates.count(who))
            except RateExceeded as error:
                tell(error.told)
                raise
            check_scope(who, method.rpartition("/")[2])
        return who

    def _refusal(
        self, handler: grpc.RpcMethodHandler, error: PorticoError, method: str
    ) -> grpc.RpcMethodHandler:
        def note(context: ServicerContext) -> None:
            self._origins.enter(context)
            enter_request(context.invocation_metadata())
            audit_log.note(method, None, code=error.code)

        async def unary(request: Any, context: ServicerContext) -> Any:
            note(context)
            await abort(context, error)

        async def stream(request: Any, context: ServicerContext) -> AsyncIterator[Any]:
            note(context)
            if method in _UPLOADS:
                await stop_sending(request, context)
            elif handler.request_streaming:
                await await_first(request)
            await abort(context, error)
            yield  # makes this a generator

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(stream)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


class StreamAuthentication:
    """The same for the streams of a link."""

    def __init__(
        self, authenticator: Authenticator, rates: Rates, refusals: Refusals, link: Principal
    ) -> None:
        self._authenticator = authenticator
        self._rates = rates
        self._refusals = refusals
        self._link = link

    def at_once(self, metadata: Mapping[str, str]) -> Principal | None:
        try:
            credential = bearer(metadata.get("authorization"))
            who = self._authenticator.at_once(credential) if credential else self._link
            if who is ANONYMOUS:
                raise missing()
            return who
        except PorticoError as error:
            self._refusals.note(error)
            raise

    async def check(self, metadata: Mapping[str, str]) -> Principal:
        try:
            return await self._authenticator.check(bearer(metadata.get("authorization")))
        except PorticoError as error:
            self._refusals.note(error)
            raise

    def admit(self, who: Principal, method: str) -> bytes:
        try:
            rate_limits = self._rates.count(who)
            check_scope(who, method)
            return rate_limits
        except PorticoError as error:
            self._refusals.note(error)
            raise
