"""Imports and starts use no network."""

import subprocess
import sys
import time
from pathlib import Path

from support.deployment import SCRIPTED
from support.isolated_command import unshared

from portico.client.sync.sync_client import SyncClient

ALONE = unshared("--net")


def test_a_core_starts_and_answers_without_any_network(tmp_path: Path) -> None:
    command = [*ALONE, sys.executable, "-m", "portico.core", str(SCRIPTED), f"--listen=unix:{tmp_path}/core"]
    command += ["--store=memory://"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as core:
        try:
            until = time.monotonic() + 60
            while not (tmp_path / "core").exists():
                assert core.poll() is None, core.stderr.read() if core.stderr else ""
                assert time.monotonic() < until
                time.sleep(0.05)
            with SyncClient(f"unix:{tmp_path}/core") as client:
                assert client.runs.query("count 3").text() == "0 1 2 "
        finally:
            core.terminate()


def test_every_part_is_imported_without_any_network() -> None:
    parts = ["agent", "client", "cli.main", "core.server", "gateways.__main__", "sandbox"]
    code = "; ".join(f"import portico.{part}" for part in parts)
    code += "; from portico.gateways.gateway_registry import GATEWAYS as all"
    code += "; [kind.factory() for kind in all.values()]"
    done = subprocess.run([*ALONE, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
