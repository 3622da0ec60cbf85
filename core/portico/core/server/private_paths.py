"""Paths of the core that no sandbox may mount."""

import os
from typing import Final

from portico.core.settings.core_settings import CoreSettings
from portico.core.stores.open_stores import directory_of

_ENGINE: Final = "/var/run/docker.sock"  # a process that can connect to it has root's rights


def private_paths(settings: CoreSettings) -> dict[str, str]:
    """Returns the paths by description, such as "the audit log". Raises ValueError for an unknown store."""
    sockets = [address.removeprefix("unix:") for address in settings.listen if address.startswith("unix:")]
    paths = {
        "the database's directory": directory_of(settings.store),
        "the audit log": settings.audit_log,
        **{f"the {name.replace('_', ' ')}": str(path) for name, path in settings.secret_files.items()},
        "the TLS key": str(settings.tls_key or ""),
        "the Docker engine's socket": _ENGINE if os.path.exists(_ENGINE) else "",
        **{f"the core's socket {path}": path for path in sockets},
    }
    return {what: path for what, path in paths.items() if path}
