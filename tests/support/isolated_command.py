"""Commands that run isolated from the rest of the machine."""

import os


def unshared(*namespaces: str) -> list[str]:
    """Returns the prefix of a command that gets its own namespaces: as root, or in a user namespace."""
    return ["unshare", *(() if os.geteuid() == 0 else ("-Ur",)), *namespaces]
