"""Answers and steering messages that a run has received, and how many its present attempt has used."""

from collections.abc import Sequence

from portico.agent import Message
from portico.core.errors import LimitExceeded
from portico.core.log.encoding import EventEncoder

STEERED_BYTES = 4 * 1024 * 1024  # bounded because each change of the run's status writes them again


class ReceivedInput:
    """The answers of one run in the order of its questions, and its steering messages.

    A later attempt gets the answers of earlier ones without asking again.
    """

    def __init__(self, encoder: EventEncoder) -> None:
        self._encoder = encoder
        self._given: list[Sequence[Message]] = []
        self._repeated = 0
        self._open = False  # whether the last question has no answer
        self.steered: list[Message] = []  # all, whether the agent has read them or not
        self._introduced = 0  # questions of earlier attempts: the session has the output before them

    def load(self, payload: bytes) -> None:
        """Load the answers of earlier attempts. An empty last answer is an open question."""
        self._given = list(self._encoder.load_answers(payload))
        self._introduced = len(self._given)
        if self._given and not self._given[-1]:
            self._given.pop()
            self._open = True
        self.steered = list(self._encoder.load_steered(payload))

    @property
    def mark_delivered(self) -> bool:
        """Whether the session already has the output before the next question."""
        return self._repeated < self._introduced

    @property
    def is_repeat(self) -> bool:
        """Whether the next question already has its answer."""
        return self._repeated < len(self._given)

    def repeat(self) -> Sequence[Message]:
        """Return the answer to the next question."""
        self._repeated += 1
        return self._given[self._repeated - 1]

    def question(self) -> bytes:
        """Record an open question. Returns the encoded answers for the run's record."""
        self._open = True
        return self._payload()

    def add(self, answer: Sequence[Message]) -> bytes:
        """Add the answer to the open question. Returns the encoded answers for the run's record."""
        payload = self._encoder.answers([*self._given, answer], self.steered)
        self._given.append(answer)
        self._open = False
        return payload

    def add_steering(self, told: Sequence[Message]) -> bytes:
        """Add steering messages. Returns all, encoded, for the run's record. Raises LimitExceeded."""
        steered = [*self.steered, *told]
        payload = self._payload(steered)
        if len(payload) > STEERED_BYTES:
            problem = f"the answers and steering messages of a run may take {STEERED_BYTES} bytes; send less"
            raise LimitExceeded("steered_bytes", problem)
        self.steered = steered
        return payload

    def _payload(self, steered: Sequence[Message] | None = None) -> bytes:
        answers = [*self._given, ()] if self._open else self._given
        return self._encoder.answers(answers, self.steered if steered is None else steered)
