"""Reads a response from its run's log, up to the log's current end."""

from collections.abc import Mapping
from typing import Any

from portico.client import Unavailable
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.openai.errors import OpenAiError
from portico.gateways.openai.responses.stream.translator import ResponseTranslator
from portico.v1 import query_pb2


async def replay(
    core: CoreConnection, run: query_pb2.Run, translator: ResponseTranslator, metadata: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the Response object in its current state. Raises OpenAiError (404), PorticoError."""
    value = await replayed(core, run, translator, metadata)
    if value is None:
        raise response_not_found(run.response.id)
    return value


async def replayed(
    core: CoreConnection, run: query_pb2.Run, translator: ResponseTranslator, metadata: Mapping[str, str]
) -> dict[str, Any] | None:
    """Like `replay`, but returns None when the run has no such response."""
    watch = query_pb2.WatchRunRequest(run_id=run.response.id)
    with core.streams.open_watch(watch, metadata=metadata) as stream:
        async for frames in stream:
            translator.add_frames(frames)
            last = stream.last_sequence_number
            if translator.done or (last is not None and last >= run.last_sequence_number):
                break
        else:
            if stream.last_sequence_number is None:
                raise Unavailable("the run's log can't be read")
    return translator.json()


def response_not_found(id: str) -> OpenAiError:
    """Returns the error (404) for an unknown response."""
    return OpenAiError(f"Response with id '{id}' not found.", status=404, code="response_not_found")
