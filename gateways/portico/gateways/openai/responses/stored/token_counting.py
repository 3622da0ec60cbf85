"""POST /responses/input_tokens and /responses/compact: operate on the conversation that an agent would
receive.
"""

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from starlette.responses import Response

from portico.client import Client, NotFound
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.http.request import body_fields
from portico.gateways.openai.errors import OpenAiError, missing
from portico.gateways.openai.json_routes import CoreDep, Given, answer, client_of, metadata_of, takes
from portico.gateways.openai.openapi_errors import errors
from portico.gateways.openai.responses.openapi_schemas import CompactedObject, TokenCount
from portico.gateways.openai.responses.previous_response import PreviousResponse, find_previous
from portico.gateways.openai.responses.request.compaction import compact
from portico.gateways.openai.responses.request.creation import conversation_id
from portico.gateways.openai.responses.request.input_items import InputItems
from portico.gateways.openai.responses.request.message_items import message_item
from portico.gateways.openai.responses.request.offered_tools import read_tools
from portico.gateways.openai.responses.run_opener import conversation_not_found
from portico.gateways.openai.responses.stream.response_builder import usage_json
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

routes = APIRouter(prefix="/responses", tags=["responses"])

BYTES_PER_TOKEN = 4
_MESSAGE_TOKENS = 4  # tokens of each item in addition to its text
_MEDIA_TOKENS = 765  # tokens of an image of usual size, also used for other media
_COUNTED = ("instructions", "text", "tool_choice", "reasoning")
_COUNT_PARAMETERS = frozenset(
    ("conversation", "input", "model", "parallel_tool_calls", "personality", "previous_response_id", "tools")
    + ("truncation",)
    + _COUNTED
)
_COMPACT_PARAMETERS = frozenset(
    ("model", "image", "input", "instructions", "previous_response_id", "prompt_cache_key")
    + ("prompt_cache_options", "prompt_cache_retention", "service_tier")
)


@routes.post(
    "/input_tokens",
    responses={200: {"model": TokenCount}, **errors(404, 413, 415)},
    openapi_extra=takes("InputTokens", "The parameters of a new response."),
)
async def count_input_tokens(body: Given, request: Request, core: CoreDep) -> Response:
    """Estimates the input tokens: the gateway has no tokenizer, and agents may use any model."""
    _known(body, _COUNT_PARAMETERS)
    messages = await _context(body, request, core)
    tools = query_pb2.AgentRequest()
    read_tools(body.get("tools"), tools.tools)
    tokens = estimate(messages) + sum(_tokens(tool.raw_json) for tool in tools.tools)
    for name in _COUNTED:
        value = body.get(name)
        if value is not None:
            tokens += _tokens(value if isinstance(value, str) else body_fields.dump(value, name))
    return answer({"object": "response.input_tokens", "input_tokens": tokens}, request)


@routes.post(
    "/compact",
    responses={200: {"model": CompactedObject}, **errors(404, 413, 415)},
    openapi_extra=takes("Compact"),
)
async def compact_response(body: Given, request: Request, core: CoreDep) -> Response:
    """Packs a conversation into one item, which stands for all of its items when sent as input."""
    _known(body, _COMPACT_PARAMETERS)
    messages = await _context(body, request, core)
    if not messages:
        raise missing("input")
    usage = pb.Usage(input_tokens=estimate(messages))
    usage.total_tokens = usage.input_tokens
    name = uuid4().hex
    content = compact([message_item(message) for message in messages])
    item = {"id": f"cmp_{name}", "type": "compaction", "encrypted_content": content}
    told = {
        "id": f"resp_{name}",
        "object": "response.compaction",
        "created_at": int(time.time()),
        "output": [item],
        "usage": usage_json(usage),
    }
    return answer(told, request)


def estimate(messages: Sequence[pb.Message]) -> int:
    """Estimates the tokens of messages, at about four bytes of text each."""
    total = 0
    for message in messages:
        total += _MESSAGE_TOKENS
        for content in message.content:
            match content.WhichOneof("value"):
                case "text":
                    total += _tokens(content.text)
                case "refusal":
                    total += _tokens(content.refusal)
                case "data_json":
                    total += _tokens(content.data_json)
                case _:
                    total += _MEDIA_TOKENS
    return total


def _tokens(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def _known(body: dict[str, Any], names: frozenset[str]) -> None:
    for name in body:
        if name not in names:
            raise OpenAiError(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)


async def _context(body: dict[str, Any], request: Request, core: CoreConnection) -> list[pb.Message]:
    """Returns the previous messages of the conversation, followed by the input."""
    client = client_of(request, core)
    asked = query_pb2.AgentRequest()
    items = InputItems(asked.input)
    if body.get("input") is not None:
        items.read(body["input"])
    before: list[pb.Message] = []
    if body.get("conversation") is not None:
        id = conversation_id(body["conversation"])
        try:
            before = [stored.message async for stored in client.sessions.list_messages(id)]
        except NotFound:
            raise conversation_not_found(id) from None
    elif previous := body_fields.text(body, "previous_response_id"):
        found = await find_previous(core, client, previous, metadata_of(request))
        before = await _history(client, found)
    known = {message.id: message for message in before}
    for place, id, field in items.references:
        if id not in known:
            message = f"Item with id '{id}' not found."
            raise OpenAiError(message, status=404, code="item_not_found", param=field)
        place.CopyFrom(known[id])
    return before + list(asked.input)


async def _history(client: Client, previous: PreviousResponse) -> list[pb.Message]:
    """Returns the conversation up to a response, including its output."""
    response = previous.run.response
    listing = client.sessions.list_messages(response.session_id, user_id=response.user_id)
    stored = [message async for message in listing]
    own = [place for place, message in enumerate(stored) if message.run_id == response.id]
    if previous.before:
        own = [place - 1 for place in own if stored[place].message.id == previous.before]
    return [message.message for message in stored[: max(own, default=-1) + 1]]
