"""Commands that run apart from the rest of the machine."""

import os


def unshared(*namespaces: str) -> list[str]:
    """The start of a command that gets namespaces of its own: as root, or in a user namespace."""
    return ["unshare", *(() if os.geteuid() == 0 else ("-Ur",)), *namespaces]
