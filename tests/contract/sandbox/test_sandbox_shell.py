"""Commands, processes, terminals and ports."""

import asyncio
import signal
from contextlib import aclosing

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.events import Lost, ProcessEnd, Stdout
from portico.sandbox.handle.sandbox_handle import SandboxHandle


async def test_a_command_has_output_and_exit_code(box: SandboxHandle) -> None:
    result = await box.run_shell("echo out; echo err >&2; cat; exit 3", stdin=b"in", env={"A": "b"})
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\nin", b"err\n", 3)
    assert not result.ok
    assert (await box.run_shell(["printf", "%s", "a b"])).stdout == b"a b"
    assert (await box.run_shell("pwd", cwd="/tmp")).stdout == b"/tmp\n"
    assert (await box.run_shell(["nonsense"])).exit_code == 127


async def test_a_lot_of_input_and_output_pass_through(box: SandboxHandle) -> None:
    data = bytes(range(256)) * 20_000
    assert (await box.run_shell("cat", stdin=data)).stdout == data


async def test_a_command_that_takes_too_long_dies_with_all_it_started(
    backend: Backend, box: SandboxHandle
) -> None:
    command = "(setsid nohup sh -c 'trap \"\" TERM; sleep 61' &) ; setsid sleep 62 & sleep 63"
    result = await box.run_shell(command, timeout=0.4)
    assert isinstance(result.failure, errors.SandboxTimeout)
    if "orphans" in backend.capabilities.missing:
        await box.reset()
    left = await box.run_shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert b"sleep 6" not in left.stdout


async def test_endless_output_of_a_command_is_cut(box: SandboxHandle) -> None:
    result = await box.run_shell("yes")
    assert isinstance(result.failure, errors.LimitExceeded)
    assert result.failure.limit == "output"


async def test_a_process_outlives_its_call_and_is_read_again_from_an_offset(box: SandboxHandle) -> None:
    info = await box.processes.start("echo one; read line; echo got $line", stdin=True)
    await box.processes.write(info.pid, b"two\n")
    assert (await box.processes.wait(info.pid)).exit_code == 0
    output = [event async for event in box.processes.attach(info.pid)]
    assert b"".join(event.data for event in output if isinstance(event, Stdout)) == b"one\ngot two\n"
    again = [event async for event in box.processes.attach(info.pid, 4)]
    assert again[0] == Stdout(b"got two\n")
    assert [known.pid for known in await box.processes.list_all()] == [info.pid]


async def test_only_the_last_output_of_a_process_is_kept_and_the_gap_is_told(box: SandboxHandle) -> None:
    info = await box.processes.start("head -c 5000000 /dev/zero")
    await box.processes.wait(info.pid)
    events = [event async for event in box.processes.attach(info.pid)]
    assert isinstance(events[0], Lost)
    assert events[0].size + sum(len(event.data) for event in events if isinstance(event, Stdout)) == 5_000_000


async def test_signals_reach_a_process(box: SandboxHandle) -> None:
    info = await box.processes.start(["sleep", "60"])
    await box.processes.signal(info.pid, signal.SIGTERM)
    assert (await box.processes.wait(info.pid)).exit_code == -signal.SIGTERM
    with pytest.raises(errors.ProcessNotFound):
        await box.processes.signal(99_999, signal.SIGTERM)
    with pytest.raises(errors.ProcessNotFound):
        await box.processes.wait(99_999)


async def test_a_terminal_echoes_resizes_and_has_job_control(backend: Backend, box: SandboxHandle) -> None:
    info = await box.processes.start(["/bin/bash", "--norc", "-i"], terminal=(24, 80))
    seen = b""
    attachment = box.processes.attach(info.pid)

    async def until(text: bytes) -> None:
        nonlocal seen
        async with asyncio.timeout(30):
            async for event in events:
                seen += event.data if isinstance(event, Stdout) else b""
                if text in seen:
                    return

    async with aclosing(attachment.__aiter__()) as events:
        await attachment.write(b"stty size; tty\n")
        await until(b"24 80")
        await box.processes.resize(info.pid, 50, 132)
        await attachment.write(b"stty size\n")
        await until(b"50 132")
        if "terminal signals" in backend.capabilities.missing:
            await box.processes.signal(info.pid, signal.SIGKILL)
            return
        await attachment.write(b"sleep 60\n")
        async with asyncio.timeout(30):
            while b"sleep" not in (await box.run_shell("cat /proc/[0-9]*/comm")).stdout:
                await asyncio.sleep(0.02)
        await attachment.write(b"\x03")
        await attachment.write(b"echo back $((40+2))\n")
        await until(b"back 42")
        await attachment.write(b"exit\n")
        end = [event async for event in events][-1]
    assert isinstance(end, ProcessEnd)


async def test_a_server_inside_can_be_reached(box: SandboxHandle) -> None:
    await box.files.write("index.html", b"hello from inside")
    await box.processes.start("exec python3 -m http.server 8000 --bind 127.0.0.1")
    async with asyncio.timeout(15):
        while True:
            try:
                connection = await box.connect(8000)
                break
            except errors.PortRefused:
                await asyncio.sleep(0.1)
    await connection.write(b"GET /index.html HTTP/1.0\r\n\r\n")
    answer = b"".join([piece async for piece in connection])
    await connection.close()
    assert answer.endswith(b"hello from inside")


async def test_calls_do_not_wait_for_one_another(box: SandboxHandle) -> None:
    slow = asyncio.ensure_future(
        box.run_cell("import os, time\nwhile not os.path.exists('go'): time.sleep(.01)")
    )
    assert (await box.run_shell("echo quick")).stdout == b"quick\n"
    assert not slow.done()
    await box.files.write("go", b"")
    assert (await slow).ok


async def test_input_for_a_process_that_is_not_there_is_refused(box: SandboxHandle) -> None:
    with pytest.raises(errors.ProcessNotFound):
        await box.processes.write(99_999, b"x")
    info = await box.processes.start(["cat"], stdin=True)
    await box.processes.write(info.pid, b"x" * 3_000_000, end=True)
    assert (await box.processes.wait(info.pid)).offset == 3_000_000
    await box.processes.write(info.pid, b"nobody reads this any more")


async def test_a_process_whose_starter_has_left_is_ended(box: SandboxHandle) -> None:
    starting = asyncio.ensure_future(box.processes.start(["sleep", "1000"]))
    await asyncio.sleep(0)  # the request is sent, and not yet answered
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    async with asyncio.timeout(30):
        while not (known := await box.processes.list_all()) or known[0].exit_code is None:
            await asyncio.sleep(0.02)
    assert known[0].exit_code == -9
