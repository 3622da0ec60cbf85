"""Kinds of sandboxes, under the reference's names."""

from enum import Enum


class SandboxType(Enum):
    """The reference's types; `base` and `filesystem`, and their async forms, are supported."""

    DUMMY = "dummy"
    BASE = "base"
    BROWSER = "browser"
    FILESYSTEM = "filesystem"
    GUI = "gui"
    MOBILE = "mobile"
    APPWORLD = "appworld"
    BFCL = "bfcl"
    AGENTBAY = "agentbay"
    BASE_ASYNC = "base_async"
    BROWSER_ASYNC = "browser_async"
    FILESYSTEM_ASYNC = "filesystem_async"
    GUI_ASYNC = "gui_async"
    MOBILE_ASYNC = "mobile_async"
