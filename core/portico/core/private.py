"""The paths of a core that no sandbox may see."""

from portico.core.settings import CoreSettings
from portico.core.stores.open import directory_of


def private_paths(settings: CoreSettings) -> dict[str, str]:
    """Each with what it is."""
    paths = {
        "the database's directory": directory_of(settings.store),
        "the audit log": settings.audit_log,
        "the TLS key": str(settings.tls_key or ""),
    }
    return {what: path for what, path in paths.items() if path}
