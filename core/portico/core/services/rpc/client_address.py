"""Where a call comes from, for those who write it down: the address of its caller.

A gateway tells the address of who has called it in the metadata of its own calls. Anybody can send such
metadata, so it counts only where the connection shows that a gateway is at its other end: it is a Unix socket
that only this core's user can open, or the client's certificate has a gateway's name.
"""

import ipaddress
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from functools import cached_property, lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from grpc.aio import ServicerContext

CLIENT_ADDRESS = "x-portico-client-address"
UNIX = "unix"
_CHARACTERS = 64
_NAMES = ("x509_common_name", "x509_subject_alternative_name")


class Origin(NamedTuple):
    """Both are IP addresses, or `unix`; empty where nothing is known."""

    address: str
    via: str = ""  # the gateway that has told the address


class Origins:
    """Of the calls of one core."""

    def __init__(self, gateway_names: Collection[str] = (), *, private_sockets: bool = False) -> None:
        """`private_sockets` says that only this core's user can open the Unix sockets it listens on."""
        self._gateway_names = frozenset(gateway_names)
        self._private_sockets = private_sockets

    def enter(self, context: ServicerContext) -> None:
        """The rest of this call's task, and what it starts, belongs to this call."""
        _call.set(_Call(self, context))

    def is_gateway(self, context: ServicerContext, peer: str) -> bool:
        """Whether the connection shows that a gateway is at its other end."""
        if peer == UNIX:
            return self._private_sockets
        if not self._gateway_names:
            return False
        about = context.auth_context()
        names = {name.decode(errors="replace") for key in _NAMES for name in about.get(key, ())}
        return not names.isdisjoint(self._gateway_names)


class _Call:
    """A call, or a connection that carries many: what is known of its other end is found out once."""

    def __init__(self, origins: Origins, context: ServicerContext) -> None:
        self._origins = origins
        self._context = context

    @cached_property
    def peer(self) -> str:
        return _peer(self._context.peer())

    @cached_property
    def is_gateway(self) -> bool:
        return self._origins.is_gateway(self._context, self.peer)

    @property
    def told(self) -> str:
        """What its own metadata says of its caller's address."""
        metadata = self._context.invocation_metadata() or ()
        found = next((value for name, value in metadata if name == CLIENT_ADDRESS), "")
        return found if isinstance(found, str) else ""


_call: ContextVar[_Call] = ContextVar("portico call")


def origin(metadata: Mapping[str, str] | None = None) -> Origin:
    """Of the call that this code works for; the metadata is that of a stream which shares it with others."""
    call = _call.get(None)
    if call is None:
        return Origin("")
    told = call.told if metadata is None else metadata.get(CLIENT_ADDRESS, "")
    address = _address(told)
    return Origin(address, call.peer) if address and call.is_gateway else Origin(call.peer)


def _peer(peer: str) -> str:
    """From gRPC's words, such as ipv6:%5B::1%5D:50051."""
    kind, _, rest = unquote(peer).partition(":")
    return _address(rest.rpartition(":")[0].strip("[]")) if kind in ("ipv4", "ipv6") else UNIX


@lru_cache(maxsize=1024)
def _address(text: str) -> str:
    """An IP address in its usual form; empty for what is none."""
    if not text or len(text) > _CHARACTERS:
        return ""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
