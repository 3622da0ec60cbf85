"""Resource limits of each process in a sandbox, in addition to those of its spec."""

from typing import Final

ALWAYS: Final = {
    "RLIMIT_NOFILE": 1_024,
    "RLIMIT_CORE": 0,
    "RLIMIT_MEMLOCK": 64 << 10,
    "RLIMIT_MSGQUEUE": 0,  # POSIX message queues
    "RLIMIT_SIGPENDING": 1_024,  # queued signals and timers
    "RLIMIT_NICE": 0,  # no raised priority, even if the owner may have one
    "RLIMIT_RTPRIO": 0,
}
