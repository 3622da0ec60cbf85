"""The environment variables of code in a sandbox. None of the owner's variables is passed."""

import sys
from typing import Final

from portico.sandbox.inside.network import PROXY_PORT
from portico.sandbox.inside.packages import PREFIX
from portico.sandbox.spec import Spec

_PROXY: Final = f"http://127.0.0.1:{PROXY_PORT}"
_DIRECT: Final = "localhost,127.0.0.1,::1,0.0.0.0,sandbox"
BIN: Final = f"{PREFIX}/bin:{PREFIX}/local/bin"  # programs installed by pip; the second is Debian's path
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
    # Also without a network: then the supervisor answers there with an error that says so.
    **dict.fromkeys(
        ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), _PROXY
    ),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), _DIRECT),
    "PIP_PREFIX": PREFIX,
    "PIP_RETRIES": "1",  # pip prints the error before its second attempt
    "PIP_NO_INPUT": "1",  # otherwise pip would wait for a password
    "PIP_NO_CACHE_DIR": "1",  # the disk limit is small
    "PIP_NO_COMPILE": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_WARN_SCRIPT_LOCATION": "1",
}


def environment(spec: Spec) -> dict[str, str]:
    """Returns the variables for a sandbox of this machine, including those of the spec."""
    path = {"PATH": f"{BIN}:{sys.prefix}/bin:{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin"}
    return {**ENVIRONMENT, **path, **spec.env}
