"""A core and its gateways on a thread of this process, for programs that deploy an agent and go on.

`portico run` is for all else: there the crash of one is not the end of the other, and signals mean something.
"""

import os

# Before gRPC is imported: see portico.core.__main__.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

from portico.embedded.embedded_server import Embedded
from portico.embedded.host_check import allowed_host

__all__ = ["Embedded", "allowed_host"]
