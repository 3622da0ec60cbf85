"""Process 1 of a container, before it serves calls."""

import subprocess
import sys
from pathlib import Path

_MAIN = "from portico.sandbox.inside import container; container.main()"


def test_modules_that_make_sockets_can_be_preloaded(tmp_path: Path) -> None:
    """The system call filter asks process 1 about sockets, which does not answer before it serves calls."""
    (tmp_path / "asks.py").write_text("import socket; socket.socket(type=socket.SOCK_DGRAM).close()")
    started = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(tmp_path)!r}); {_MAIN}", "asks", "missing"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b"preload: missing: ModuleNotFoundError" in started.stdout
