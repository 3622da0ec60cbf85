"""Where `pip install` puts packages in a sandbox, and how Python finds them there.

The system's directories are read-only, so pip gets a prefix in the workspace. Debian's Pythons have several
package directories below a prefix, and which one pip uses depends on its version.
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
    """Returns the environment with the package directories appended to PYTHONPATH."""
    own = [env["PYTHONPATH"]] if env.get("PYTHONPATH") else []
    return {**env, "PYTHONPATH": ":".join([*own, *FOLDERS])}


def expect() -> None:
    """Makes this process look in package directories that do not exist yet. Otherwise Python caches that they
    are missing, and a kernel would not find packages that are installed after its first import."""
    loaders = (
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (SourceFileLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )
    for folder in FOLDERS:
        sys.path_importer_cache[folder] = FileFinder(folder, *loaders)
