"""What a query function gets to know and to use while it runs."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from portico.agent.a2a import Peer
from portico.agent.children import ChildRequest, ChildRun, ChildStarter
from portico.agent.protocol import AgentRequest, Budget, Message
from portico.agent.said import MessageLike, MessagesLike, to_messages
from portico.agent.sandbox import SandboxAccess, Sandboxes
from portico.telemetry import spans

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SavedState:
    """One round of an agent's state."""

    round_id: int
    state: dict[str, Any]
    etag: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """A memory that was found; a larger score is better. Times are seconds since the epoch."""

    memory_id: str
    text: str
    metadata: dict[str, Any]
    score: float
    key: str = ""  # the agent's own name of it
    created_at: float = 0.0
    updated_at: float = 0.0
    expires_at: float | None = None


class StateAccess(Protocol):
    """The agent's own state in the run's session."""

    async def save(
        self, state: Mapping[str, Any], *, round_id: int | None = None, etag: str | None = None
    ) -> SavedState:
        """Without a round: the next after the greatest. Raises when the etag does not match."""
        ...

    async def load(self, *, round_id: int | None = None) -> SavedState | None:
        """Without a round: the latest; None when nothing is saved."""
        ...

    async def delete(self, *, round_id: int | None = None) -> int:
        """Without a round: all of them. How many were removed."""
        ...

    def part(self, name: str) -> "StateAccess":
        """State of its own beside this one, such as a framework's: rounds that no other part sees.

        It goes with the session; what is saved after that is dropped. Raises ValueError for an empty name.
        """
        ...


class SessionAccess(Protocol):
    """The run's conversation. The run's own input is in it already, its output will be."""

    async def messages(self, *, limit: int = 200) -> Sequence[Message]:
        """The last messages, oldest first."""
        ...

    async def append(self, *messages: MessageLike) -> None:
        """Add messages that are not the run's output; a text is one of the user."""
        ...

    async def search(
        self,
        query: str,
        *,
        top_k: int = 10,
        roles: Collection[str] = (),
        types: Collection[str] = (),
    ) -> Sequence[Message]:
        """Messages of all the user's sessions that have these words, best first; of these roles and types
        only, if there are any."""
        ...


class MemoryAccess(Protocol):
    """What is worth remembering, of the run's user or of the agent."""

    async def add(
        self,
        text: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        key: str = "",
        created_at: float | None = None,
        expires_at: float | None = None,
    ) -> str:
        """Returns the memory's id. One with a key replaces the one that has it, and keeps its id and the time
        of its creation. Nobody finds it once it has expired."""
        ...

    async def get(self, memory_id: str = "", *, key: str = "") -> Remembered | None:
        """By its id or its key, with score 0."""
        ...

    async def update(
        self,
        memory_id: str,
        *,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expires_at: float | None = None,
    ) -> Remembered | None:
        """Replace what is given; the memory then, None if there is none."""
        ...

    async def search(
        self,
        query: str,
        *,
        top_k: int = 10,
        metadata: Mapping[str, str] | None = None,
        filter: Mapping[str, Any] | None = None,
    ) -> Sequence[Remembered]:
        """Best first. `metadata` compares members as texts; `filter` is a MetadataFilter of the contract, as
        {"all": [{"path": ["year"], "operator": "ge", "value": 2020}], "any": [[...], [...]]}."""
        ...

    async def list(
        self,
        *,
        limit: int = 200,
        metadata: Mapping[str, str] | None = None,
        filter: Mapping[str, Any] | None = None,
        before: Remembered | None = None,
    ) -> Sequence[Remembered]:
        """The newest of those that metadata and filter choose, or of those that are older than `before`, with
        score 0."""
        ...

    async def delete(self, memory_id: str = "", *, key: str = "") -> bool:
        """By its id or its key; whether there was one."""
        ...


class ResultAccess(Protocol):
    """What `once` has kept in this run: JSON by key."""

    async def load(self, key: str) -> bytes | None: ...

    async def keep(self, key: str, result: bytes) -> None:
        """Return when it is durable."""
        ...


class InputRequest:
    """A question to a human. `yield` it or `await` it: both give the answer's messages.

    In a plain function, which runs in a thread, call `wait()`.
    """

    wants_answer = True  # a generator in a thread stands still until it has one

    def __init__(
        self, context: "Context", prompt: str, schema: Mapping[str, Any] | None, kind: str = "input"
    ) -> None:
        self.id = f"input_{uuid4().hex}"
        self.kind = kind
        self.prompt = prompt
        self.schema = schema
        self._context = context

    def __await__(self) -> Generator[Any, None, Sequence[Message]]:
        return self._context.ask(self).__await__()

    def wait(self) -> Sequence[Message]:
        """The answer, in a thread of a plain function."""
        return self._context.call(self._context.ask(self))


