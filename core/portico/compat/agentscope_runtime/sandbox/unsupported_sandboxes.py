"""Sandboxes of the reference that Portico does not support: the constructors raise."""

from portico.compat.agentscope_runtime.errors import Elsewhere

INSTEAD = "use BaseSandbox or FilesystemSandbox, or their async forms"


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
    """Environments for training agents. Raises NotThereYet."""


class CloudSandbox(_Elsewhere):
    """A sandbox of a cloud provider. Raises NotThereYet."""


class AgentbaySandbox(_Elsewhere):
    """A sandbox of AgentBay. Raises NotThereYet."""
