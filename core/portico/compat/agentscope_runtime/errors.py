"""Errors for names of the reference that Portico does not support."""

from typing import Any, ClassVar, NoReturn


class NotThereYet(NotImplementedError):
    """A feature of the reference that Portico does not support; the message names the replacement."""

    def __init__(self, name: str, instead: str = "") -> None:
        also = f"; {instead}" if instead else ""
        super().__init__(
            f"Portico does not offer {name} of AgentScope Runtime{also}"
            " (docs/migrating-from-agentscope-runtime.md)"
        )
        self.name = name


class Elsewhere:
    """A class of the reference that Portico does not support: its constructor raises and names `instead`."""

    instead: ClassVar[str]

    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotThereYet(type(self).__name__, self.instead)
