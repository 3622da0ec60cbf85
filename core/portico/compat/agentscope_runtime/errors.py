"""What of the reference is not here."""


class NotThereYet(NotImplementedError):
    """A name of the reference that Portico does not offer; the message says what to use in its place."""

    def __init__(self, name: str, instead: str = "") -> None:
        also = f"; {instead}" if instead else ""
        super().__init__(
            f"Portico does not offer {name} of AgentScope Runtime{also}"
            " (docs/migrating-from-agentscope-runtime.md)"
        )
        self.name = name
