"""How a zygote prepares the memory that its forks share, and its stock of namespaces."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from portico.sandbox.local.backend import LocalBackend, LocalSettings
from portico.sandbox.spec import Spec

SOURCE = Path(__file__).parents[3] / "sandbox"


def run(program: str) -> Any:
    """Runs a program in a new Python process, and returns the JSON that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_what_is_loaded_apart_shares_no_huge_page_with_other_objects() -> None:
    apart, before, after, threads = run(
        """
        import json, os
        from portico.sandbox.inside import apart
        before, made = [bytes(60) for _ in range(2_000)], []
        for _ in range(2):  # a second time in the same place
            apart.load(lambda: made.extend(bytes(60) for _ in range(2_000)))
        after = [bytes(60) for _ in range(2_000)]
        pages = [list({id(one) >> 21 for one in objects}) for objects in (made, before, after)]
        print(json.dumps([*pages, len(os.listdir("/proc/self/task"))]))
        """
    )
    assert not set(apart) & {*before, *after}
    assert len(apart) <= 3
    assert threads == 1


def test_what_is_loaded_apart_raises_what_it_raises() -> None:
    assert (
        run(
            """
        import json
        from portico.sandbox.inside import apart
        try:
            apart.load(lambda: 1 / 0)
        except ZeroDivisionError as error:
            print(json.dumps(str(error)))
        """
        )
        == "division by zero"
    )


def test_hooks_for_other_threads_run_only_where_there_are_some() -> None:
    alone, together, others, alone_again = run(
        """
        import json, os, threading
        from portico.sandbox.inside import hooks
        seen = []
        with hooks.OnlyWithThreads():
            os.register_at_fork(
                before=lambda: seen.append("before"),
                after_in_parent=lambda: seen.append("parent"),
                after_in_child=lambda: seen.append("child"),
            )
            os.register_at_fork(before=lambda: seen.append("younger before"))
        os.register_at_fork(before=lambda: seen.append("always"))

        def fork():
            reader, writer = os.pipe()
            del seen[:]
            if os.fork() == 0:
                os.write(writer, json.dumps(seen).encode())
                os._exit(0)
            os.wait()
            return json.loads(os.read(reader, 1000)), list(seen)

        alone = fork()
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        together, others = fork()
        done.set()
        thread.join()
        print(json.dumps([alone, together, others, fork()]))
        """
    )
    assert alone == alone_again == [["always"], ["always"]]
    assert together == ["always", "younger before", "before", "child"]
    assert others == ["always", "younger before", "before", "parent"]


async def test_each_sandbox_has_a_network_of_its_own_made_ahead_or_not() -> None:
    """The first sandboxes use namespaces in stock, the others make their own."""
    code = (
        "import os, socket; server = socket.create_server(('127.0.0.1', 5005))\n"
        "print(os.readlink('/proc/self/ns/net'), open('/proc/sys/net/ipv4/tcp_rmem').read().split())"
    )
    async with LocalBackend(LocalSettings(spares=0)) as backend:
        await asyncio.sleep(0.5)
        boxes = await asyncio.gather(*(backend.create(Spec()) for _ in range(6)))
        cells = [await box.run_cell(code) for box in boxes]
        assert not any(cell.stderr for cell in cells)
        told = [cell.stdout.decode().split(" ", 1) for cell in cells]
        assert len({network for network, _ in told}) == 6
        assert {sizes.strip() for _, sizes in told} == {"['4096', '131072', '131072']"}


async def test_no_process_of_a_sandbox_holds_a_network_of_others() -> None:
    code = (
        "import glob, os\n"
        "[os.readlink(name) for name in glob.glob('/proc/[1-9]*/fd/*') if os.path.islink(name)]"
    )
    async with LocalBackend(LocalSettings(spares=0)) as backend:
        for _ in range(2):
            await asyncio.sleep(0.3)
            box = await backend.create(Spec())
            cell = await box.run_cell(code)
            assert b"net:" not in cell.rich[0].data["text/plain"]
