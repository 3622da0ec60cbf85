"""Disclosure of agents' exceptions: their text often repeats a request or a secret, so it may be withheld."""

import logging
from typing import Literal
from uuid import uuid4

from portico.agent import AgentError, Rejection
from portico.agent.context import ReportedError
from portico.core.errors import Code, DomainError
from portico.core.hosts.base.agent_errors import exception_text, unknown_agent_error
from portico.telemetry.log.log_ids import WITH_WORDS

# Errors of limits and of unavailable parts contain no user data, and callers need them.
_WITHOUT_DATA = frozenset((Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE))

log = logging.getLogger(__name__)

# callers: readers of the run, and the log if it records content. log: only the log. none: not disclosed.
ErrorAudience = Literal["callers", "log", "none"]


class ErrorDisclosure:
    """Replaces the text of an exception where it becomes an error, before it is stored or sent."""

    def __init__(self, readers: ErrorAudience = "log") -> None:
        self._readers = readers

    def status_and_error(
        self, error: BaseException, agent_name: str, run_id: str, *, stopping: bool
    ) -> Rejection | AgentError:
        """The error that callers get for an agent's exception.

        Args:
            error: The exception.
            agent_name: Name of the agent.
            run_id: The run.
            stopping: The run is being stopped; then the exception's text is not disclosed.
        """
        if isinstance(error, Rejection | AgentError) and not isinstance(error, ReportedError):
            return error
        told = "the run was being stopped"
        if not stopping:
            told = self.text_for_caller(error, "agent %r raised in run %s", agent_name, run_id)
        if isinstance(error, DomainError) and error.code in _WITHOUT_DATA:
            told = error.message
        return (
            AgentError(told, code=error.code)
            if isinstance(error, ReportedError)
            else unknown_agent_error(error, told)
        )

    def text_for_caller(self, error: BaseException, about: str, *names: object) -> str:
        """Log an exception with an id.

        Args:
            error: The exception.
            about: Format of the log line, with a place for each name.
            names: The names.

        Returns:
            The text for callers: that of the exception, or a reference to the id.
        """
        error_id = uuid4().hex
        shown = {WITH_WORDS: self._readers == "log"}
        log.warning(f"{about}, error %s", *names, error_id, exc_info=error, extra=shown)
        return (
            exception_text(error) if self._readers == "callers" else f"quote error {error_id} to the operator"
        )
