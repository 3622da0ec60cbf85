"""Who reads the words of the exceptions that agents raise: they often repeat a request, or a secret."""

import logging
from typing import Literal
from uuid import uuid4

from portico.agent import AgentError, Rejection
from portico.agent.context import ReportedError
from portico.core.errors import Code, PorticoError
from portico.core.hosts.base.agent_errors import unknown, words_of
from portico.telemetry.logs import WITH_WORDS

# What the core says of limits and of what is away has nothing of anybody's in it, and callers must know.
_WITHOUT_DATA = frozenset((Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE))

log = logging.getLogger(__name__)

# callers: whoever reads the run, and the log if it has content. log: the log only. none: nobody.
Readers = Literal["callers", "log", "none"]


class ErrorWords:
    """Cuts the words where an exception becomes an error: what is stored and sent has them, or never had."""

    def __init__(self, readers: Readers = "log") -> None:
        self._readers = readers

    def outcome(
        self, error: BaseException, agent_name: str, run_id: str, *, stopping: bool
    ) -> Rejection | AgentError:
        """What callers get of what an agent raised; what it raises because it is to stop is nobody's."""
        if isinstance(error, Rejection | AgentError) and not isinstance(error, ReportedError):
            return error
        told = "the run was to stop"
        if not stopping:
            told = self.told(error, "agent %r raised in run %s", agent_name, run_id)
        if isinstance(error, PorticoError) and error.code in _WITHOUT_DATA:
            told = error.message
        return AgentError(told, code=error.code) if isinstance(error, ReportedError) else unknown(error, told)

    def told(self, error: BaseException, about: str, *names: object) -> str:
        """Log the exception with an id. Returns what callers are told beside its kind: its words or the id.

        `about` says what raised it, with a place for each of the names.
        """
        error_id = uuid4().hex
        shown = {WITH_WORDS: self._readers == "log"}
        log.warning(f"{about}, error %s", *names, error_id, exc_info=error, extra=shown)
        return words_of(error) if self._readers == "callers" else f"quote error {error_id} to the operator"
