"""Context: the information and the operations that a query function has while its run executes."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from portico.agent.a2a import Peer
from portico.agent.child_runs import ChildRequest, ChildRun, ChildStarter
from portico.agent.message_input import MessageLike, MessagesLike, to_messages
from portico.agent.sandbox import SandboxAccess, Sandboxes
from portico.model.messages import AgentRequest, Budget, Message
from portico.telemetry.tracing import spans

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SavedState:
    """One saved round (numbered version) of an agent's state."""

    round_id: int
    state: dict[str, Any]
    etag: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """A stored memory; a larger score is a better match. Times are seconds since the epoch."""

    memory_id: str
    text: str
    metadata: dict[str, Any]
    score: float
    key: str = ""  # the name that the agent chose
    created_at: float = 0.0
    updated_at: float = 0.0
    expires_at: float | None = None


class StateAccess(Protocol):
    """The agent's own state in the run's session."""

    async def save(
        self, state: Mapping[str, Any], *, round_id: int | None = None, etag: str | None = None
    ) -> SavedState:
        """Saves a round.

        Args:
            round_id: The round to write; without one, the number after the greatest.
            etag: The etag that the stored round must have; without one, no check.

        Raises:
            EtagMismatch: The stored round has another etag.
        """
        ...

    async def load(self, *, round_id: int | None = None) -> SavedState | None:
        """Returns a round, by default the latest; None if nothing is saved."""
        ...

    async def delete(self, *, round_id: int | None = None) -> int:
        """Deletes a round, by default all of them; returns how many existed."""
        ...

    def part(self, name: str) -> "StateAccess":
        """Returns a separate state beside this one, such as a framework's, with its own rounds.

        Deleting the session deletes the part; rounds saved after that are dropped. Raises ValueError for an
        empty name.
        """
        ...


class SessionAccess(Protocol):
    """The run's session. It contains the run's input already; the run's output is added later."""

    async def messages(self, *, limit: int = 200) -> Sequence[Message]:
        """Returns the last messages, oldest first."""
        ...

    async def append(self, *messages: MessageLike) -> None:
        """Adds messages that are not part of the run's output; a str becomes a user message."""
        ...

    async def search(
        self,
        query: str,
        *,
        top_k: int = 10,
        roles: Collection[str] = (),
        types: Collection[str] = (),
    ) -> Sequence[Message]:
        """Searches the messages of all sessions of the user.

        Args:
            query: Words that the messages contain.
            top_k: The most messages to return.
            roles: Only messages of these roles; all if empty.
            types: Only messages of these types; all if empty.

        Returns:
            The messages found, best match first.
        """
        ...


class MemoryAccess(Protocol):
    """Long-term memories of the run's user, or of the agent."""

    async def add(
        self,
        text: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        key: str = "",
        created_at: float | None = None,
        expires_at: float | None = None,
    ) -> str:
        """Stores a memory.

        Args:
            key: A name that the agent chooses. A memory with the same key is replaced; its id and creation
                time stay.
            created_at: Seconds since the epoch; now by default.
            expires_at: Seconds since the epoch; from then on no call returns the memory.

        Returns:
            The memory's id.
        """
        ...

    async def get(self, memory_id: str = "", *, key: str = "") -> Remembered | None:
        """Returns a memory by its id or its key, with score 0; None if it does not exist."""
        ...

    async def update(
        self,
        memory_id: str,
        *,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expires_at: float | None = None,
    ) -> Remembered | None:
        """Replaces the fields that are not None. Returns the new memory; None if it does not exist."""
        ...

    async def search(
        self,
        query: str,
        *,
        top_k: int = 10,
        metadata: Mapping[str, str] | None = None,
        filter: Mapping[str, Any] | None = None,
    ) -> Sequence[Remembered]:
        """Searches memories.

        Args:
            top_k: The most memories to return.
            metadata: Members that the metadata must have, compared as text.
            filter: A MetadataFilter of the contract, such as
                {"all": [{"path": ["year"], "operator": "ge", "value": 2020}], "any": [[...], [...]]}.

        Returns:
            The memories found, best match first.
        """
        ...

    async def list(
        self,
        *,
        limit: int = 200,
        metadata: Mapping[str, str] | None = None,
        filter: Mapping[str, Any] | None = None,
        before: Remembered | None = None,
    ) -> Sequence[Remembered]:
        """Lists memories, newest first, with score 0.

        Args:
            limit: The most memories to return.
            metadata: As for `search`.
            filter: As for `search`.
            before: Only memories older than this one, such as the last of the previous page.
        """
        ...

    async def delete(self, memory_id: str = "", *, key: str = "") -> bool:
        """Deletes a memory by its id or its key; returns whether it existed."""
        ...


class ResultAccess(Protocol):
    """Results that `once` has stored for this run: JSON by key."""

    async def load(self, key: str) -> bytes | None: ...

    async def keep(self, key: str, result: bytes) -> None:
        """Stores a result; returns when it is durable."""
        ...


class InputRequest:
    """A question to a human. `yield` or `await` it: both return the messages of the answer.

    In a plain function, which runs in a thread, call `wait()`.
    """

    wants_answer = True  # a generator in a thread blocks until the answer arrives

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
        """Blocks until the answer arrives and returns it; for plain functions, which run in threads."""
        return self._context.call(self._context.ask(self))


