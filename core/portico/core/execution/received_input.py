"""What people told a run so far, and how much of it the present attempt has been given."""

from collections.abc import Sequence

from portico.agent import Message
from portico.core.errors import LimitExceeded
from portico.core.log.encoding import EventEncoder

STEERED_BYTES = 4 * 1024 * 1024  # each change of the run's status writes them anew


class Answers:
    """The answers of one run, in the order of its questions, and what SteerRun told it. An attempt gets those
    of earlier ones again."""

    def __init__(self, encoder: EventEncoder) -> None:
        self._encoder = encoder
        self._given: list[Sequence[Message]] = []
        self._repeated = 0
        self._open = False  # the last question has no answer
        self.steered: list[Message] = []  # taken or not
        self._introduced = 0  # questions of earlier attempts: what led to them is in the session

    def load(self, payload: bytes) -> None:
        """Take over the answers to earlier attempts. An empty one is a question that was open."""
        self._given = list(self._encoder.load_answers(payload))
        self._introduced = len(self._given)
        if self._given and not self._given[-1]:
            self._given.pop()
            self._open = True
        self.steered = list(self._encoder.load_steered(payload))

    @property
    def introduced(self) -> bool:
        """Whether the session has what led to the next question."""
        return self._repeated < self._introduced

    @property
    def repeats(self) -> bool:
        """Whether the next question has its answer."""
        return self._repeated < len(self._given)

    def repeat(self) -> Sequence[Message]:
        """The answer to the next question."""
        self._repeated += 1
        return self._given[self._repeated - 1]

    def question(self) -> bytes:
        """The answers as the log keeps them while another question is open."""
        self._open = True
        return self._payload()

    def add(self, answer: Sequence[Message]) -> bytes:
        """Add the answer to the open question; returns the answers as the log keeps them."""
        payload = self._encoder.answers([*self._given, answer], self.steered)
        self._given.append(answer)
        self._open = False
        return payload

    def steer(self, told: Sequence[Message]) -> bytes:
        """Add what the run is told meanwhile; returns all as the log keeps it. Raises LimitExceeded."""
        steered = [*self.steered, *told]
        payload = self._payload(steered)
        if len(payload) > STEERED_BYTES:
            problem = f"what a run is told takes {STEERED_BYTES} bytes at most, with its answers"
            raise LimitExceeded("steered_bytes", problem)
        self.steered = steered
        return payload

    def _payload(self, steered: Sequence[Message] | None = None) -> bytes:
        answers = [*self._given, ()] if self._open else self._given
        return self._encoder.answers(answers, self.steered if steered is None else steered)
