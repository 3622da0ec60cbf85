"""The A2A gateway's application: agent cards, both HTTP bindings, the gRPC binding, and push
notifications.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, NoReturn

from a2a.utils.errors import A2AError, MethodNotFoundError
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from portico.gateways.a2a.agent_directory import AgentDirectory
from portico.gateways.a2a.bindings.agent_paths import agent_path_of
from portico.gateways.a2a.bindings.grpc_binding import GrpcBinding
from portico.gateways.a2a.bindings.http_bindings import HttpBindings
from portico.gateways.a2a.bindings.query_parameters import check_parameters
from portico.gateways.a2a.bindings.sse_rendering import RestEnvelope, refused
from portico.gateways.a2a.call_context import AGENT, SITE, http_caller
from portico.gateways.a2a.cards import CARD_PATH, Cards
from portico.gateways.a2a.errors import as_a2a
from portico.gateways.a2a.push.address_check import AddressCheck
from portico.gateways.a2a.push.delivery import Delivery
from portico.gateways.a2a.push.push_configs import Notifications
from portico.gateways.a2a.registration import Registration, announce
from portico.gateways.a2a.request_handler import A2aRequestHandler
from portico.gateways.a2a.settings import A2aSettings
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.rate_limit_headers import EXPOSED
from portico.gateways.http.sse_stream import StreamRegistry
from portico.process.server_certificate import ServerCertificate

log = logging.getLogger(__name__)


class A2aGateway:
    """The A2A gateway. Announces every agent's card to `registration`, if given."""

    name = "a2a"

    def __init__(self, settings: A2aSettings, registration: Registration | None = None) -> None:
        """Raises OSError or ValueError for an unusable key or file."""
        # The SDK logs a warning for every invalid request.
        logging.getLogger("a2a").setLevel(logging.ERROR)
        self.settings = settings
        self._registration = registration
        self._cards = Cards(settings)
        self._streams = StreamRegistry(settings.ping_seconds)
        self._tasks: set[asyncio.Task[None]] = set()
        self.grpc: GrpcBinding | None = None
        self._renewing: asyncio.Task[NoReturn] | None = None
        self._delivery: Delivery | None = None
        front: ASGIApp = self._front
        if settings.cors_origins:
            front = CORSMiddleware(
                front,
                allow_origins=settings.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["etag", *EXPOSED],
            )
        self._app = front

    def claims(self, path: str) -> bool:
        return agent_path_of(path) is not None

    def open(self, core: CoreConnection) -> None:
        """Starts the gRPC binding and the deliveries. Raises OSError when the gRPC address is in use."""
        settings = self.settings
        guard = AddressCheck(settings.push_allow)
        own = core.client
        if settings.credential is not None:
            own = own.with_options(credential=settings.credential.get_secret_value())
        self._agents = AgentDirectory(own)
        notifications = Notifications(core, guard, offered=settings.push)
        self._handler = A2aRequestHandler(core, self._agents, self._cards, notifications)
        self._bindings = HttpBindings(self._handler, self._streams, settings.max_body_bytes)
        if settings.grpc_listen:
            certificate = _server_certificate(settings)
            tls = None if certificate is None else certificate.credentials()
            self.grpc = GrpcBinding(self._handler, settings.grpc_listen, settings.max_body_bytes, tls)
            self._spawn(self.grpc.start())
            if certificate is not None:
                self._renewing = asyncio.create_task(certificate.follow(), name="certificates")
        if settings.push:
            self._delivery = Delivery(core, own, guard, settings)
            self._spawn(self._delivery.run())
        if self._registration is not None:
            self._spawn(announce(self._registration, self._agents, self._cards))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def stop(self) -> None:
        """Ends all streams; clients can follow their tasks on another gateway."""
        self._streams.stop()
        if self._delivery is not None:
            self._delivery.stop()
        if hasattr(self, "_handler"):
            self._handler.stop()
        if self._renewing is not None:
            self._renewing.cancel()
        if self.grpc is not None:
            self._spawn(self.grpc.stop())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task of the gateway failed", exc_info=task.exception())

    async def _front(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = agent_path_of(scope["path"])
        if scope["type"] != "http" or place is None:
            await Response(status_code=404)(scope, receive, send)
            return
        scope = {**scope, AGENT: place.agent_name, SITE: _site(scope)}
        if place.rest != CARD_PATH:
            await self._bindings(place.rest, scope, receive, send)
            return
        await (await self._card(scope))(scope, receive, send)

    async def _card(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return Response(status_code=405, headers={"allow": "GET, HEAD"})
        caller = http_caller(scope)
        try:
            check_parameters(scope["method"], CARD_PATH, scope["query_string"])
            agent = await self._agents.find(caller.agent_name)
            if agent is None:
                raise MethodNotFoundError(message="Unknown agent")
            card = self._cards.serve(agent, caller)
        except BadRequest as error:
            return refused(RestEnvelope(), error)
        except Exception as error:
            told: A2AError = as_a2a(error)
            return RestEnvelope().failure(told)
        headers = {"etag": card.etag, "cache-control": f"public, max-age={self.settings.card_max_age}"}
        known = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")
        tags = {tag.strip().removeprefix("W/") for tag in known.decode("latin-1").split(",")}
        if "*" in tags or card.etag.removeprefix("W/") in tags:
            return Response(None, 304, headers)
        return Response(card.body, 200, headers, "application/json")


def _server_certificate(settings: A2aSettings) -> ServerCertificate | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return ServerCertificate(settings.tls_cert, settings.tls_key)


def _site(scope: Scope) -> str:
    """Returns the site's URL as the caller addressed it."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return f"{scope['scheme']}://{host.decode('latin-1')}"
