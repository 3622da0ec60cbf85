"""A core and its gateways in a thread of this process, for programs that deploy an agent and continue.

In all other cases use `portico run`: it separates the processes, so that a crash of one does not end the
other, and it handles signals.
"""

import os

# Set before gRPC is imported; portico.core.__main__ has the reasons.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

from portico.embedded.embedded_server import Embedded
from portico.embedded.host_check import allowed_host

__all__ = ["Embedded", "allowed_host"]
