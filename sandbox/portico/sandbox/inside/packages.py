"""Where `pip install` puts packages inside, and how every Python there finds them.

The system's own places are read-only, so pip is given a prefix in the workspace. Debian's Pythons have more
than one folder for packages below a prefix, and which one pip takes depends on the pip.
"""

import site
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from typing import Final

PREFIX: Final = "/workspace/.local"  # the environment's PIP_PREFIX
_USUAL: Final = f"{PREFIX}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
FOLDERS: Final = list(dict.fromkeys((_USUAL, *site.getsitepackages([PREFIX]))))


def shown(env: dict[str, str]) -> dict[str, str]:
    """The environment in which programs find the packages, behind the PYTHONPATH that it has."""
    own = [env["PYTHONPATH"]] if env.get("PYTHONPATH") else []
    return {**env, "PYTHONPATH": ":".join([*own, *FOLDERS])}


def expect() -> None:
    """Makes this process ready to find packages in folders that do not exist yet. Without this, Python
    remembers that they don't, and a kernel would not see packages installed after its first import."""
    loaders = (
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (SourceFileLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )
    for folder in FOLDERS:
        sys.path_importer_cache[folder] = FileFinder(folder, *loaders)
