"""What an agent's own mistakes are called, wherever it runs."""

from portico.agent import AgentError, Error, Rejection, Status


def failed(error: BaseException) -> tuple[Status, Error]:
    """How a run ends whose agent raised this; also SystemExit, which ends the run and nothing else."""
    if isinstance(error, Rejection):
        return Status.REJECTED, Error(error.code, error.reason)
    told = error if isinstance(error, AgentError) else unknown(error)
    return Status.FAILED, Error(told.code, told.message)


def unknown(error: BaseException) -> AgentError:
    """An exception that is not of our kinds, as one that is."""
    try:
        words = str(error)
    except Exception:
        words = "(its words can't be read)"
    message = f"Unknown agent error: {type(error).__name__}: {words}"
    return AgentError(message, code="AGENT_UNKNOWN_ERROR")


def not_to_be_yielded(item: object) -> TypeError:
    """Names what a query function may yield."""
    kind = type(item).__name__
    return TypeError(f"a query function may yield str, dict, or what portico.agent builds, not {kind}")
