"""Sandboxes that run untrusted Python code and shell commands, isolated, without a daemon.

with BaseSandbox() as box:
    print(box.run_ipython_cell(code="1 + 1"))
"""

from portico.sandbox.direct import BaseSandbox, BaseSandboxAsync, FilesystemSandbox, FilesystemSandboxAsync

__all__ = ["BaseSandbox", "BaseSandboxAsync", "FilesystemSandbox", "FilesystemSandboxAsync"]
