"""What people answered a run so far, and how much of it the present attempt has been given."""

from collections.abc import Sequence

from portico.agent import Message
from portico.core.engine.encoding import EventEncoder


class Answers:
    """The answers of one run, in the order of its questions. An attempt gets those of earlier ones again."""

    def __init__(self, encoder: EventEncoder) -> None:
        self._encoder = encoder
        self._given: list[Sequence[Message]] = []
        self._repeated = 0
        self._introduced = 0  # questions of earlier attempts: what led to them is in the session

    def load(self, payload: bytes) -> None:
        """Take over the answers to earlier attempts. An empty one is a question that was open."""
        self._given = list(self._encoder.load_answers(payload))
        self._introduced = len(self._given)
        if self._given and not self._given[-1]:
            self._given.pop()

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
        return self._encoder.answers([*self._given, ()])

    def add(self, answer: Sequence[Message]) -> bytes:
        """Add the answer to the open question; returns the answers as the log keeps them."""
        payload = self._encoder.answers([*self._given, answer])
        self._given.append(answer)
        return payload
