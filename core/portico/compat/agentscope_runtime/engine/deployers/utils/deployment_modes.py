"""The modes of deployment on this machine."""

from enum import StrEnum


class DeploymentMode(StrEnum):
    """On a thread of this process, or as a process that outlives it."""

    DAEMON_THREAD = "daemon_thread"
    DETACHED_PROCESS = "detached_process"
    STANDALONE = "standalone"
