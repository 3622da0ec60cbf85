"""`portico run` serves in containers, company networks and old shells, or reports why it cannot."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.deployment import free_port

AGENT = Path(__file__).parent / "agents" / "surrounded.py"
PROGRAM = Path(__file__).parents[1] / "support" / "run_and_ask.py"
MEMORY = ("--store", "memory://")
# a user that /etc/passwd does not have
NOBODY = ("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups")
LIBRARIES = (
    "asyncio",
    "docker",
    "grpc",
    "httpx",
    "logging",
    "mcp",
    "openai",
    "orjson",
    "signal",
    "typing",
    "uvicorn",
)
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "grpc_proxy")


def in_namespaces(kinds: str, *script: str) -> Sequence[str]:
    """Returns the prefix of a command that runs in new namespaces after the script."""
    return ("unshare", *kinds.split(), "sh", "-ec", "; ".join([*script, 'exec "$@"']), "sh")


@dataclass
class Surroundings:
    """The environment of `portico run`. `{folder}` stands for a test's folder that every user can enter."""

    wrapper: Sequence[str] = ()
    prefix: Sequence[str] = ()  # before `portico run` only
    variables: dict[str, str] = field(default_factory=dict)
    unset: Sequence[str] = ()
    inherited: dict[str, Any] = field(default_factory=dict)
    options: Sequence[str] = MEMORY
    host: str = "127.0.0.1"
    signal: str = "SIGTERM"
    agent: str = str(AGENT)
    says: str = ""  # the expected message, if it must not serve


READ_ONLY = in_namespaces(
    "--mount",
    "mount --make-rprivate /",
    "for m in $(findmnt -rno TARGET | grep -vE '^/(proc|sys)'); do mount -o remount,bind,ro $m || :; done",
)
CASES = {
    "process 1 of a container": Surroundings(
        prefix=("unshare", "--pid", "--fork", "--mount-proc"), unset=("HOME",)
    ),
    "a read-only root, and a user without a name": Surroundings(
        wrapper=(*READ_ONLY, *NOBODY), unset=("HOME", "USER", "LOGNAME"), variables={"HOME": "/nonexistent"}
    ),
    "a company's network, and a folder full of libraries' names": Surroundings(
        variables={
            **dict.fromkeys(PROXIES, "http://127.0.0.1:9"),
            "NO_PROXY": "intranet.example",
            "LC_ALL": "xx_YY.odd",
            "TZ": "Mars/Base",
            "TERM": "dumb",
            "PYTHONWARNINGS": "error",
            "PYTHONPATH": "/nonexistent:/etc/passwd",
        },
        signal="SIGINT",
    ),
    "IPv6 alone": Surroundings(
        wrapper=in_namespaces("--net", "ip link set lo up", "ip addr del 127.0.0.1/8 dev lo"),
        options=(*MEMORY, "--host", "::1"),
        host="::1",
    ),
    "neither IPv6 nor /proc": Surroundings(
        wrapper=in_namespaces(
            "--net --mount",
            "ip link set lo up",
            "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
            "mount -t tmpfs none /proc",
        )
    ),
    "no loopback": Surroundings(
        wrapper=in_namespaces("--net"),
        says="nobody can connect to 127.0.0.1:.*; is the loopback interface up?",
    ),
    "closed standard streams, and a working folder that is gone": Surroundings(
        inherited={"closed": [0, 1, 2], "removed_folder": "{folder}/removed"}
    ),
    "signals that are ignored and blocked, a hostile umask, few files": Surroundings(
        wrapper=NOBODY,
        inherited={
            "ignored": ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGCHLD", "SIGPIPE"],
            "blocked": ["SIGTERM", "SIGINT", "SIGCHLD"],
            "umask": 0o777,
            "open_files": [40, 4096],
        },
        options=("--data-dir", "{folder}/data"),
    ),
    "nothing but ASCII, no umask, a limit that can't be raised": Surroundings(
        variables={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        inherited={"umask": 0, "open_files": [64, 64]},
        options=("--data-dir", "{folder}/dätä"),
        agent="{folder}/ägent.py",
    ),
    "a full /tmp, and a long name for temporary files": Surroundings(
        wrapper=in_namespaces(
            "--mount", "mount -t tmpfs -o size=4k,nr_inodes=2 none /tmp", "echo x > /tmp/x"
        ),
        variables={"TMPDIR": "{folder}/" + "long" * 30},
        signal="SIGHUP",
    ),
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own folder, which is for one user and in /tmp, which some tests cover."""
    made = Path(tempfile.mkdtemp(dir="/var/tmp"))
    made.chmod(0o777)
    (made / ("long" * 30)).mkdir()
    shutil.copy(AGENT, made / "ägent.py")
    for name in LIBRARIES:
        (made / f"{name}.py").write_text(f"raise RuntimeError('this is not {name}')\n", encoding="utf-8")
    yield made
    shutil.rmtree(made)


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
@pytest.mark.parametrize("name", CASES)
def test_it_serves_and_ends(name: str, folder: Path) -> None:
    case = CASES[name]
    before = [*case.wrapper, *case.prefix]
    if before and subprocess.run([*before, sys.executable, "-c", ""], check=False).returncode != 0:
        pytest.skip("NOT TESTED: this user can't make such surroundings here")
    port, grpc_port = free_port(), free_port()
    asked = {
        "prefix": case.prefix,
        "options": [case.agent, "--port", str(port), "--grpc-port", str(grpc_port), *case.options],
        "variables": case.variables,
        "unset": case.unset,
        "inherited": case.inherited,
        "folder": str(folder),
        "host": case.host,
        "port": port,
        "core": f"[{case.host}]:{grpc_port}" if ":" in case.host else f"{case.host}:{grpc_port}",
        "input": "orphans",
        "signal": case.signal,
    }
    text = json.dumps(asked).replace("{folder}", str(folder))
    done = subprocess.run(
        [*case.wrapper, sys.executable, "-P", str(PROGRAM), text], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    if case.says:
        assert told == {"status": 1}, done.stderr
        assert case.says.partition(".*")[2] in done.stderr
        assert done.stderr.startswith(f"portico run: {case.says.partition('.*')[0]}")
        assert done.stderr.count("\n") == 1
        return
    assert told.pop("reaped", True), done.stderr
    assert told == {"answer": "heard orphans", "chat": "heard hello", "status": 0}, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("**/portico-run-*"))
    if (database := folder / "dätä" / "portico.db").exists():
        assert database.stat().st_mode & 0o077 == 0
