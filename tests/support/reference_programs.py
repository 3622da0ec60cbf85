"""Programs of AgentScope Runtime's README, unchanged except for the package's name and the port."""

import os
import subprocess
import sys
from pathlib import Path

from support import notebook

PROGRAMS = Path(__file__).parents[1] / "reference" / "programs"
PORT = "8090"  # in all programs


def renamed(name: str, directory: Path, port: int, *, before: str = "", after: str = "") -> Path:
    """Writes the program's file; `before` and `after` supply code that the README presupposes."""
    text = (PROGRAMS / f"{name}.py").read_text()
    text = text.replace("agentscope_runtime", "portico.compat.agentscope_runtime").replace(PORT, str(port))
    file = directory / f"{Path(name).name}.py"
    file.write_text(f"{before}\n{text}\n{after}")
    return file


def started(file: Path, **env: str) -> "subprocess.Popen[str]":
    """Starts the program in its own directory."""
    return subprocess.Popen(
        [sys.executable, str(notebook.__file__), str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=file.parent,
        env={**os.environ, "HOME": str(file.parent), **env},
    )


def finished(file: Path, **env: str) -> tuple[int, str, str]:
    """Returns the exit status and the output; presses Enter as often as the program prompts for it."""
    with started(file, **env) as program:
        out, err = program.communicate("\n\n", timeout=90)
    return program.returncode, out, err
