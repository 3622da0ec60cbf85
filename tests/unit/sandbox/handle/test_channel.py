"""The owner's end of a channel, against forged supervisors: a protocol violation ends the sandbox."""

import asyncio
import gc
import json
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.fake_agent import OPERATIONS, FakeBox, faked

from portico.sandbox import errors
from portico.sandbox.handle import channel
from portico.sandbox.handle.call import Call
from portico.sandbox.handle.deadlines import Deadline
from portico.sandbox.inside import wire
from portico.sandbox.spec import Limits, Spec

END = wire.pack_json(1, wire.END, {"exit_code": 0})


async def _send(box: FakeBox, *frames: bytes) -> None:
    """Sends frames until the owner closes the connection."""
    loop = asyncio.get_running_loop()
    try:
        for frame in frames:
            await loop.sock_sendall(box.far, frame)
    except OSError:
        pass


async def _broken(box: FakeBox, waiting: Awaitable[Any] | None = None) -> None:
    """Checks that the sandbox ends with the cause `protocol`."""
    async with asyncio.timeout(10):
        if waiting is not None:
            with pytest.raises(errors.SandboxGone) as raised:
                await waiting
            assert raised.value.cause == "protocol"
        while box.gone is None:
            await asyncio.sleep(0.005)
    assert box.gone.cause == "protocol"
    with pytest.raises(errors.SandboxGone) as raised:
        box.call("ping")
    assert raised.value.cause == "protocol"


async def test_a_call_that_has_ended_needs_no_garbage_collector() -> None:
    async with faked(lambda number, _: [wire.pack_json(number, wire.END, {"exit_code": 0})]) as box:
        call = box.call("ping")
        await call.answer()
        known = weakref.ref(call)
        gc.disable()
        try:
            del call
            assert known() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("kind", [wire.OUT, wire.ERR, wire.EVENT])
async def test_more_than_the_window_ends_the_sandbox(kind: int) -> None:
    async with faked() as box:
        call = box.call("process.attach")
        await _send(box, *[wire.pack(1, kind, b"x" * wire.CHUNK)] * 40)
        await _broken(box)
        held = sum(len(payload) for _, payload in call._frames)
        assert held <= wire.WINDOW + wire.CHUNK


async def test_frames_of_one_byte_fill_the_window_too() -> None:
    async with faked() as box:
        call = box.call("process.attach")
        await _send(box, wire.pack(1, wire.OUT, b"x") * 100_000)
        await _broken(box)
        assert len(call._frames) <= wire.WINDOW // wire.OVERHEAD


async def test_more_output_than_is_allowed_ends_the_sandbox() -> None:
    spec = Spec(limits=Limits(output_bytes=100_000))
    async with faked(lambda number, _: [wire.pack(number, wire.OUT, b"x" * wire.CHUNK)] * 5, spec) as box:
        with pytest.raises(errors.SandboxGone, match="more output"):
            await OPERATIONS["shell"](box)
        await _broken(box)


async def test_output_goes_on_as_it_is_read() -> None:
    async with faked() as box:
        call = box.call("process.attach")
        sending = asyncio.ensure_future(_stream(box))
        assert sum([len(payload) async for _, payload in call.frames()]) == 100 * wire.CHUNK
        await sending
        assert box.gone is None


async def _stream(box: FakeBox) -> None:
    """Sends as a supervisor does: only while there is credit."""
    loop, parser, credit = asyncio.get_running_loop(), wire.Parser(), wire.WINDOW
    frame = wire.pack(1, wire.OUT, b"x" * wire.CHUNK)
    for _ in range(100):
        while credit <= 0:
            for _, kind, payload in parser.feed(await loop.sock_recv(box.far, 1 << 16)):
                credit += int.from_bytes(payload, "big") if kind == wire.ACK else 0
        await loop.sock_sendall(box.far, frame)
        credit -= wire.CHUNK + wire.OVERHEAD
    await loop.sock_sendall(box.far, END)


