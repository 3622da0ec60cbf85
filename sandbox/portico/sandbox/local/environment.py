"""The environment variables that code inside sees; nothing of the owner's is among them."""

import sys
from typing import Final

from portico.sandbox.inside.network import PROXY_PORT
from portico.sandbox.inside.packages import PREFIX
from portico.sandbox.spec import Spec

_PROXY: Final = f"http://127.0.0.1:{PROXY_PORT}"
_DIRECT: Final = "localhost,127.0.0.1,::1,0.0.0.0,sandbox"
BIN: Final = f"{PREFIX}/bin:{PREFIX}/local/bin"  # programs that pip has installed; the second is Debian's
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
    # Also without a network: then it is the agent that answers there, and says so.
    **dict.fromkeys(
        ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), _PROXY
    ),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), _DIRECT),
    "PIP_PREFIX": PREFIX,
    "PIP_RETRIES": "1",  # pip names the error before the second try
    "PIP_NO_INPUT": "1",  # or it would wait for a password
    "PIP_NO_CACHE_DIR": "1",  # the disk is small
    "PIP_NO_COMPILE": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_WARN_SCRIPT_LOCATION": "1",
}


def environment(spec: Spec) -> dict[str, str]:
    path = {"PATH": f"{BIN}:{sys.prefix}/bin:{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin"}
    return {**ENVIRONMENT, **path, **spec.env}