class Rejection(Exception):
    """Ends the run with the status rejected: yield it, return it or raise it."""

    def __init__(self, reason: str, code: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class AgentError(Exception):
    """Ends the run as failed, with a message for the caller and an error code that the agent chooses."""

    def __init__(self, message: str, *, code: str = "AGENT_ERROR") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class ReportedError(AgentError):
    """An AgentError with a message of a framework or a model provider, not written for callers."""


class Asker(Protocol):
    """Pauses the run until the answer to a request arrives."""

    def __call__(self, request: InputRequest) -> Awaitable[Sequence[Message]]: ...


class OnceCaller(Protocol):
    """Calls a function unless an earlier attempt of the run has stored its result."""

    async def __call__(self, key: str, function: Callable[..., Any]) -> Any: ...


class Context:
    """The run that a query function executes.

    Attributes:
        run_id: The run's id.
        request: The AgentRequest that started the run.
        attempt: Number of this execution of the run; larger after a restart or an answer.
        state: State of the agent in the run's session.
        session: The run's session.
        memory: Memories of the run's user.
        agent_memory: Memories of the agent, the same for all its users.
        cancelled: The run must stop; later output is dropped.
        interrupted: The run must stop; its last output still counts.
        restarting: True beside `cancelled` when the core stops: the run has not ended, and its agent may
            execute again.
        cancel_metadata: Metadata of the cancel or interrupt request, such as a reason.

    When `cancelled` or `interrupted` is set, a coroutine also receives asyncio.CancelledError. A plain
    function runs in a thread that can't be stopped from outside, so it must check these attributes.
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
        # The event loop writes these once; any thread reads them.
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
        """Returns the session's sandbox of a type, created at the first use.

        Args:
            kind: `base` has Python and a shell; `filesystem` also has tools for files.

        Raises:
            RuntimeError: The core has no sandboxes.
        """
        if self._sandboxes is None:
            raise RuntimeError("this core has no sandboxes: its sandbox backend is none")
        return self._sandboxes(kind)

    def input_required(self, prompt: str, *, schema: Mapping[str, Any] | None = None) -> InputRequest:
        """Makes a question to a human that pauses the run; `schema` is a JSON Schema of the answer's data."""
        return InputRequest(self, prompt, schema)

    def auth_required(self, prompt: str, *, schema: Mapping[str, Any] | None = None) -> InputRequest:
        """Makes a request for a credential or for consent, which pauses the run; used as input_required."""
        return InputRequest(self, prompt, schema, "authorization")

    async def new_input(self) -> Sequence[Message]:
        """Takes the input that callers sent to this executing run since the last call; empty if none.

        Taking input publishes an event to the run's readers and completes the open message, so call this only
        to act on the input.
        """
        return await self._take_input()

    async def once(self, key: str, function: Callable[..., Any]) -> Any:
        """Calls a function and stores its JSON result; later attempts of this run return it without a call.

        An exception is not stored. A crash after the function has ended and before its result is stored makes
        the next attempt call the function again.

        Args:
            key: Name of the step, unique within this run; 1 to 256 characters.
            function: An async function is awaited; a plain function runs in a thread. If it has a parameter
                `idempotency_key`, it receives a text that is the same in every attempt, for the service that
                does the work.

        Returns:
            The function's result, decoded from JSON.

        Raises:
            TypeError: The result can't be encoded as JSON.
            LimitExceeded: The result is larger than 64 KiB, or the run already has 1,000 results.
        """
        return await self._once(key, function)

    def a2a(self, url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 30.0) -> Peer:
        """Returns a client for another agent. Its calls belong to this run's trace.

        Cancelling this run cancels the peer's task.

        Args:
            url: Base URL of the agent's site or of its agent card.
            headers: HTTP headers of every request.
            timeout: Seconds for connecting and writing; reading has no limit.
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
        """Starts a child run in this core for the same user; `await child.result()` waits for its end.

        A child run uses its parent's budget and ends with its parent at the latest.

        Args:
            input: A text, a message, or several messages.
            agent_name: The agent that executes the child run.
            session_id: The child run's session; by default a new one.
            budget: Limits for the child run within this run's budget.

        Raises:
            RuntimeError: This runtime has no child runs.
        """
        if self._start_run is None:
            raise RuntimeError("this runtime has no child runs")
        messages = to_messages(input)
        return await self._start_run(ChildRequest(messages, agent_name, session_id, metadata or {}, budget))

    def trace_headers(self) -> dict[str, str]:
        """Returns the current trace context as HTTP headers, for the agent's own calls; empty without one."""
        return spans.headers_of()

    def reject(self, reason: str, *, code: str = "rejected") -> Rejection:
        """Makes a Rejection: yield, return or raise it to refuse the request."""
        return Rejection(reason, code)

    async def ask(self, request: InputRequest) -> Sequence[Message]:
        """Pauses the run until the request is answered; awaiting an InputRequest calls this."""
        return await self._ask(request)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine, such as `self.state.load()`, from a plain function's thread; returns its result.

        Raises:
            RuntimeError: The caller is on the event loop, which this call would block for ever.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass  # correct: the caller is in a thread
        else:
            work.close()
            raise RuntimeError("await it: wait() and call() are for plain functions, which run in threads")
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    def stop(self, *, interrupt: bool, metadata: Mapping[str, Any], restarting: bool = False) -> None:
        """Sets the flags; only the runtime calls this."""
        self.cancel_metadata = metadata
        self.restarting = restarting
        if interrupt:
            self.interrupted = True
        else:
            self.cancelled = True
