"""Network address of a call's caller, for the audit log.

A gateway sends the address of its own caller in the metadata of its calls. Any client can send such metadata,
so it counts only if the connection proves to come from a gateway: it is a Unix socket that only this core's
user can open, or the client certificate has a gateway's name.
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


class ClientAddress(NamedTuple):
    """Addresses of a call: IP addresses, or `unix`; empty if unknown."""

    address: str
    via: str = ""  # address of the gateway that reported the caller's address


class ClientAddressResolver:
    """Determines the origin of a core's calls."""

    def __init__(self, gateway_names: Collection[str] = (), *, private_sockets: bool = False) -> None:
        """`gateway_names` are names in gateways' client certificates. `private_sockets`: only this core's
        user can open the Unix sockets that it listens on."""
        self._gateway_names = frozenset(gateway_names)
        self._private_sockets = private_sockets

    def enter(self, context: ServicerContext) -> None:
        """Sets the current call for the rest of this task and for tasks that it starts."""
        _call.set(_Call(self, context))

    def is_gateway(self, context: ServicerContext, peer: str) -> bool:
        """Whether the connection proves to come from a gateway."""
        if peer == UNIX:
            return self._private_sockets
        if not self._gateway_names:
            return False
        about = context.auth_context()
        names = {name.decode(errors="replace") for key in _NAMES for name in about.get(key, ())}
        return not names.isdisjoint(self._gateway_names)


class _Call:
    """A call, or a multiplexed call; its peer is determined once."""

    def __init__(self, origins: ClientAddressResolver, context: ServicerContext) -> None:
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
        """The caller's address in the call's own metadata."""
        metadata = self._context.invocation_metadata() or ()
        found = next((value for name, value in metadata if name == CLIENT_ADDRESS), "")
        return found if isinstance(found, str) else ""


_call: ContextVar[_Call] = ContextVar("portico call")


def current_client_address(metadata: Mapping[str, str] | None = None) -> ClientAddress:
    """Origin of the current call; `metadata` is that of a multiplexed stream."""
    call = _call.get(None)
    if call is None:
        return ClientAddress("")
    told = call.told if metadata is None else metadata.get(CLIENT_ADDRESS, "")
    address = _address(told)
    return ClientAddress(address, call.peer) if address and call.is_gateway else ClientAddress(call.peer)


def _peer(peer: str) -> str:
    """Address in gRPC's notation of a peer, such as ipv6:%5B::1%5D:50051."""
    kind, _, rest = unquote(peer).partition(":")
    return _address(rest.rpartition(":")[0].strip("[]")) if kind in ("ipv4", "ipv6") else UNIX


@lru_cache(maxsize=1024)
def _address(text: str) -> str:
    """An IP address in canonical form; empty if the text is not an IP address."""
    if not text or len(text) > _CHARACTERS:
        return ""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
