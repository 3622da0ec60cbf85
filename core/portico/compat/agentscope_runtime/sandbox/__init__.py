"""Sandboxes, under the reference's names."""

from portico.compat.agentscope_runtime.sandbox.sandbox_classes import (
    BaseSandbox,
    BaseSandboxAsync,
    FilesystemSandbox,
    FilesystemSandboxAsync,
)
from portico.compat.agentscope_runtime.sandbox.unsupported_sandboxes import (
    AgentbaySandbox,
    BrowserSandbox,
    BrowserSandboxAsync,
    CloudSandbox,
    GuiSandbox,
    GuiSandboxAsync,
    MobileSandbox,
    MobileSandboxAsync,
    TrainingSandbox,
)

__all__ = [
    "AgentbaySandbox",
    "BaseSandbox",
    "BaseSandboxAsync",
    "BrowserSandbox",
    "BrowserSandboxAsync",
    "CloudSandbox",
    "FilesystemSandbox",
    "FilesystemSandboxAsync",
    "GuiSandbox",
    "GuiSandboxAsync",
    "MobileSandbox",
    "MobileSandboxAsync",
    "TrainingSandbox",
]
