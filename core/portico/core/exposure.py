"""Which addresses only this machine can reach."""

import ipaddress


def is_local(address: str) -> bool:
    """Whether a listening address, as gRPC has it, is a Unix socket or of the loopback network."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may mean any address