async def test_what_nobody_reads_any_more_does_not_block_the_end() -> None:
    async with faked() as box:
        call = box.call("process.attach")
        sending = asyncio.ensure_future(_stream(box))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            await call.abort()
        await sending
        assert box.gone is None


@pytest.mark.parametrize(
    "frame",
    {
        "of no call": wire.pack(7, wire.OUT, b"x"),
        "of no kind": wire.pack(1, 77),
        "only an owner sends": wire.pack(1, wire.CANCEL),
        "a second call": wire.pack_json(1, wire.CALL, {}),
        "a call that nobody takes": wire.pack_json(wire.AGENT_CALL | 1, wire.CALL, {}),
        "an announced giant": wire.HEADER.pack(wire.CHUNK + 1, 1, wire.OUT),
        "a large end": wire.HEADER.pack(wire.END_BYTES + 1, 1, wire.END),
        "credit for nothing": wire.pack_ack(1, 1),
        "no credit": wire.pack_ack(1, 0),
        "an end of no JSON": wire.pack(1, wire.END, b"\xff"),
        "an end of no object": wire.pack(1, wire.END, b"[]"),
        "a number that is none": wire.pack(1, wire.END, b'{"exit_code":NaN}'),
        "a number of many digits": wire.pack(1, wire.END, b'{"exit_code":' + b"9" * 100_000 + b"}"),
        "deep JSON": wire.pack(1, wire.END, b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
        "wide JSON": wire.pack(1, wire.END, b'{"a":[' + b"[]," * 600_000 + b"0]}"),
        "a text without an end": wire.pack(1, wire.END, b"," * 70_000 + b'"' + b'\\"' * 900_000),
        "wide JSON behind quotes": wire.pack(1, wire.END, b'{"a\\"":[' + b'"",' * 600_000 + b"0]}"),
    }.items(),
    ids=lambda item: item[0],
)
async def test_a_frame_that_no_agent_sends_ends_the_sandbox(frame: tuple[str, bytes]) -> None:
    async with faked(lambda _number, _request: [frame[1]]) as box:
        await _broken(box, box.call("ping").answer())


async def test_a_long_text_is_not_taken_for_many_values() -> None:
    said = json.dumps({"diff": ',[{"' * 100_000}).encode()
    async with faked(lambda number, _: [wire.pack(number, wire.END, said)]) as box:
        assert len((await box.call("x").answer()).text("diff", 1 << 20)) == 400_000


async def test_half_a_frame_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_FRAME_SECONDS", 0.1)
    async with faked() as box:
        waiting = asyncio.ensure_future(box.call("ping").answer())
        frame = wire.pack(1, wire.RICH, b"x" * (1 << 20))
        await _send(box, frame[: 1 << 19])
        await _broken(box, waiting)


async def test_half_a_frame_of_a_paused_sandbox_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_FRAME_SECONDS", 0.05)
    async with faked() as box:
        waiting = asyncio.ensure_future(box.call("ping").answer())
        await _send(box, END[:5])
        box.paused = True
        await asyncio.sleep(0.3)
        await _send(box, END[5:])
        assert (await waiting).exit_code() == 0


async def test_an_agent_opens_so_many_calls_and_no_more() -> None:
    async def never(_call: Call) -> None:
        await asyncio.Event().wait()

    async with faked() as box:
        box.channel.on_connect = never
        for number in range(256):
            await _send(box, wire.pack_json(wire.AGENT_CALL | number, wire.CALL, {}))
        await asyncio.sleep(0.1)
        assert box.gone is None
        await _send(box, wire.pack_json(wire.AGENT_CALL | 999, wire.CALL, {}))
        await _broken(box)


async def test_calls_that_end_at_once_leave_nothing_behind() -> None:
    async def never(_call: Call) -> None:
        await asyncio.Event().wait()

    async with faked() as box:
        box.channel.on_connect = never
        for number in range(3_000):
            call = wire.AGENT_CALL | number
            await _send(box, wire.pack_json(call, wire.CALL, {}) + wire.pack_json(call, wire.END, {}))
        await asyncio.sleep(0.1)
        assert (box.gone, box.channel.open_calls, box.channel._tasks) == (None, 0, {})


async def test_other_tasks_run_between_many_frames() -> None:
    """Also if one read contains several pieces, as from a container's engine."""
    calls = [wire.AGENT_CALL | number for number in range(3_000)]
    frames = [wire.pack_json(call, kind, {}) for call in calls for kind in (wire.CALL, wire.END)]

    async def serve(_call: Call) -> None:
        pass

    async with faked() as box:
        box.channel.on_connect = serve
        for place in range(0, len(frames), 1_000):
            box.channel.data_received(b"".join(frames[place : place + 1_000]))
        assert box.channel._parser.count <= 512
        while box.channel._parser.count < len(frames):
            count = box.channel._parser.count
            await asyncio.sleep(0)
            assert box.channel._parser.count <= count + 512
        assert (box.gone, box.channel.open_calls) == (None, 0)
        waiting = asyncio.ensure_future(box.call("ping").answer())
        await _send(box, END)
        async with asyncio.timeout(10):
            assert (await waiting).exit_code() == 0


async def test_an_agent_that_reads_nothing_is_not_written_to_for_ever() -> None:
    async with faked() as box:
        told = None
        for _ in range(400):
            try:
                box.call("cell", code="x" * (1 << 20))
            except errors.LimitExceeded as error:
                told = error.limit
        assert told == "calls"
        assert box.channel._unread() < 64 << 20
        assert box.gone is None


REQUESTS: dict[str, Callable[[FakeBox, str], Awaitable[Any]]] = {
    "code": lambda box, text: box.run_cell(text),
    "command": lambda box, text: box.run_shell(text),
    "edits": lambda box, text: box.files.edit("a", [("a", text)]),
    "request": lambda box, text: box.files.stat(text),
}


@pytest.mark.parametrize("field", REQUESTS)
@pytest.mark.parametrize("text", ["\U0001f600" * 700_000, '"' * (5 << 20)], ids=["emoji", "quotes"])
async def test_a_request_counts_as_it_is_encoded(field: str, text: str) -> None:
    async with faked() as box:
        with pytest.raises(errors.InvalidRequest, match=f"^{field}: .* once encoded"):
            await REQUESTS[field](box, text)
        assert box.gone is None


async def test_a_small_sandbox_takes_small_requests() -> None:
    async with faked(spec=Spec(limits=Limits(memory_bytes=32 << 20))) as box:
        with pytest.raises(errors.InvalidRequest, match="the limit of a request is 2097152"):
            await box.run_cell("x" * (3 << 20))


async def test_calls_have_a_deadline() -> None:
    async with faked(spec=Spec(limits=Limits(call_seconds=0.1))) as box:
        answering = asyncio.ensure_future(_cancelled(box))
        with pytest.raises(errors.SandboxTimeout):
            await box.files.stat("a")
        await answering
        assert box.gone is None


async def _cancelled(box: FakeBox) -> None:
    loop, parser = asyncio.get_running_loop(), wire.Parser()
    while True:
        for number, kind, _ in parser.feed(await loop.sock_recv(box.far, 1 << 16)):
            if kind == wire.CANCEL:
                error = {"kind": "cancelled", "message": "cancelled"}
                await loop.sock_sendall(box.far, wire.pack_json(number, wire.END, {"error": error}))
                return


async def test_deadlines_pass_in_their_order_and_no_other_call_ends() -> None:
    async with faked() as box:
        calls = [box.call("ping") for _ in range(4)]
        long, short, middle, stopped = [
            Deadline(call, seconds, grace=0)
            for call, seconds in zip(calls, (30, 0.05, 0.2, 0.05), strict=True)
        ]
        stopped.stop()
        await asyncio.sleep(0.12)
        assert (short.passed, middle.passed, long.passed, stopped.passed) == (True, False, False, False)
        await asyncio.sleep(0.3)
        assert (middle.passed, long.passed) == (True, False)
        assert [call.late for call in calls] == [None, 0.05, 0.2, None]
