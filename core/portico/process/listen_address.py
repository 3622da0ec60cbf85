"""Listening addresses in gRPC's notation: whether other machines can reach one, why one can't be used."""

import ipaddress
import os
import socket

ABSTRACT_UNIX_PREFIX = "unix-abstract:"  # a socket without a file: every user of the machine can connect
UNIX_PREFIXES = ("unix:", ABSTRACT_UNIX_PREFIX)


def is_local_grpc_address(address: str) -> bool:
    """Whether only this machine can reach an address: a Unix socket or a loopback address."""
    if address.startswith(UNIX_PREFIXES):
        return True
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a host name may resolve to any address


def address_error(address: str) -> str:
    """Why this process can't listen on an address (gRPC does not report the reason); empty if it can."""
    try:
        if address.startswith(UNIX_PREFIXES):
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
