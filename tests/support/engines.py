"""The container engines that some sandboxes and services need, and the rule for machines without them.

`make engines` installs them where it can and lists the installed ones in `.engines`. A listed engine must
work, or its tests fail, on every machine that permits namespaces and control groups; elsewhere its tests
are skipped, and the end of the test run reports it.
"""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import pytest

from portico.sandbox.docker import images
from portico.sandbox.docker.settings import DockerSettings

RECORD: Final = Path(__file__).parents[2] / ".engines"
PROGRAMS: Final = {"docker": "dockerd", "gvisor": "runsc", "bubblewrap": "bwrap", "redis": "redis-server"}
_START_SECONDS: Final = 60.0
_RUNSC_ARGUMENTS: Final = ["--platform=ptrace", "--network=none"]


def missing(engine: str, reason: str) -> NoReturn:
    """Ends a test whose engine does not work here: fails it if the engine is required here, or skips it."""
    recorded = RECORD.read_text().split() if RECORD.exists() else []
    if PROGRAMS[engine] in recorded and (engine == "redis" or _isolates()):
        pytest.fail(f"{engine} was installed by `make engines` and does not run: {reason}")
    pytest.skip(f"NOT TESTED: {engine}: {reason} (make engines)")


def _isolates() -> bool:
    """Returns whether this machine permits what every engine needs."""
    command = ["unshare", "--mount", "--pid", "--net", "--fork", "true"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    return done.returncode == 0 and os.access("/sys/fs/cgroup", os.W_OK)


def need(engine: str) -> str:
    """Returns the path of the engine's program."""
    program = shutil.which(PROGRAMS[engine])
    if program is None:
        missing(engine, f"{PROGRAMS[engine]} is not installed")
    return program


@contextmanager
def shared_docker_engine(folder: Path) -> Iterator[str]:
    """Returns one engine for all processes of a test run that use the same folder.

    The first process starts it, and stops it when all others have ended.
    """
    with open(folder / "docker.address", "a+") as address, open(folder / "docker.users", "a") as users:
        fcntl.flock(address, fcntl.LOCK_EX)
        address.seek(0)
        if url := address.read():
            fcntl.flock(users, fcntl.LOCK_SH)
            fcntl.flock(address, fcntl.LOCK_UN)
            yield url
            return
        with docker_engine() as url:
            fcntl.flock(users, fcntl.LOCK_SH)
            address.write(url)
            address.flush()
            fcntl.flock(address, fcntl.LOCK_UN)
            yield url
            fcntl.flock(users, fcntl.LOCK_EX)


@contextmanager
def docker_engine() -> Iterator[str]:
    """Starts a separate engine with the image of sandboxes; yields its address."""
    if os.geteuid() != 0:
        missing("docker", "an engine can be started by root only")
    program = need("docker")
    with tempfile.TemporaryDirectory(prefix="portico-docker-", ignore_cleanup_errors=True) as folder:
        config = Path(folder, "daemon.json")
        runsc = {"path": shutil.which("runsc"), "runtimeArgs": _RUNSC_ARGUMENTS}
        config.write_text(json.dumps({"runtimes": {"runsc": runsc} if runsc["path"] else {}}))
        url = f"unix://{folder}/docker.sock"
        with open(f"{folder}/log", "wb") as log:
            # It ends with the tests, however they end.
            daemon = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "TERM", program, "--config-file", str(config), "--host", url,
                    "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
                    "--pidfile", f"{folder}/pid",
                    "--bridge", "none", "--iptables=false", "--ip6tables=false",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            problem = _wait(daemon, url)
            if problem:
                missing("docker", f"{problem}: {Path(folder, 'log').read_text()[-1000:]}")
            asyncio.run(images.build(DockerSettings(url=url), local_root=True))
            yield url
        finally:
            daemon.terminate()
            daemon.wait(60)


def _wait(daemon: subprocess.Popen[bytes], url: str) -> str:
    """Returns an empty text when the engine answers, or else the problem."""
    end = time.monotonic() + _START_SECONDS
    while not os.path.exists(url.removeprefix("unix://")):
        if daemon.poll() is not None:
            return f"dockerd has ended with status {daemon.returncode}"
        if time.monotonic() > end:
            return "dockerd does not answer"
        time.sleep(0.05)
    return ""
