"""CoreServer: builds stores, agents, run engine and services, serves them, and stops them in order."""

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import grpc
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from pydantic import SecretStr

from portico.agent import AgentApp, Budget
from portico.core.auth.api_keys import ApiKeyRegistry
from portico.core.auth.authenticator import Authenticator
from portico.core.convert.events import ProtoEncoder
from portico.core.errors import FencedOut
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.hosts.worker.worker_host import make_host
from portico.core.hosts.worker.worker_process import process_starter
from portico.core.lifecycle.forget_user import UserEraser
from portico.core.lifecycle.retention import Retention, RetentionTtls
from portico.core.lifecycle.search_indexing import SearchIndexer
from portico.core.runs.run_engine import EngineLimits, RunEngine
from portico.core.runs.scheduler import RunLimits
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.sandboxes.sandbox_policy import SandboxPolicy
from portico.core.server.private_paths import private_paths
from portico.core.server.server_tls import server_certificate
from portico.core.services.agent import AgentService
from portico.core.services.identity import IdentityService
from portico.core.services.memory import MemoryService
from portico.core.services.multiplex import METHOD as MULTIPLEX
from portico.core.services.push import PushService
from portico.core.services.query import QueryService
from portico.core.services.rpc.authentication import Authentication, NoAuthentication
from portico.core.services.rpc.client_address import ClientAddressResolver
from portico.core.services.rpc.dispatch import handlers
from portico.core.services.rpc.drain import Drain
from portico.core.services.rpc.rate_limits import RateLimiter
from portico.core.services.sandbox.sandbox_service import SandboxService
from portico.core.services.session import SessionService
from portico.core.services.state import StateService
from portico.core.services.store_health_watch import StoreHealthWatch
from portico.core.settings.core_settings import CoreSettings
from portico.core.stores.encrypted_push_configs import with_encryption
from portico.core.stores.encryption import EncryptionKeys
from portico.core.stores.open_stores import open_stores
from portico.core.stores.quota_stores import with_quota
from portico.process.listen_address import ABSTRACT_UNIX_PREFIX, UNIX_PREFIXES, address_error
from portico.sandbox.manager.quotas import SandboxQuota
from portico.sandbox.spec import Limits as SandboxLimits
from portico.sandbox.spec import NetworkBounds
from portico.telemetry.metrics.loop_watch import LoopWatch
from portico.telemetry.tracing.rpc_telemetry import RpcTelemetry, TelemetryInterceptor
from portico.v1 import (
    agent_pb2,
    identity_pb2,
    memory_pb2,
    push_pb2,
    query_pb2,
    sandbox_pb2,
    session_pb2,
    state_pb2,
)

log = logging.getLogger(__name__)

FILES: Sequence[FileDescriptor] = tuple(
    module.DESCRIPTOR
    for module in (
        query_pb2,
        agent_pb2,
        state_pb2,
        session_pb2,
        memory_pb2,
        push_pb2,
        sandbox_pb2,
        identity_pb2,
    )
)
# Largest metadata of a call. Both of gRPC's limits have this value: between them calls fail at random.
METADATA_BYTES = 128 * 1024


