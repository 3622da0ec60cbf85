"""Parts of tests of the engine: requests, readers, and a disk with faults."""

import asyncio
from typing import Any

from portico.core.convert.requests import start_request
from portico.core.errors import StoreUnavailable
from portico.core.execution.execution import Execution
from portico.core.log.encoding import RunRequest
from portico.core.log.reader import LogReader
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.stores import Commit, Stores
from portico.v1 import events_pb2, query_pb2


class Disk:
    """Between the engine and its log: behaves as the test sets it."""

    def __init__(self, stores: Stores) -> None:
        self.refuses = False
        self.delay = 0.0
        self.commits: list[Commit] = []
        self._commit = stores.runs.commit
        stores.runs.commit = self.commit  # type: ignore[method-assign]

    async def commit(self, commit: Commit) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.refuses:
            raise StoreUnavailable("the disk is full")
        self.commits.append(commit)
        await self._commit(commit)


def request(text: str, *, agent_name: str = "", metadata_json: str = "", **more: Any) -> RunRequest:
    """Returns a request with one text message."""
    query = query_pb2.QueryRequest(**more)
    query.request.metadata_json = metadata_json
    query.request.agent_name = agent_name
    query.request.input.add(role=events_pb2.ROLE_USER).content.add(text=text)
    return start_request(query)


async def read(reader: LogReader) -> list[events_pb2.Event]:
    """Returns all events until the log ends or pauses."""
    events: list[events_pb2.Event] = []
    try:
        async for frame in reader.frames():
            events += query_pb2.QueryResponse.FromString(frame).events
    finally:
        reader.close()
    return events


async def text_of(engine: RunEngine, execution: Execution) -> str:
    """Returns the complete text of the run's agent, once the run has ended."""
    *_, end = await asyncio.wait_for(read(engine.read(execution)), 10)
    assert end.response.HasField("completed_time")
    return "".join(content.text for message in end.response.output for content in message.content)
