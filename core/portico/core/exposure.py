"""Listening addresses, as gRPC has them: whether other machines reach one, and what is wrong with it."""

import ipaddress
import os
import socket

ABSTRACT = "unix-abstract:"  # of no file: every user of the machine can connect
UNIX = ("unix:", ABSTRACT)


def is_local(address: str) -> bool:
    """Whether an address is a Unix socket or of the loopback network."""
    if address.startswith(UNIX):
        return True
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may mean any address


def why_not(address: str) -> str:
    """Why nothing can listen on it, which gRPC does not say; empty if something can."""
    try:
        if address.startswith(UNIX):
            path = address.removeprefix("unix:").removeprefix("//")
            with socket.socket(socket.AF_UNIX) as probe:
                probe.bind(path)
            os.unlink(path)
            return ""
        host, _, port = address.rpartition(":")
        for family, kind, protocol, _, where in socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
    except (OSError, OverflowError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""
