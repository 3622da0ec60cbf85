"""A2A client for agents: `context.a2a(url)` returns a Peer."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

from opentelemetry.trace import SpanKind

from portico.telemetry.tracing import spans

if TYPE_CHECKING:
    import httpx
    from a2a.client import Client
    from a2a.types import a2a_pb2

CANCEL_SECONDS = 5.0
TERMINAL_TASK_STATES = ("completed", "canceled", "failed", "rejected")
_Told: TypeAlias = dict[str, list[str]]  # artifact id to its pieces of text; a message has the id ""


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """The state and the text of a peer's task, or a direct answer, which has no task."""

    text: str
    state: str  # A2A's task state in lower case, such as completed or input-required
    task_id: str
    context_id: str
    raw: Any  # the last event, an object of a2a-sdk


@dataclass(frozen=True, slots=True)
class PeerUpdate:
    """One update of a peer's task: `text` is new text, `state` the task's state, empty if unchanged.

    If `replaces` is true, the text replaces all earlier text of this artifact. This happens, for example,
    when the peer executes again after a crash.
    """

    text: str
    state: str
    task_id: str
    context_id: str
    raw: Any
    artifact_id: str = ""
    replaces: bool = False


class Peer:
    """An agent at a URL. Cancelling the run that waits for the peer cancels the peer's task."""

    def __init__(self, url: str, *, headers: Mapping[str, str], timeout: float) -> None:
        self._url = url
        self._headers = dict(headers)
        self._timeout = timeout

    async def send(
        self, message: str | Sequence[Any], *, task_id: str = "", context_id: str = ""
    ) -> PeerAnswer:
        """Sends a message and waits until the peer's task ends or needs input.

        Args:
            message: A text, or parts of a2a-sdk.
            task_id: The task to continue; empty starts a new one.
            context_id: The A2A context (conversation) to continue; empty starts a new one.

        Raises:
            ConnectionError: The peer closed the stream without an answer.
        """
        told: _Told = {}
        state, last = "completed", None
        async for update in self._stream(message, task_id, context_id, told):
            state, last = update.state or state, update
        if last is None:
            raise ConnectionError(f"{self._url} closed the stream without an answer")
        text = "".join(piece for pieces in told.values() for piece in pieces)
        return PeerAnswer(text, state, last.task_id, last.context_id, last.raw)

    async def stream(
        self, message: str | Sequence[Any], *, task_id: str = "", context_id: str = ""
    ) -> AsyncGenerator[PeerUpdate, None]:
        """Sends a message and yields the peer's updates as they arrive; arguments as for `send`."""
        async with contextlib.aclosing(self._stream(message, task_id, context_id, {})) as updates:
            async for update in updates:
                yield update

    async def _stream(
        self, message: str | Sequence[Any], task_id: str, context_id: str, told: "_Told"
    ) -> AsyncGenerator[PeerUpdate, None]:
        place = urlsplit(self._url)
        host = place.hostname or ""
        attributes = {"gen_ai.operation.name": "invoke_agent", "server.address": host}
        if place.port is not None:
            attributes["server.port"] = str(place.port)
        span = spans.begin(f"invoke_agent {host}", attributes, kind=SpanKind.CLIENT)
        error = ""
        updates = self._updates(message, task_id, context_id, spans.headers_of(span), told)
        try:
            async with contextlib.aclosing(updates):
                async for update in updates:
                    yield update
        except Exception as raised:
            error = type(raised).__name__
            raise
        finally:
            spans.end(span, error)

    async def _updates(
        self,
        message: str | Sequence[Any],
        task_id: str,
        context_id: str,
        trace: Mapping[str, str],
        told: "_Told",
    ) -> AsyncGenerator[PeerUpdate, None]:
        # Imported here: only agents that call peers pay for these imports.
        import httpx
        from a2a.types import a2a_pb2 as a2a

        parts = [a2a.Part(text=message)] if isinstance(message, str) else list(message)
        said = a2a.Message(
            message_id=f"msg_{uuid4().hex}",
            role=a2a.ROLE_USER,
            parts=parts,
            task_id=task_id,
            context_id=context_id,
        )
        headers = {**trace, **self._headers}
        timeout = httpx.Timeout(self._timeout, read=None)
        async with httpx.AsyncClient(headers=headers, timeout=timeout) as http:
            client = await self._connect(http)
            task, state = task_id, ""
            try:
                async for event in client.send_message(a2a.SendMessageRequest(message=said)):
                    update = _update(event, told)
                    task, state = update.task_id or task, update.state or state
                    yield update
            except (asyncio.CancelledError, GeneratorExit):
                if task and state not in TERMINAL_TASK_STATES:
                    await _cancel(client, task)
                raise

    async def _connect(self, http: "httpx.AsyncClient") -> "Client":
        from a2a.client import ClientConfig, ClientFactory
        from a2a.client.card_resolver import A2ACardResolver

        card = await A2ACardResolver(http, self._url).get_agent_card()
        bindings = ["JSONRPC", "HTTP+JSON"]
        return ClientFactory(ClientConfig(httpx_client=http, supported_protocol_bindings=bindings)).create(
            card
        )


async def _cancel(client: "Client", task_id: str) -> None:
    """Cancels the peer's task, best effort, within CANCEL_SECONDS: the run is being stopped."""
    from a2a.types import a2a_pb2 as a2a

    with contextlib.suppress(Exception):
        async with asyncio.timeout(CANCEL_SECONDS):
            await client.cancel_task(a2a.CancelTaskRequest(id=task_id))


def _update(event: "a2a_pb2.StreamResponse", told: _Told) -> PeerUpdate:
    kind = event.WhichOneof("payload")
    if kind == "message":
        said = event.message
        told[""] = [_text(said.parts)]
        return PeerUpdate(_text(said.parts), "completed", said.task_id, said.context_id, event)
    if kind == "task":
        task = event.task
        told.clear()
        told.update((artifact.artifact_id, [_text(artifact.parts)]) for artifact in task.artifacts)
        text = "".join(piece for pieces in told.values() for piece in pieces)
        return PeerUpdate(text, _state(task.status.state), task.id, task.context_id, event)
    if kind == "status_update":
        status = event.status_update
        return PeerUpdate("", _state(status.status.state), status.task_id, status.context_id, event)
    chunk = event.artifact_update
    id, text = chunk.artifact.artifact_id, _text(chunk.artifact.parts)
    replaces = False
    if chunk.append:
        told.setdefault(id, []).append(text)
    else:
        before = "".join(told.get(id, ()))
        told[id] = [text]
        replaces = before not in ("", text)
        text = "" if before == text else text  # a peer may send a complete artifact once more as a whole
    return PeerUpdate(text, "", chunk.task_id, chunk.context_id, event, id, replaces)


def _state(value: "a2a_pb2.TaskState") -> str:
    from a2a.types import a2a_pb2 as a2a

    return a2a.TaskState.Name(value).removeprefix("TASK_STATE_").lower().replace("_", "-")


def _text(parts: Any) -> str:
    return "".join(part.text for part in parts)
