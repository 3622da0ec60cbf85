"""Sandboxes of the reference that Portico does not have: making one says so."""

from typing import Any, NoReturn

from portico.compat.agentscope_runtime.errors import NotThereYet

INSTEAD = "there are BaseSandbox and FilesystemSandbox, and their async twins"


class _Elsewhere:
    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotThereYet(type(self).__name__, INSTEAD)


class GuiSandbox(_Elsewhere):
    """A desktop. Raises NotThereYet."""


class GuiSandboxAsync(_Elsewhere):
    """A desktop. Raises NotThereYet."""


class BrowserSandbox(_Elsewhere):
    """A browser. Raises NotThereYet."""


class BrowserSandboxAsync(_Elsewhere):
    """A browser. Raises NotThereYet."""


class MobileSandbox(_Elsewhere):
    """An Android device. Raises NotThereYet."""


class MobileSandboxAsync(_Elsewhere):
    """An Android device. Raises NotThereYet."""


class TrainingSandbox(_Elsewhere):
    """Environments to train agents in. Raises NotThereYet."""


class CloudSandbox(_Elsewhere):
    """A sandbox of a cloud. Raises NotThereYet."""


class AgentbaySandbox(_Elsewhere):
    """A sandbox of AgentBay. Raises NotThereYet."""
