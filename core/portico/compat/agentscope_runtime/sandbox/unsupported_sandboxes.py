"""Sandboxes of the reference that Portico does not have: making one says so."""

from portico.compat.agentscope_runtime.errors import Elsewhere

INSTEAD = "there are BaseSandbox and FilesystemSandbox, and their async twins"


class _Elsewhere(Elsewhere):
    instead = INSTEAD


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
