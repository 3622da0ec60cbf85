"""Translates Chat Completions, streamed or whole, to the agent protocol."""

from typing import Any

from portico.agent.builders import CallDelta, Delta, NewMessage, audio, refusal
from portico.frameworks.openai.fields import failure_of, get, many, usage_of
from portico.model.messages import MessageType

_REASONING = MessageType.REASONING


class ChatReader:
    """Reads the completions of one agent, one after the other."""

    def __init__(self, callers_tools: frozenset[str]) -> None:
        self._callers_tools = callers_tools
        self._id: str | None = None
        self._calls: dict[int, tuple[str, str]] = {}  # by index: id and name
        self._refusal: list[str] = []
        self._sound: list[str] = []

    def chunk(self, chunk: Any) -> list[object]:
        """Translates one chunk. Raises ReportedError for a chunk with an error."""
        said: list[object] = []
        if (id := get(chunk, "id")) != self._id and id:
            self._id = id
            said += [*self.rest(), NewMessage()]
        for choice in many(chunk, "choices"):
            delta = get(choice, "delta")
            content = get(delta, "content")
            if content:
                said.append(content)
                if not get(delta, "tool_calls"):
                    continue
            said += self._delta(delta)
        if counted := get(chunk, "usage"):
            said.append(usage_of(counted))
        if error := get(chunk, "error"):
            raise failure_of(error)
        return said

    def _delta(self, delta: Any) -> list[object]:
        said: list[object] = []
        # Not part of OpenAI's API, but of compatible ones.
        if thought := get(delta, "reasoning_content") or get(delta, "reasoning"):
            said.append(Delta(str(thought), _REASONING))
        if piece := get(delta, "refusal"):
            self._refusal.append(piece)
        if sound := get(delta, "audio"):
            self._sound.append(get(sound, "data") or "")
            if words := get(sound, "transcript"):
                said.append(words)
        for call in many(delta, "tool_calls"):
            index = get(call, "index") or 0
            function = get(call, "function")
            id, name = self._calls.get(index, ("", ""))
            id, name = get(call, "id") or id, get(function, "name") or name
            self._calls[index] = (id, name)
            said.append(self._call(id, name, get(function, "arguments") or ""))
        return said

    def _call(self, id: str, name: str, arguments: str) -> CallDelta:
        # The caller executes the tools that it offered.
        theirs = name in self._callers_tools
        kind = MessageType.FUNCTION_CALL if theirs else MessageType.PLUGIN_CALL
        return CallDelta(id, name, arguments, kind)

    def whole(self, completion: Any) -> list[object]:
        said = [*self.rest(), NewMessage()]
        for choice in many(completion, "choices"):
            message = get(choice, "message")
            if thought := get(message, "reasoning_content"):
                said.append(Delta(thought, _REASONING))
            if content := get(message, "content"):
                said.append(content)
            if words := get(message, "refusal"):
                said.append(refusal(words))
            if sound := get(message, "audio"):
                said.append(audio(get(sound, "data") or ""))
            for call in many(message, "tool_calls"):
                function = get(call, "function")
                said.append(self._call(get(call, "id"), get(function, "name"), get(function, "arguments")))
        if counted := get(completion, "usage"):
            said.append(usage_of(counted))
        return said

    def rest(self) -> list[object]:
        """Returns a refusal or audio, which arrives in pieces and is reported as a whole."""
        said: list[object] = [refusal("".join(self._refusal))] if self._refusal else []
        said += [audio("".join(self._sound))] if self._sound else []
        self._refusal, self._sound, self._calls = [], [], {}
        return said
