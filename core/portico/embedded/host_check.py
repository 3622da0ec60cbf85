"""Restricts the listening host of an embedded agent, which is served without auth."""

import logging

from portico.gateways.core_auth_check import is_loopback_host
from portico.gateways.http.settings import HttpSettings

log = logging.getLogger(__name__)
LOOPBACK = "127.0.0.1"


def allowed_host(host: str) -> tuple[str, bool]:
    """The host to listen on, and whether other machines can reach it.

    A host that other machines can reach is replaced by loopback, with a warning that says what to do, unless
    the operator allows access without auth.
    """
    if is_loopback_host(host):
        return host, False
    if HttpSettings().insecure_no_auth:
        return host, True
    log.warning(
        "other machines could reach %s without a credential: serving on %s only. Use `portico run --auth` "
        "instead (docs/security.md), or set PORTICO_HTTP_INSECURE_NO_AUTH=true",
        host,
        LOOPBACK,
    )
    return LOOPBACK, False
