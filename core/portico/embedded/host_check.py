"""Where an agent that nobody needs a credential for may listen."""

import logging

from portico.gateways.core_auth_check import is_local
from portico.gateways.http.settings import HttpSettings

log = logging.getLogger(__name__)
LOOPBACK = "127.0.0.1"


def allowed_host(host: str) -> tuple[str, bool]:
    """The host itself, and whether other machines reach it, if only this one does or the operator allows all;
    else loopback, with a warning that says what to do."""
    if is_local(host):
        return host, False
    if HttpSettings().insecure_no_auth:
        return host, True
    log.warning(
        "other machines could reach %s, and nobody would need a credential: serving on %s only. Put "
        "`portico run --auth` there (docs/security.md), or set PORTICO_HTTP_INSECURE_NO_AUTH=true",
        host,
        LOOPBACK,
    )
    return LOOPBACK, False
