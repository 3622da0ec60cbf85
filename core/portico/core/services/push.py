"""PushService: push configs of runs, and the claims of gateways that deliver them."""

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

from grpc.aio import ServicerContext

from portico.core.convert.requests import check_id
from portico.core.convert.timestamps import timestamp
from portico.core.errors import Draining, InvalidArgument
from portico.core.runs.run_engine import RunEngine
from portico.core.services.push_claims import PushClaims
from portico.core.services.rpc.current_principal import check_run_access
from portico.core.services.rpc.drain import Drain
from portico.core.services.rpc.page_tokens import decode_token, encode_token, page_size
from portico.core.stores.ports.push_configs import PushRecord, PushStore
from portico.core.stores.ports.stores import RunLog
from portico.model.ids import new_id
from portico.v1 import push_pb2 as pb

URL_CHARACTERS = 2048
SECRET_CHARACTERS = 8192
PROTOCOL_CHARACTERS = 64


class PushService:
    """Serves the push configs of one store."""

    def __init__(self, engine: RunEngine, runs: RunLog, pushes: PushStore, drain: Drain) -> None:
        self._engine = engine
        self._runs = runs
        self._pushes = pushes
        self._drain = drain
        self._claims = PushClaims()
        engine.removal.add_deletion_listener(self._claims.forget)
        self._loaded = False
        self._loading = asyncio.Lock()

    async def SetPushConfig(
        self, request: pb.SetPushConfigRequest, context: ServicerContext
    ) -> pb.SetPushConfigResponse:
        config = request.config
        run_id = check_id(config.run_id, "config.run_id")
        if not config.url.startswith(("http://", "https://")) or len(config.url) > URL_CHARACTERS:
            raise InvalidArgument("config.url", f"must be a URL of at most {URL_CHARACTERS} characters")
        for name, value, most in (
            ("token", config.token, SECRET_CHARACTERS),
            ("auth_scheme", config.auth_scheme, SECRET_CHARACTERS),
            ("auth_credentials", config.auth_credentials, SECRET_CHARACTERS),
            ("protocol", config.protocol, PROTOCOL_CHARACTERS),
        ):
            if len(value) > most or not value.isprintable():
                raise InvalidArgument(f"config.{name}", "is too long or has unprintable characters")
        if "@" in urlsplit(config.url).netloc:
            raise InvalidArgument("config.url", "must not contain a credential; put it in auth_credentials")
        last = await self._last(run_id)
        record = PushRecord(
            run_id=run_id,
            config_id=check_id(config.config_id or new_id("push_"), "config.config_id"),
            url=config.url,
            token=config.token,
            auth_scheme=config.auth_scheme,
            auth_credentials=config.auth_credentials,
            delivered=-1 if request.from_start else last,
            ended=False,
            created_at=time.time(),
            revision=uuid4().hex,
            protocol=config.protocol,
        )
        await self._pushes.set(record)
        self._claims.add(record)
        return pb.SetPushConfigResponse(config=_without_secrets(record))

    async def GetPushConfig(
        self, request: pb.GetPushConfigRequest, context: ServicerContext
    ) -> pb.GetPushConfigResponse:
        run_id = check_id(request.run_id, "run_id")
        config_id = check_id(request.config_id, "config_id")
        await self._last(run_id)
        record = await self._pushes.get(run_id, config_id)
        return pb.GetPushConfigResponse(config=_without_secrets(record))

    async def ListPushConfigs(
        self, request: pb.ListPushConfigsRequest, context: ServicerContext
    ) -> pb.ListPushConfigsResponse:
        run_id = check_id(request.run_id, "run_id")
        await self._last(run_id)
        size = page_size(request.page_size)
        place = decode_token(request.page_token, str)
        rows = await self._pushes.list(run_id, "" if place is None else str(place[0]), size + 1)
        token = encode_token(rows[size - 1].config_id) if len(rows) > size else ""
        return pb.ListPushConfigsResponse(
            configs=[_without_secrets(row) for row in rows[:size]], next_page_token=token
        )

    async def DeletePushConfig(
        self, request: pb.DeletePushConfigRequest, context: ServicerContext
    ) -> pb.DeletePushConfigResponse:
        run_id = check_id(request.run_id, "run_id")
        config_id = check_id(request.config_id, "config_id")
        await self._last(run_id)
        await self._pushes.delete(run_id, config_id)
        self._claims.remove((run_id, config_id))
        return pb.DeletePushConfigResponse()

    async def ClaimPushes(
        self, request: pb.ClaimPushesRequest, context: ServicerContext
    ) -> AsyncIterator[pb.ClaimPushesResponse]:
        await self.load()
        with self._claims.claiming() as claimer, self._drain.register(claimer.cut):
            async for given, removed in claimer.changes():
                yield pb.ClaimPushesResponse(
                    configs=[_to_deliver(record) for record in given],
                    removed=[pb.PushConfig(run_id=run, config_id=config) for run, config in removed],
                )
        raise Draining

    async def AckPush(self, request: pb.AckPushRequest, context: ServicerContext) -> pb.AckPushResponse:
        run_id = check_id(request.run_id, "run_id")
        config_id = check_id(request.config_id, "config_id")
        revision = check_id(request.revision, "revision")
        number = request.delivered_sequence_number
        if await self._pushes.acknowledge(run_id, config_id, revision, number, request.ended):
            self._claims.record_delivery((run_id, config_id), revision, number, ended=request.ended)
        return pb.AckPushResponse()

    async def load(self) -> None:
        """Makes configs that an earlier process left undelivered available to claimers. Raises
        StoreUnavailable."""
        async with self._loading:
            if not self._loaded:
                for record in await self._pushes.undelivered():
                    self._claims.add(record, known=True)
                self._loaded = True

    async def _last(self, run_id: str) -> int:
        """Sequence number of the last event of a run of the caller. Raises RunNotFound."""
        await check_run_access(self._engine, run_id)
        live = self._engine.live(run_id)
        return (await self._runs.get(run_id)).last_sequence_number if live is None else live.published


def _to_deliver(record: PushRecord) -> pb.PushConfig:
    """The config with its credentials, for the gateway that delivers it."""
    config = _without_secrets(record)
    config.token = record.token
    config.auth_credentials = record.auth_credentials
    return config


def _without_secrets(record: PushRecord) -> pb.PushConfig:
    return pb.PushConfig(
        run_id=record.run_id,
        config_id=record.config_id,
        url=record.url,
        auth_scheme=record.auth_scheme,
        delivered_sequence_number=record.delivered,
        ended=record.ended,
        created_time=timestamp(record.created_at),
        revision=record.revision,
        protocol=record.protocol,
    )