class CoreServer:
    """A core that serves gRPC between `start` and `stop`.

    Args:
        apps: The agents to serve.
        settings: The operator's settings.
    """

    def __init__(self, apps: Sequence[AgentApp], settings: CoreSettings) -> None:
        self._settings = settings
        self._words = ErrorDisclosure(settings.error_readers)
        self._host = make_host(apps, process_starter(*_worker_log_options(settings)), self._words)
        self._drain = Drain()
        abstract = any(address.startswith(ABSTRACT_UNIX_PREFIX) for address in settings.listen)
        self._origins = ClientAddressResolver(settings.gateway_names, private_sockets=not abstract)
        self._health = HealthServicer()
        self._sandboxes = CoreSandboxes(_sandbox_policy(settings))
        self._renewing: asyncio.Task[NoReturn] | None = None
        self.ports: list[int] = []

    async def start(self) -> None:
        """Opens the stores, recovers unfinished runs, then serves.

        Raises:
            OSError: The core can't listen on an address.
            ValueError: A setting can't be used.
            AgentStartFailed: An agent's init function failed.
            StoreUnavailable: The store can't be opened.
        """
        self._loop_watch = LoopWatch()
        self._loop_watch.start()
        try:
            await self._start()
        except BaseException:
            self._loop_watch.stop()
            raise

    async def _start(self) -> None:
        settings = self._settings
        keys = _keyring(settings)
        self._stores = with_quota(
            await open_stores(settings.store, migration_copy=settings.migration_copy),
            per_tenant=settings.tenant_stored_bytes,
            per_user=settings.user_stored_bytes,
        )
        try:
            self._stores = replace(self._stores, pushes=await with_encryption(self._stores.pushes, keys))
            self._keys = ApiKeyRegistry(self._stores.keys, _secret_value(settings.admin_key))
            await self._keys.load()
            self._authentication = self._checking()
            limits = EngineLimits(
                settings.live_runs,
                settings.reader_grace_seconds,
                ephemeral_seconds=settings.ephemeral_seconds,
                runs=RunLimits(
                    settings.running_runs,
                    settings.tenant_running_runs,
                    settings.user_running_runs,
                    settings.tenant_queued_runs,
                    settings.user_queued_runs,
                ),
                budget=Budget(
                    settings.run_wall_seconds,
                    settings.run_tool_calls,
                    settings.run_tokens,
                    settings.run_child_runs,
                ),
            )
            self._engine = RunEngine(
                self._host, self._stores, ProtoEncoder(), limits, self._sandboxes, self._words
            )
            self._retention = Retention(self._engine, self._stores, _retention_ttls(settings))
            self._indexing = SearchIndexer(self._engine, self._stores.sessions)
            self._tls = server_certificate(settings)
            self._server = self._build()
            self.ports = [self._bind(address) for address in settings.listen]
            await self._sandboxes.start()
            await self._take_up()
            await self._pushes.load()
            await self._server.start()
        except BaseException:
            await self._sandboxes.close()
            await self._stores.close()
            raise
        self._retention.start()
        self._learning = asyncio.create_task(self._learn(), name="count stored bytes")
        self._indexing.start()
        if self._tls is not None:
            self._renewing = asyncio.create_task(self._tls.follow(), name="certificates")
        self._watch = StoreHealthWatch(self._health, self._service_names(), self._engine, self._stores.health)
        await self._watch.start()

    async def _take_up(self) -> None:
        """Starts the engine, which recovers unfinished runs. Raises FencedOut if another core takes over the
        database meanwhile: this one could then not write how those runs ended."""
        starting = asyncio.create_task(self._engine.start())
        watching = asyncio.create_task(self._stores.taken_over())
        try:
            await asyncio.wait({starting, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                raise FencedOut
        finally:
            watching.cancel()
            if not starting.done():
                starting.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await starting

    async def wait_taken_over(self) -> None:
        """Returns when another core has taken over the database; this core must stop then."""
        await self._stores.taken_over()

    async def stop(self) -> None:
        """Drains and stops: refuses new runs, waits up to `drain_seconds` for live ones, then interrupts the
        streams, which clients can resume. A fenced-out core does not wait: it can't write the log."""
        try:
            await self._stop()
        finally:
            self._loop_watch.stop()

    async def _stop(self) -> None:
        await self._watch.stop()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self._health.enter_graceful_shutdown()
        if not self._stores.lost.is_set():
            try:
                await asyncio.wait_for(self._engine.wait_drained(), self._settings.drain_seconds)
            except TimeoutError:
                log.warning("runs are still live after the drain time; the next start recovers them")
        self._drain.interrupt_all()
        await self._retention.stop()
        await self._engine.stop()
        await self._server.stop(1.0)
        await self._sandboxes.close()
        self._learning.cancel()
        await asyncio.gather(self._learning, return_exceptions=True)
        await self._indexing.stop()
        await self._stores.close()

    def _build(self) -> grpc.aio.Server:
        settings = self._settings
        calls = RpcTelemetry()
        milliseconds = int(settings.keepalive_seconds * 1000)
        server = grpc.aio.server(
            interceptors=self._interceptors(calls),
            maximum_concurrent_rpcs=settings.concurrent_rpcs,
            options=[
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
                ("grpc.max_metadata_size", METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", METADATA_BYTES),
                ("grpc.keepalive_time_ms", milliseconds),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.so_reuseport", 0),  # with it, two cores could share a port, each with half of the runs
            ],
        )
        self._pushes = PushService(self._engine, self._stores.runs, self._stores.pushes, self._drain)
        services = {
            "QueryService": QueryService(
                self._engine, self._stores.runs, self._drain, self._authentication, calls
            ),
            "AgentService": AgentService(self._host, needs_credential=settings.auth),
            "StateService": StateService(self._stores.states),
            "SessionService": SessionService(self._stores.sessions, self._sandboxes),
            "MemoryService": MemoryService(self._stores.memories),
            "SandboxService": SandboxService(self._sandboxes),
            "IdentityService": IdentityService(
                self._keys, UserEraser(self._engine, self._stores, self._sandboxes)
            ),
            "PushService": self._pushes,
        }
        described = [service for file in FILES for service in file.services_by_name.values()]
        server.add_generic_rpc_handlers(
            handlers(
                [(service, services.get(service.name)) for service in described],
                self._origins,
                settings.max_message_bytes,
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)  # type: ignore[no-untyped-call]
        if settings.reflection:
            names = [*self._service_names(), health.SERVICE_NAME, reflection.SERVICE_NAME]
            known = [name for name in names if name]
            reflection.enable_server_reflection(known, server)  # type: ignore[no-untyped-call]
        return server

    def _checking(self) -> Authentication | NoAuthentication:
        """The authentication interceptor. Raises ValueError when auth is on without any valid credential."""
        settings = self._settings
        if not settings.auth:
            return NoAuthentication()
        tokens = None
        if settings.jwt_issuer:
            # Imported here: it takes long to import, and only cores with JWTs need it.
            from portico.core.auth.jwt_verifier import JwtIssuer, JwtVerifier

            issuer = JwtIssuer(
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                jwks_url=settings.jwt_jwks_url,
                tenant_claim=settings.jwt_tenant_claim,
                user_claim=settings.jwt_user_claim,
                scopes_claim=settings.jwt_scope_claim,
                leeway_seconds=settings.jwt_leeway_seconds,
                keys_seconds=settings.jwt_keys_seconds,
            )
            tokens = JwtVerifier(issuer)
        elif self._keys.none:
            raise ValueError(
                "auth is on and no credential can be valid: set PORTICO_CORE_ADMIN_KEY or --admin-key-file, "
                "then create keys with `portico keys`; or set the --jwt-... options"
            )
        rates = RateLimiter(settings.tenant_requests, settings.user_requests)
        return Authentication(Authenticator(self._keys, tokens), rates, self._origins)

    def _interceptors(self, calls: RpcTelemetry) -> list[grpc.aio.ServerInterceptor]:
        interceptors: list[grpc.aio.ServerInterceptor] = []
        if calls.seen:
            # First in the list: it must see the calls that authentication refuses.
            interceptors.append(TelemetryInterceptor(calls, "/portico.", (MULTIPLEX,)))
        interceptors.append(self._authentication)
        return interceptors

    def _bind(self, address: str) -> int:
        # Only its owner may use a Unix socket, from its creation on. The umask also affects files that other
        # threads create meanwhile.
        before = os.umask(0o077)
        tls = None if address.startswith(UNIX_PREFIXES) else self._tls
        try:
            if tls is not None:
                return self._server.add_secure_port(address, tls.credentials())
            return self._server.add_insecure_port(address)
        except RuntimeError:
            why = address_error(address)
            if tls is not None and not why:
                raise ValueError(f"{self._settings.tls_cert}: gRPC can't use this certificate") from None
            raise OSError(f"can't listen on {address}: {why or 'it was in use'}") from None
        finally:
            os.umask(before)

    @property
    def addresses(self) -> list[str]:
        """Addresses that it serves on, with the actual port where port 0 was configured."""
        return [
            address if address.startswith(UNIX_PREFIXES) else f"{address.rpartition(':')[0]}:{port}"
            for address, port in zip(self._settings.listen, self.ports, strict=True)
        ]

    def _service_names(self) -> list[str]:
        """Full names of all services, and the empty name, which means the whole server."""
        return ["", *(service.full_name for file in FILES for service in file.services_by_name.values())]

    async def _learn(self) -> None:
        if self._stores.quota is not None:
            await self._stores.quota.warm_up()


def _worker_log_options(settings: CoreSettings) -> list[str]:
    """Options for workers, so that they log as the core does."""
    options = ["--log-level", settings.log_level, "--log-format", settings.log_format]
    options += ["--error-words", settings.error_readers]
    return [*options, "--log-content"] if settings.log_content else options


def _keyring(settings: CoreSettings) -> EncryptionKeys | None:
    """The keys that encrypt stored secrets. Raises ValueError for a malformed key."""
    if settings.store_key is None:
        return None
    try:
        return EncryptionKeys(settings.store_key.get_secret_value())
    except ValueError as error:
        raise ValueError(f"the store's key {error}") from None


def _secret_value(value: SecretStr | None) -> str:
    return "" if value is None else value.get_secret_value()


def _retention_ttls(settings: CoreSettings) -> RetentionTtls:
    return RetentionTtls(
        runs=settings.run_ttl_seconds,
        sessions=settings.session_ttl_seconds,
        states=settings.state_ttl_seconds,
        memories=settings.memory_ttl_seconds,
    )


def _sandbox_policy(settings: CoreSettings) -> SandboxPolicy:
    return SandboxPolicy(
        backend=settings.sandbox_backend,
        more_backends=tuple(settings.sandbox_backends),
        total=SandboxQuota(settings.sandbox_max, settings.sandbox_snapshots, settings.sandbox_snapshot_bytes),
        per_user=SandboxQuota(
            settings.sandbox_per_user,
            settings.sandbox_snapshots_per_user,
            settings.sandbox_snapshot_bytes_per_user,
        ),
        per_tenant=SandboxQuota(
            settings.sandbox_per_tenant,
            settings.sandbox_snapshots_per_tenant,
            settings.sandbox_snapshot_bytes_per_tenant,
        ),
        limits=SandboxLimits(
            memory_bytes=settings.sandbox_memory_bytes,
            cpus=settings.sandbox_cpus,
            processes=settings.sandbox_processes,
            disk_bytes=settings.sandbox_disk_bytes,
            inodes=settings.sandbox_inodes,
            output_bytes=settings.sandbox_output_bytes,
            call_seconds=settings.sandbox_call_seconds,
        ),
        ttl_seconds=settings.sandbox_ttl_seconds,
        idle_seconds=settings.sandbox_idle_seconds,
        idle_action=settings.sandbox_idle_action,
        mounts=tuple(settings.sandbox_mounts),
        private=private_paths(settings),
        network=settings.sandbox_network,
        network_bounds=NetworkBounds(
            hosts=tuple(settings.sandbox_network_hosts),
            deny=tuple(settings.sandbox_network_deny),
            open=tuple(settings.sandbox_network_open),
        ),
        preload=tuple(settings.sandbox_preload),
        preload_bytes=settings.sandbox_preload_bytes,
        pool_size=settings.sandbox_pool_size,
    )
