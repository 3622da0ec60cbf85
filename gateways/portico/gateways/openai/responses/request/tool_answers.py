"""Stores the parameters and the idempotency key of a request that answers a run's input request.

A run keeps only the request that started it. The parameters of an answer are therefore stored in the metadata
of its first message, where any gateway can read them from the log.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from portico.gateways.openai.errors import NO_RETRY, OpenAiError
from portico.gateways.openai.responses.request.input_items import OURS
from portico.gateways.openai.responses.request.message_items import kept_in
from portico.gateways.openai.responses.request.request_echo import RequestEcho, tool_json
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

_NOT_ITS_OWN = ("background", "conversation", "store")  # parameters that belong to the run


def digest_of(query: query_pb2.QueryRequest) -> str:
    """Returns a digest that distinguishes a repeated request from a different one."""
    return blake2b(query.SerializeToString(deterministic=True), digest_size=16).hexdigest()


def read_tool_answer(query: query_pb2.QueryRequest, digest: str) -> list[pb.Message]:
    """Returns the input as the messages of an answer, with the request's parameters and key; `digest` is that
    of the original query.
    """
    request = query.request
    extra = orjson.loads(request.extra_json or "{}")
    told: dict[str, Any] = {
        "extra": {name: value for name, value in extra.items() if name not in _NOT_ITS_OWN},
        "metadata": orjson.loads(request.metadata_json or "{}"),
        "parameters": MessageToDict(request.parameters, preserving_proto_field_name=True),
        # As sent to clients: without credentials, which must not enter the session.
        "tools": [tool_json(tool) for tool in request.tools],
    }
    kept: dict[str, Any] = {"request": {name: value for name, value in told.items() if value}}
    if query.idempotency_key:
        kept |= {"key": query.idempotency_key, "digest": digest}
    messages = [pb.Message.FromString(message.SerializeToString()) for message in request.input]
    first = messages[0]
    metadata = orjson.loads(first.metadata_json or "{}")
    metadata[OURS] = {**metadata.get(OURS, {}), **kept}
    first.metadata_json = orjson.dumps(metadata).decode()
    return messages


def is_repeated_answer(answer: Sequence[pb.Message], key: str, digest: str) -> bool:
    """Returns whether the answer was sent by a request with this key. Raises OpenAiError if that request was
    a different one.
    """
    kept = kept_in(answer[0])
    if not key or kept.get("key") != key:
        return False
    if kept.get("digest") != digest:
        message = "The idempotency key was used for another request."
        raise OpenAiError(message, status=409, code="idempotency_conflict", headers=NO_RETRY)
    return True


def echo_of(told: Sequence[pb.Message], before: RequestEcho) -> RequestEcho:
    """Returns the parameters that the response to this input repeats: those stored with it, else those of the
    response before.
    """
    kept = kept_in(told[0]).get("request")
    if not isinstance(kept, dict):
        return before
    try:
        echo = RequestEcho(_request(kept), background=before.background)
    except (ParseError, TypeError, AttributeError):
        return before  # not written by this gateway
    echo.fields |= {name: before.fields[name] for name in _NOT_ITS_OWN}
    return echo


def _request(kept: dict[str, Any]) -> query_pb2.AgentRequest:
    request = query_pb2.AgentRequest(
        extra_json=orjson.dumps(kept.get("extra")).decode(),
        metadata_json=orjson.dumps(kept.get("metadata")).decode(),
    )
    ParseDict(kept.get("parameters", {}), request.parameters)
    for tool in kept.get("tools", ()):
        raw = orjson.dumps(tool).decode()
        request.tools.add(name=tool.get("name"), type=tool.get("type"), raw_json=raw)
    return request
