"""PushService: the addresses to which the events of runs are pushed."""

from collections.abc import AsyncGenerator

from portico.client.errors import typed_errors
from portico.client.paging import Listing, listing
from portico.client.service import Service
from portico.v1 import push_pb2


class Pushes(Service):
    """Push configs of runs, and claims to deliver them. Every method raises PorticoError."""

    async def set(self, config: push_pb2.PushConfig, *, from_start: bool = False) -> push_pb2.PushConfig:
        """Creates or replaces a config: from the run's first event, or from the next one. Raises NotFound."""
        request = push_pb2.SetPushConfigRequest(config=config, from_start=from_start)
        return (await self._calls.unary(self._calls.connection.pushes.SetPushConfig, request)).config

    async def get(self, run_id: str, config_id: str) -> push_pb2.PushConfig:
        """Returns one config. Raises NotFound."""
        request = push_pb2.GetPushConfigRequest(run_id=run_id, config_id=config_id)
        return (await self._calls.unary(self._calls.connection.pushes.GetPushConfig, request)).config

    def list(
        self, run_id: str, *, page_size: int = 0, page_token: str = ""
    ) -> Listing[push_pb2.ListPushConfigsResponse, push_pb2.PushConfig]:
        """Lists a run's configs by id."""
        request = push_pb2.ListPushConfigsRequest(run_id=run_id, page_size=page_size, page_token=page_token)
        return listing(
            self._calls,
            lambda: self._calls.connection.pushes.ListPushConfigs,
            request,
            lambda page: page.configs,
        )

    async def delete(self, run_id: str, config_id: str) -> None:
        """Removes a config; does nothing when there is none. Raises NotFound for an unknown run."""
        request = push_pb2.DeletePushConfigRequest(run_id=run_id, config_id=config_id)
        await self._calls.unary(self._calls.connection.pushes.DeletePushConfig, request)

    async def claim(self) -> AsyncGenerator[push_pb2.ClaimPushesResponse, None]:
        """Claims push configs and yields them; the caller holds each claim until it closes the iterator."""
        with typed_errors():
            call = self._calls.connection.pushes.ClaimPushes(
                push_pb2.ClaimPushesRequest(), metadata=self._calls.metadata
            )
            try:
                while isinstance(change := await call.read(), push_pb2.ClaimPushesResponse):
                    yield change
            finally:
                call.cancel()

    async def ack(
        self, config: push_pb2.PushConfig, delivered_sequence_number: int, *, ended: bool = False
    ) -> None:
        """Stores how far a claimed config was delivered, and whether its delivery is complete."""
        request = push_pb2.AckPushRequest(
            run_id=config.run_id,
            config_id=config.config_id,
            revision=config.revision,
            delivered_sequence_number=delivered_sequence_number,
            ended=ended,
        )
        await self._calls.unary(self._calls.connection.pushes.AckPush, request)
