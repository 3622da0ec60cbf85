"""Authenticates callers: an interceptor for gRPC calls, and checks for the streams of a multiplexed call."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import grpc
from grpc.aio import ServicerContext

from portico.core.auth.authenticator import Authenticator, bearer, credential_of, missing
from portico.core.errors import DomainError
from portico.core.services.rpc import audit_log
from portico.core.services.rpc.client_address import ClientAddressResolver
from portico.core.services.rpc.current_principal import ANONYMOUS, bind_principal, check_scope
from portico.core.services.rpc.dispatch import abort, await_first, stop_sending
from portico.core.services.rpc.rate_limits import RateExceeded, RateLimiter, set_rate_limit_metadata
from portico.core.services.rpc.refusal_metrics import RefusalMetrics
from portico.core.services.rpc.trace_context import bind_request_context
from portico.model.identity import UNAUTHENTICATED_OPERATOR, Principal

HEALTH = "/grpc.health.v1.Health/"
# Methods that need no credential: clients read an agent's card before they have one; a port's access token is
# a credential itself; a gateway's multiplexed call has none, but its streams do.
UNAUTHENTICATED_METHODS = frozenset(
    (
        "/portico.v1.AgentService/GetAgent",
        "/portico.v1.QueryService/Multiplex",
        "/portico.v1.SandboxService/ConnectPort",
    )
)
_UPLOADS = frozenset(("/portico.v1.SandboxService/WriteFile",))
MULTIPLEX = "/portico.v1.QueryService/Multiplex"


class StreamAuthenticator(Protocol):
    """Authenticates the streams of a multiplexed call."""

    def at_once(self, metadata: Mapping[str, str]) -> Principal | None:
        """The principal, if it can be determined without waiting; None if `check` is needed. Raises
        Unauthenticated."""
        ...

    async def check(self, metadata: Mapping[str, str]) -> Principal:
        """The principal. Raises Unauthenticated, IssuerUnavailable."""
        ...

    def admit(self, who: Principal, method: str) -> bytes:
        """Checks scope and rate limits; returns an encoded RateLimits for the caller, empty without limits.
        Raises PermissionDenied, RateExceeded."""
        ...


class NoAuthentication(grpc.aio.ServerInterceptor):
    """Interceptor while auth is off: the principal of every call and stream is EVERYBODY."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        bind_principal(UNAUTHENTICATED_OPERATOR)
        return await continuation(handler_call_details)

    def for_connection(self, link: Principal) -> StreamAuthenticator:
        return self

    def at_once(self, metadata: Mapping[str, str]) -> Principal | None:
        return UNAUTHENTICATED_OPERATOR

    async def check(self, metadata: Mapping[str, str]) -> Principal:
        return UNAUTHENTICATED_OPERATOR

    def admit(self, who: Principal, method: str) -> bytes:
        return b""


class Authentication(grpc.aio.ServerInterceptor):
    """Interceptor while auth is on: every call gets a principal or is refused, except health checks."""

    def __init__(
        self, authenticator: Authenticator, rates: RateLimiter, origins: ClientAddressResolver
    ) -> None:
        self._authenticator = authenticator
        self._rates = rates
        self._origins = origins
        self._refusals = RefusalMetrics()

    def for_connection(self, link: Principal) -> "StreamAuthentication":
        """Checks for the streams of a multiplexed call; `link` is the call's principal, which a stream
        without a credential gets."""
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
            bind_principal(await self._principal(method, handler_call_details.invocation_metadata))
        except DomainError as error:
            self._refusals.note(error)
            return self._refusal(handler, error, method)
        return handler

    async def _principal(self, method: str, metadata: Any) -> Principal:
        """Authenticates and admits a call. Raises Unauthenticated, PermissionDenied, RateExceeded,
        IssuerUnavailable."""
        credential = credential_of(metadata)
        if not credential:
            if method in UNAUTHENTICATED_METHODS:
                return ANONYMOUS
            raise missing()
        who = await self._authenticator.check(credential)
        bind_principal(
            who
        )  # before the checks below, so that the audit names the caller of a refused call too
        if method != MULTIPLEX:
            try:
                set_rate_limit_metadata(self._rates.count(who))
            except RateExceeded as error:
                set_rate_limit_metadata(error.told)
                raise
            check_scope(who, method.rpartition("/")[2])
        return who

    def _refusal(
        self, handler: grpc.RpcMethodHandler, error: DomainError, method: str
    ) -> grpc.RpcMethodHandler:
        def note(context: ServicerContext) -> None:
            self._origins.enter(context)
            bind_request_context(context.invocation_metadata())
            audit_log.record_call(method, None, code=error.code)

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
    """StreamAuthenticator while auth is on."""

    def __init__(
        self, authenticator: Authenticator, rates: RateLimiter, refusals: RefusalMetrics, link: Principal
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
        except DomainError as error:
            self._refusals.note(error)
            raise

    async def check(self, metadata: Mapping[str, str]) -> Principal:
        try:
            return await self._authenticator.check(bearer(metadata.get("authorization")))
        except DomainError as error:
            self._refusals.note(error)
            raise

    def admit(self, who: Principal, method: str) -> bytes:
        try:
            rate_limits = self._rates.count(who)
            check_scope(who, method)
            return rate_limits
        except DomainError as error:
            self._refusals.note(error)
            raise
