"""A scripted replacement for a hosted model, over real HTTP: sends scripted replies, records requests."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from support.model_dashscope import generation, generations
from support.model_responses import response_events


@dataclass(frozen=True)
class Call:
    """A tool call whose arguments are streamed in these pieces."""

    id: str
    name: str
    arguments: Sequence[str] = ("{}",)


@dataclass(frozen=True)
class Reply:
    """One reply of the model."""

    words: Sequence[str] = ()
    thoughts: Sequence[str] = ()
    calls: Sequence[Call] = ()
    fails: bool = False  # fails after all of the above
    pause: float = 0.0  # seconds between pieces

    @property
    def usage(self) -> dict[str, Any]:
        said = len(self.words) + len(self.thoughts)
        return {
            "prompt_tokens": 11,
            "completion_tokens": said,
            "total_tokens": 11 + said,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": len(self.thoughts)},
        }


# By the user's last text: the model's replies to it, and after each round of tools.
Script = Mapping[str, Sequence[Reply]]


class ScriptedModel:
    """Serves /v1/chat/completions, /v1/responses and DashScope's text generation from a script, or with one
    reply.

    A reply depends only on the request, so that a conversation can be repeated.
    """

    def __init__(self, script: Sequence[str] | Script) -> None:
        self.requests: list[dict[str, Any]] = []
        self.cut_off = 0  # replies that the client did not read to the end
        self._script = script
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                request = json.loads(self.rfile.read(length))
                model.requests.append(request)
                if self.path.endswith("/responses"):
                    reply = model.reply(request.get("input"))
                    events, body = response_events(reply), list(response_events(reply))[-1]["response"]
                elif self.path.endswith("/generation"):
                    reply = model.reply(request["input"]["messages"])
                    events, body = generations(reply), generation(reply)
                else:
                    reply = model.reply(request.get("messages"))
                    events, body = chunks(reply), whole(reply)
                try:
                    if request.get("stream") or self.headers.get("x-dashscope-sse") == "enable":
                        self._stream(reply, events)
                    else:
                        self._whole(reply, body)
                except (BrokenPipeError, ConnectionResetError):
                    model.cut_off += 1
                    self.close_connection = True

            def _stream(self, reply: Reply, events: Iterator[dict[str, Any]]) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                for event in events:
                    name = f"event: {event['type']}\n" if "type" in event else ""
                    self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
                    self.wfile.flush()
                    time.sleep(reply.pause)
                if self.path.endswith("/completions"):
                    self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True

            def _whole(self, reply: Reply, told: dict[str, Any]) -> None:
                body = json.dumps(told).encode()
                self.send_response(500 if reply.fails else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def reply(self, messages: Any) -> Reply:
        if not isinstance(self._script, Mapping):
            return Reply(self._script)
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        said = next(_text(turn["content"]) for turn in reversed(turns) if _by_the_user(turn))
        replies = next((self._script[key] for key in self._script if key in said), None)
        if replies is None:
            return Reply([f"no script for {said!r}"])
        return replies[min(_rounds(turns), len(replies) - 1)]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _rounds(messages: Sequence[Mapping[str, Any]]) -> int:
    """Returns how often the model got results since the user's last message."""
    rounds, results = 0, False
    for message in messages:
        result = message.get("role") == "tool" or message.get("type") == "function_call_output"
        if _by_the_user(message):
            rounds, results = 0, False
        elif result and not results:
            rounds += 1
        results = result
    return rounds


def _by_the_user(message: Mapping[str, Any]) -> bool:
    """Returns whether the user wrote the message, and not a framework in the user's name."""
    return message.get("role") == "user" and not _text(message["content"]).startswith("<system-reminder>")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _about() -> dict[str, Any]:
    # Frameworks identify messages by their ids.
    id = f"chatcmpl-{uuid4().hex}"
    return {"id": id, "object": "chat.completion.chunk", "created": 0, "model": "scripted"}


def chunks(reply: Reply) -> Iterator[dict[str, Any]]:
    """Returns the reply as chat.completion.chunk objects, with the usage at the end."""
    about = _about()

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**about, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    for thought in reply.thoughts:
        yield chunk({"reasoning_content": thought})
    for word in reply.words:
        yield chunk({"content": word})
    for index, call in enumerate(reply.calls):
        head = {"index": index, "id": call.id, "type": "function"}
        yield chunk({"tool_calls": [{**head, "function": {"name": call.name, "arguments": ""}}]})
        for piece in call.arguments:
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if reply.fails:
        yield {"error": {"message": "the model is overloaded", "type": "server_error", "code": "overloaded"}}
        return
    yield chunk({}, "tool_calls" if reply.calls else "stop")
    yield {**about, "choices": [], "usage": reply.usage}


def whole(reply: Reply) -> dict[str, Any]:
    """Returns the reply as a chat.completion object, or as an error."""
    if reply.fails:
        return {"error": {"message": "the model is overloaded", "type": "server_error", "code": "overloaded"}}
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.words) or None}
    if reply.thoughts:
        message["reasoning_content"] = "".join(reply.thoughts)
    if reply.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for call in reply.calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if reply.calls else "stop"}
    return {**_about(), "object": "chat.completion", "choices": [choice], "usage": reply.usage}
