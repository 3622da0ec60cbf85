"""The environment variables that code inside sees; nothing of the owner's is among them."""

import sys
from typing import Final

from portico.sandbox.spec import Spec

ENVIRONMENT: Final = {
    "HOME": "/workspace",
    "USER": "sandbox",
    "LOGNAME": "sandbox",
    "SHELL": "/bin/bash",
    "TERM": "xterm-256color",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",  # noqa: S108
    "MPLBACKEND": "agg",
    "MPLCONFIGDIR": "/tmp/.matplotlib",  # noqa: S108
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}


def environment(spec: Spec) -> dict[str, str]:
    path = {"PATH": f"{sys.prefix}/bin:{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin"}
    return {**ENVIRONMENT, **path, **spec.env}
