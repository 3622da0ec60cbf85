"""Delivers push notifications: one task per claimed config reads the run's log and posts its updates.

The core assigns a config to one gateway at a time and stores its progress, so another gateway continues when
this process ends. A slow receiver delays no other.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from a2a.types import a2a_pb2 as a2a

from portico.client import Client, NotFound, PermissionDenied, PorticoError, Unauthenticated
from portico.gateways.a2a.push.address_check import AddressCheck
from portico.gateways.a2a.push.payloads import Told, payloads
from portico.gateways.a2a.push.sender import DeliveryAbandoned, Sender
from portico.gateways.a2a.settings import A2aSettings
from portico.gateways.a2a.tasks.task_status import ENDED
from portico.gateways.a2a.tasks.translator import TaskTranslator
from portico.gateways.http.core_connection import CoreConnection
from portico.telemetry.log.retry_log import RetryLog
from portico.v1 import push_pb2, query_pb2

log = logging.getLogger(__name__)

AGAIN_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
_Key: TypeAlias = tuple[str, str]


class Delivery:
    """Claims configs and delivers their notifications, as long as this gateway runs."""

    def __init__(self, core: CoreConnection, own: Client, guard: AddressCheck, settings: A2aSettings) -> None:
        """`own` is a client with the gateway's own credential: no caller is waiting."""
        self._core = core
        self._client = own
        self._metadata = {name: str(value) for name, value in own.calls.metadata}
        self._sender = Sender(guard, settings)
        self._refused, self._defects = RetryLog(), RetryLog()
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._claiming: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Claims and delivers until `stop`."""
        self._claiming = asyncio.create_task(self._claim())
        try:
            await asyncio.wait({self._claiming})
        finally:
            self._drop()
            await self._sender.close()

    def stop(self) -> None:
        """Stops delivering; other gateways take over."""
        if self._claiming is not None:
            self._claiming.cancel()

    async def _claim(self) -> None:
        failures = 0
        while True:
            changes = self._client.pushes.claim()
            try:
                async for change in changes:
                    failures = 0
                    self._change(change)
            except (Unauthenticated, PermissionDenied) as error:
                if self._refused.due():
                    log.warning(
                        "no notifications are delivered: PORTICO_A2A_CREDENTIAL must be a key with the "
                        "scope deliver: %s",
                        error,
                    )
                failures = len(AGAIN_SECONDS)
            except PorticoError as error:
                log.debug("can't claim push configs, will try again: %s", error)
            except Exception:
                if self._defects.due():
                    log.exception("internal error while claiming push configs, will try again")
            finally:
                # Another gateway may claim these configs next.
                self._drop()
                await changes.aclose()
            await asyncio.sleep(AGAIN_SECONDS[min(failures, len(AGAIN_SECONDS) - 1)])
            failures += 1

    def _change(self, change: push_pb2.ClaimPushesResponse) -> None:
        for config in (*change.removed, *change.configs):
            task = self._tasks.pop((config.run_id, config.config_id), None)
            if task is not None:
                task.cancel()
        for config in change.configs:
            key = config.run_id, config.config_id
            task = self._tasks[key] = asyncio.create_task(self._deliver(config))
            task.add_done_callback(lambda done, key=key: self._ended(key, done))  # type: ignore[misc]

    def _ended(self, key: _Key, task: "asyncio.Task[None]") -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]

    def _drop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _deliver(self, config: push_pb2.PushConfig) -> None:
        client = self._client
        cursor, failures = config.delivered_sequence_number, 0
        while True:
            try:
                async for told, task, last, ended in self._read(client, config.run_id, cursor):
                    for payload in payloads(config.protocol, told, task):
                        await self._sender.send(config, payload)
                    await client.pushes.ack(config, last, ended=ended)
                    cursor, failures = last, 0
                    if ended:
                        return
            except DeliveryAbandoned as error:
                log.warning(
                    "gave up delivery for config %s of run %s: %s", config.config_id, config.run_id, error
                )
                await self._end(client, config, cursor)
                return
            except NotFound:
                await self._end(client, config, cursor)
                return
            except PorticoError as error:
                log.debug("can't read run %s, will try again: %s", config.run_id, error)
            except Exception:
                if self._defects.due():
                    log.exception(
                        "internal error while delivering for config %s of run %s",
                        config.config_id,
                        config.run_id,
                    )
            await asyncio.sleep(AGAIN_SECONDS[min(failures, len(AGAIN_SECONDS) - 1)])
            failures += 1

    async def _end(self, client: Client, config: push_pb2.PushConfig, cursor: int) -> None:
        try:
            await client.pushes.ack(config, cursor, ended=True)
        except PorticoError as error:
            log.warning("can't end config %s of run %s: %s", config.config_id, config.run_id, error)

    async def _read(
        self, client: Client, run_id: str, cursor: int
    ) -> AsyncIterator[tuple[list[Told], Callable[[], a2a.Task], int, bool]]:
        """Yields the updates after the cursor as they arrive: with the task's current state, the last event's
        number, and whether the log ends there.
        """
        run = await client.runs.get(run_id)
        translator = TaskTranslator(run.request)
        after: int | None = None
        while True:
            watch = query_pb2.WatchRunRequest(run_id=run_id)
            if after is not None:
                watch.after_sequence_number = after  # the run is paused; this watch waits for the answer
            with self._core.streams.open_watch(watch, metadata=self._metadata) as stream:
                async for frames in stream:
                    told: list[Told] = []
                    for frame in frames:
                        for event in frame.events:
                            updates = translator.add_event(event, telling=event.sequence_number > cursor)
                            after = event.sequence_number
                            if after > cursor and after == 0:
                                told.append(translator.task())
                            elif after > cursor:
                                told += updates
                    if after is not None and after > cursor:
                        yield told, translator.task, after, translator.state in ENDED
            if translator.state in ENDED:
                # Everything has been delivered already.
                yield [], translator.task, max(cursor, after or 0), True
                return