class Rejection(Exception):
    """Ends the run with status rejected: yield it, return it or raise it."""

    def __init__(self, reason: str, code: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class AgentError(Exception):
    """Ends the run as failed with a code of the agent's own."""

    def __init__(self, message: str, *, code: str = "AGENT_ERROR") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class ReportedError(AgentError):
    """The same with the words of a framework or a model's provider, which nobody has written for callers."""


class Asker(Protocol):
    """Pauses the run until somebody has answered."""

    def __call__(self, request: InputRequest) -> Awaitable[Sequence[Message]]: ...


class OnceCaller(Protocol):
    """Calls a function unless an earlier attempt has its result."""

    async def __call__(self, key: str, function: Callable[..., Any]) -> Any: ...


class Context:
    """The run, as its agent sees it.

    `state`, `session` and `memory` are those of the run's user and session;
    `agent_memory` is what the agent itself knows, the same for all its users.
    `cancelled` turns true when the run is to stop and what is still yielded is
    dropped, `interrupted` when a last word is still heard. A coroutine sees
    asyncio.CancelledError as well; a plain function, which runs in a thread that
    nobody can stop, must look at them. `cancel_metadata` is what the one who
    cancelled said with it, such as a reason. `restarting` is true beside
    `cancelled` when the core stops: the run has not ended, and its agent is
    perhaps executed again.
    """

    def __init__(
        self,
        *,
        run_id: str,
        request: AgentRequest,
        attempt: int,
        state: StateAccess,
        session: SessionAccess,
        memory: MemoryAccess,
        agent_memory: MemoryAccess,
        ask: Asker,
        take_input: Callable[[], Awaitable[Sequence[Message]]],
        loop: asyncio.AbstractEventLoop,
        results: ResultAccess,
        once: OnceCaller,
        sandboxes: Sandboxes | None = None,
        start_run: ChildStarter | None = None,
    ) -> None:
        self.run_id = run_id
        self.request = request
        self.attempt = attempt
        self.state = state
        self.session = session
        self.memory = memory
        self.agent_memory = agent_memory
        self._ask = ask
        self._take_input = take_input
        self._loop = loop
        self.results = results
        self._once = once
        self._sandboxes = sandboxes
        self._start_run = start_run
        # Written once, from the loop, read from anywhere.
        self.cancelled = False
        self.interrupted = False
        self.restarting = False
        self.cancel_metadata: Mapping[str, Any] = {}

    @property
    def user_id(self) -> str:
        return self.request.user_id

    @property
    def session_id(self) -> str:
        return self.request.session_id

    @property
    def agent_name(self) -> str:
        return self.request.agent_name

    def sandbox(self, kind: str = "base") -> SandboxAccess:
        """The session's own sandbox: `base` has Python and a shell, `filesystem` has tools for files too."""
        if self._sandboxes is None:
            raise RuntimeError("this core has no sandboxes")
        return self._sandboxes(kind)

    def input_required(self, prompt: str, *, schema: Mapping[str, Any] | None = None) -> InputRequest:
        """Pause the run and ask a human; `schema` is a JSON Schema of the answer's data."""
        return InputRequest(self, prompt, schema)

    def auth_required(self, prompt: str, *, schema: Mapping[str, Any] | None = None) -> InputRequest:
        """Pause the run until somebody brings a credential or consents; used as input_required."""
        return InputRequest(self, prompt, schema, "authorization")

    async def new_input(self) -> Sequence[Message]:
        """What somebody told this run while it worked, since the last call; empty if nothing.

        To take it is to act on it: readers are told, and what was said before is complete.
        """
        return await self._take_input()

    async def once(self, key: str, function: Callable[..., Any]) -> Any:
        """Call the function, and keep its JSON result: another attempt of this run gets that without a call.

        An async function is awaited, a plain one runs in a thread. One that names `idempotency_key` gets
        a text that is the same in every attempt, for whoever does the work. An exception is not kept.
        Between the function's end and its record a crash has it called again. The key is of this run
        alone, 1 to 256 characters. Raises TypeError for a result that is no JSON, LimitExceeded for one of
        more than 64 KiB and before the 1,001st of a run.
        """
        return await self._once(key, function)

    def a2a(self, url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 30.0) -> Peer:
        """Another agent, by its site's or its card's base URL; `timeout` is that of connecting.

        Its task is cancelled when this run is, and the call is in this run's trace.
        """
        return Peer(url, headers=headers or {}, timeout=timeout)

    async def start_run(
        self,
        input: MessagesLike,
        *,
        agent_name: str = "",
        session_id: str = "",
        metadata: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
    ) -> ChildRun:
        """Start another run of this core, for the same user: a child run, `await child.result()`.

        It has a session of its own unless one is named, uses of this run's budget, and ends with this
        run at the latest.
        """
        if self._start_run is None:
            raise RuntimeError("this core starts no child runs")
        messages = to_messages(input)
        return await self._start_run(ChildRequest(messages, agent_name, session_id, metadata or {}, budget))

    def trace_headers(self) -> dict[str, str]:
        """The trace that this code runs in, as HTTP headers for calls of your own; none if there is none."""
        return spans.headers_of()

    def reject(self, reason: str, *, code: str = "rejected") -> Rejection:
        """Refuse the request."""
        return Rejection(reason, code)

    async def ask(self, request: InputRequest) -> Sequence[Message]:
        """What awaiting an InputRequest does."""
        return await self._ask(request)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, such as `self.state.load()`, from a plain function's thread.

        Raises RuntimeError on the event loop, which it would block for ever.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass  # a thread, as it should be
        else:
            work.close()
            raise RuntimeError("await it: wait() and call() are for plain functions, which run in threads")
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    def stop(self, *, interrupt: bool, metadata: Mapping[str, Any], restarting: bool = False) -> None:
        """Raise the flags; the runtime calls it."""
        self.cancel_metadata = metadata
        self.restarting = restarting
        if interrupt:
            self.interrupted = True
        else:
            self.cancelled = True
