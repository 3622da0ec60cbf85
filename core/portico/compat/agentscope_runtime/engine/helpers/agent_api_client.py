"""A client of a deployed agent that yields typed events."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from portico.compat.agentscope_runtime.engine.schemas import agent_schemas as schemas

_CONTENTS: dict[str, type[schemas.Content]] = {
    "text": schemas.TextContent,
    "data": schemas.DataContent,
    "image": schemas.ImageContent,
    "audio": schemas.AudioContent,
    "file": schemas.FileContent,
    "refusal": schemas.RefusalContent,
    "video": schemas.VideoContent,
}


def parse_event(line: str) -> schemas.Event | None:
    """Parses a line of a stream; returns None for comments and other lines without an event."""
    if not line.startswith("data:"):
        return None
    told: dict[str, Any] = json.loads(line.removeprefix("data:"))
    kind = told.get("object")
    if kind == "response":
        return schemas.AgentResponse.model_validate(told)
    if kind == "message":
        return schemas.Message.model_validate(told)
    if kind == "content":
        return _CONTENTS[told["type"]].model_validate(told)
    return None


class HTTPAgentAPIClient:
    """A client of `endpoint`, the URL of /process; the timeout, in seconds, applies to a silent stream."""

    def __init__(
        self,
        endpoint: str,
        token: str | None = None,
        timeout: float = 300.0,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._options: dict[str, Any] = {
            "timeout": timeout,
            "headers": {**({"authorization": f"Bearer {token}"} if token else {}), **(headers or {})},
        }

    def stream(self, request: schemas.AgentRequest) -> Iterator[schemas.Event]:
        """Yields the events of a request. Raises httpx.HTTPError."""
        with (
            httpx.Client(**self._options) as http,
            http.stream("POST", self._endpoint, json=body_of(request)) as answer,
        ):
            answer.raise_for_status()
            for line in answer.iter_lines():
                event = parse_event(line)
                if event is not None:
                    yield event

    async def astream(self, request: schemas.AgentRequest) -> AsyncIterator[schemas.Event]:
        """Yields the events of a request. Raises httpx.HTTPError."""
        async with (
            httpx.AsyncClient(**self._options) as http,
            http.stream("POST", self._endpoint, json=body_of(request)) as answer,
        ):
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                event = parse_event(line)
                if event is not None:
                    yield event


def body_of(request: schemas.AgentRequest | dict[str, Any]) -> dict[str, Any]:
    """Returns a request as JSON, without unset fields."""
    asked = schemas.AgentRequest.model_validate(request) if isinstance(request, dict) else request
    return asked.model_dump(mode="json", exclude_none=True)
