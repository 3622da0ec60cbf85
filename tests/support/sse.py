"""A reader of a run over SSE that reconnects as a browser does."""

import asyncio
from typing import Any

import httpx
import orjson

from portico.model.messages import Status


def terminal(event: dict[str, Any]) -> bool:
    """Returns whether the event is a run's terminal event."""
    return event["object"] == "response" and Status(event["status"]).terminal


class SseReader:
    """Reads a run over SSE, and reconnects with Last-Event-ID whenever the stream breaks."""

    def __init__(self, http: httpx.AsyncClient, run_id: str) -> None:
        self._http = http
        self._run_id = run_id
        self.events: list[dict[str, Any]] = []
        self.connections = 0

    @property
    def ended(self) -> bool:
        return bool(self.events) and terminal(self.events[-1])

    async def read(self) -> None:
        while not self.ended:
            headers = {"last-event-id": str(self.events[-1]["sequence_number"])} if self.events else {}
            self.connections += 1
            try:
                async with self._http.stream(
                    "GET", f"/runs/{self._run_id}/events", headers=headers
                ) as answer:
                    if answer.status_code == 200:
                        await self._take(answer)
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)

    async def _take(self, answer: httpx.Response) -> None:
        number = None
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("data: "):
                event = orjson.loads(line[6:])
                assert event["sequence_number"] == number
                self.events.append(event)
