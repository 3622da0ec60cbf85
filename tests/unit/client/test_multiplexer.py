"""Many runs over one connection: each complete and in order, without blocking the others."""

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
import pytest

from portico.client import (
    Cancelled,
    Client,
    DeadlineExceeded,
    InvalidArgument,
    MultiplexedStream,
    Multiplexer,
    ProtocolError,
    ResourceExhausted,
    SessionBusy,
    Unavailable,
    Unimplemented,
    query_request,
)
from portico.v1 import events_pb2, query_pb2

if TYPE_CHECKING:
    from unit.client.conftest import ScriptedCore

HELLO = query_request("hello", idempotency_key="hello")


async def numbers(stream: MultiplexedStream, pause: float = 0) -> list[int]:
    seen: list[int] = []
    with stream:
        while (frames := await stream.next_frames()) is not None:
            assert frames, "what is returned is never empty"
            seen += [event.sequence_number for frame in frames for event in frame.events]
            await asyncio.sleep(pause)
    return seen


async def offered(stream: MultiplexedStream, takes: Callable[[], bool]) -> list[int]:
    """Reads with a consumer that accepts frames immediately, or refuses them."""
    seen: list[int] = []

    def take(frames: list[query_pb2.StreamFrame]) -> None:
        assert frames
        seen.extend(event.sequence_number for frame in frames for event in frame.events)

    def at_once(frames: list[query_pb2.StreamFrame]) -> bool:
        if taken := takes():
            take(frames)
        return taken

    with stream:
        while (frames := await stream.next_frames(at_once)) is not None:
            take(frames)
    return seen


def query(key: str = "") -> query_pb2.QueryRequest:
    request = query_pb2.QueryRequest(idempotency_key=key)
    request.request.input.extend(HELLO.request.input)
    return request


async def test_a_query_is_followed_to_its_end(core: "ScriptedCore", mux: Multiplexer) -> None:
    with mux.open_query(query()) as stream:
        assert stream.run_id == ""
        assert stream.last_sequence_number is None
        seen = [
            event.sequence_number async for frames in stream for frame in frames for event in frame.events
        ]
        assert seen == list(range(7))
        assert stream.run_id == "resp_0"
        assert stream.last_sequence_number == 6
        assert await stream.next_frames() is None
    assert (core.connections, core.credits, core.stops) == (1, 0, 0)


async def test_many_streams_share_a_connection(core: "ScriptedCore", mux: Multiplexer) -> None:
    results = await asyncio.gather(*(numbers(mux.open_query(query())) for _ in range(200)))
    assert results == [list(range(7))] * 200
    assert core.connections == 1
    assert len(core.logs) == 200


async def test_watching_from_a_cursor_brings_what_follows(core: "ScriptedCore", mux: Multiplexer) -> None:
    core.logs["resp_9"] = core.script("resp_9")
    watch = query_pb2.WatchRunRequest(run_id="resp_9")
    assert await numbers(mux.open_watch(watch)) == list(range(7))
    for after in (0, 4, 6):
        watch.after_sequence_number = after
        assert await numbers(mux.open_watch(watch)) == list(range(after + 1, 7))


async def test_each_stream_has_its_own_metadata(core: "ScriptedCore", mux: Multiplexer) -> None:
    for name in ("ada", "bob"):
        await numbers(mux.open_query(query(), metadata={"authorization": f"Bearer {name}"}))
    assert core.metadata == [{"authorization": "Bearer ada"}, {"authorization": "Bearer bob"}]


async def test_a_stream_of_a_plain_channel_works_too(core: "ScriptedCore") -> None:
    async with grpc.aio.insecure_channel(core.target) as channel, Multiplexer(channel) as mux:
        assert await numbers(mux.open_query(query())) == list(range(7))


def breaking(core: "ScriptedCore", seed: int) -> random.Random:
    """Serves runs of 108 events, in frames of several sizes, over connections that break at times."""
    dice = random.Random(seed)
    core.make_runs("abcdefghijklmnopqrstuvwxyz" * 4)
    core.frame_events = dice.randint(1, 8)
    core.connection_cuts = [dice.randint(0, 150) for _ in range(6)]
    return dice


@pytest.mark.parametrize("seed", range(20))
async def test_streams_are_whole_when_connections_break(
    core: "ScriptedCore", mux: Multiplexer, seed: int
) -> None:
    dice = breaking(core, seed)
    pauses = [dice.choice([0, 0, 0.001, 0.01]) for _ in range(20)]
    results = await asyncio.gather(*(numbers(mux.open_query(query()), pause) for pause in pauses))
    assert results == [list(range(108))] * 20
    assert len(core.logs) == 20, "no run was started twice"


@pytest.mark.parametrize("seed", range(10))
async def test_what_is_taken_at_once_comes_once_and_in_order(
    core: "ScriptedCore", mux: Multiplexer, seed: int
) -> None:
    dice = breaking(core, seed)
    readers: list[Callable[[], bool]] = [lambda: True, lambda: False, lambda: dice.random() < 0.5]
    results = await asyncio.gather(*(offered(mux.open_query(query()), takes) for takes in readers * 6))
    assert results == [list(range(108))] * 18


async def test_the_window_of_what_is_taken_at_once_is_paid_back(
    core: "ScriptedCore", mux: Multiplexer
) -> None:
    core.make_runs("x" * 100_000)
    core.frame_events = 200
    assert await offered(mux.open_query(query()), lambda: True) == list(range(100_004))
    assert 0 < core.credits < 100


async def test_a_reader_whose_taking_fails_fails_alone(core: "ScriptedCore", mux: Multiplexer) -> None:
    def fails() -> bool:
        raise ValueError("its own")

    core.frame_events = 1
    other = asyncio.create_task(numbers(mux.open_query(query())))
    with pytest.raises(ValueError, match="its own"):
        await offered(mux.open_query(query()), fails)
    assert await other == list(range(7))
    assert core.connections == 1


async def test_a_restart_of_the_core_is_survived(
    core: "ScriptedCore", mux: Multiplexer, endless: None
) -> None:
    reading = asyncio.gather(*(numbers(mux.open_query(query())) for _ in range(5)))
    await asyncio.sleep(0.2)
    await core.stop()
    core.finish_runs()
    late = asyncio.create_task(numbers(mux.open_query(query())))
    await asyncio.sleep(0.3)
    await core.start()
    assert await reading == [list(range(7))] * 5
    assert await late == list(range(7))
    assert core.asked.count("WatchRun 5") == 5


async def test_a_stream_that_drains_is_resumed_alone(core: "ScriptedCore", mux: Multiplexer) -> None:
    core.fail_mux(grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert await numbers(mux.open_query(query("key"))) == list(range(7))
    assert core.asked == ["Query", "Query"]
    assert (core.connections, len(core.logs)) == (1, 1)


async def test_a_stream_that_ends_without_an_end_is_resumed(core: "ScriptedCore", mux: Multiplexer) -> None:
    core.ends = [4]
    assert await numbers(mux.open_query(query())) == list(range(7))
    assert core.asked == ["Query", "WatchRun 3"]


async def test_a_cut_behind_a_pause_is_resumed(core: "ScriptedCore", mux: Multiplexer) -> None:
    core.make_runs("abc", events_pb2.RUN_STATUS_INPUT_REQUIRED)
    core.connection_cuts = [3]
    assert await numbers(mux.open_query(query())) == list(range(7))
    # From after the pause the core would wait for the answer.
    assert core.asked == ["Query", "WatchRun 5"]


async def test_a_cut_behind_the_terminal_event_is_no_loss(core: "ScriptedCore", mux: Multiplexer) -> None:
    core.connection_cuts = [3]
    assert await numbers(mux.open_query(query())) == list(range(7))
    assert core.asked == ["Query"]


async def test_an_idle_stream_outlives_its_resume_timeout(
    core: "ScriptedCore", client: Client, endless: None
) -> None:
    # Long enough for a busy machine to reconnect; the streams then live longer than it.
    async with Multiplexer(client, resume_timeout=2.0) as mux:
        reading = asyncio.create_task(numbers(mux.open_query(query())))
        await asyncio.sleep(0.1)
        await core.stop()
        await core.start()
        await asyncio.sleep(2.5)
        assert core.connections == 2
        assert not reading.done()
        reading.cancel()


async def test_a_slow_reader_is_sent_no_more_than_its_window(core: "ScriptedCore", mux: Multiplexer) -> None:
    core.make_runs("x" * 100_000)
    core.frame_events = 200
    slow = mux.open_query(query("slow"))
    # The other streams do not wait for the slow one.
    assert len(await numbers(mux.open_query(query("fast")))) == 100_004
    await asyncio.sleep(0.2)
    assert slow.last_sequence_number is None
    # A frame is sent whole while any part of the window is left.
    assert 256 * 1024 <= core.most_unpaid_bytes < 256 * 1024 + 8 * 1024
    assert await numbers(slow) == list(range(100_004))
    assert core.most_unpaid_bytes < 256 * 1024 + 8 * 1024
    assert 10 < core.credits < 100


async def test_a_slow_reader_over_broken_connections_misses_nothing(
    core: "ScriptedCore", mux: Multiplexer
) -> None:
    core.make_runs("x" * 50_000)
    core.frame_events = 200
    core.connection_cuts = [50, 60, 70, 80]
    assert await numbers(mux.open_query(query()), 0.01) == list(range(50_004))
    assert core.connections > 3


async def test_an_error_ends_its_own_stream_only(core: "ScriptedCore", mux: Multiplexer) -> None:
    core.fail_mux(grpc.StatusCode.ABORTED, "SESSION_BUSY", run_id="resp_7")
    with pytest.raises(SessionBusy) as caught:
        await numbers(mux.open_query(query()))
    assert caught.value.metadata == {"run_id": "resp_7"}
    assert await numbers(mux.open_query(query())) == list(range(7))
    assert core.connections == 1


async def test_a_gap_is_a_protocol_error_of_its_stream(core: "ScriptedCore", mux: Multiplexer) -> None:
    core.logs["resp_9"] = core.script("resp_9")
    del core.logs["resp_9"][4]
    with pytest.raises(ProtocolError, match="were due"):
        await numbers(mux.open_watch(query_pb2.WatchRunRequest(run_id="resp_9")))
    assert await numbers(mux.open_query(query())) == list(range(7))
    assert (core.connections, core.stops) == (1, 1)


async def test_closing_a_stream_stops_it(core: "ScriptedCore", mux: Multiplexer, endless: None) -> None:
    with mux.open_query(query()) as stream:
        await stream.next_frames()
    stream.close()
    assert await stream.next_frames() is None
    await asyncio.sleep(0.1)
    assert core.stops == 1


async def test_a_stream_closed_at_once_is_never_sent(core: "ScriptedCore", mux: Multiplexer) -> None:
    mux.open_query(query()).close()
    await numbers(mux.open_query(query()))
    assert (core.asked, core.stops) == (["Query"], 0)


async def test_a_cancelled_reader_loses_nothing(
    core: "ScriptedCore", mux: Multiplexer, endless: None
) -> None:
    with mux.open_query(query()) as stream:
        seen: list[int] = []
        for _ in range(20):
            try:
                async with asyncio.timeout(0.005):
                    for frame in await stream.next_frames() or ():
                        seen += [event.sequence_number for event in frame.events]
            except TimeoutError:
                pass
        assert seen == list(range(6))


async def test_a_core_that_does_not_come_back_is_unavailable(
    core: "ScriptedCore", client: Client, endless: None
) -> None:
    async with Multiplexer(client, resume_timeout=0.3) as mux:
        reading = asyncio.create_task(numbers(mux.open_query(query())))
        await asyncio.sleep(0.1)
        await core.stop()
        with pytest.raises(Unavailable, match=r"not resumed within 0.3 s"):
            await reading
        started = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable):
            await numbers(mux.open_query(query()))
        assert 0.2 < asyncio.get_running_loop().time() - started < 0.6
        await core.start()
        core.finish_runs()
        await client.calls.connection.channel.channel_ready()
        assert await numbers(mux.open_query(query())) == list(range(7))


async def test_a_core_that_takes_connections_and_drops_them_is_unavailable(
    core: "ScriptedCore", client: Client
) -> None:
    core.connection_cuts = [0] * 1000
    async with Multiplexer(client, resume_timeout=0.3) as mux:
        with pytest.raises(Unavailable):
            await numbers(mux.open_query(query()))


async def test_the_timeout_of_a_stream_holds_over_an_outage(core: "ScriptedCore", mux: Multiplexer) -> None:
    await core.stop()
    with pytest.raises(DeadlineExceeded):
        await numbers(mux.open_query(query(), timeout=0.1))


async def test_a_core_without_multiplex_says_so() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client(f"127.0.0.1:{port}") as client, Multiplexer(client) as mux:
        with pytest.raises(Unimplemented):
            await numbers(mux.open_query(query()))
    await server.stop(None)


async def test_waiting_streams_are_bounded(client: Client) -> None:
    async with Multiplexer(client, max_waiting=3) as mux:
        for _ in range(3):
            mux.open_query(query())
        with pytest.raises(ResourceExhausted):
            mux.open_query(query())


async def test_a_request_too_large_to_send_is_refused(mux: Multiplexer) -> None:
    request = query()
    request.request.extra_json = "x" * (16 * 1024 * 1024)
    with pytest.raises(InvalidArgument):
        mux.open_query(request)
    assert await numbers(mux.open_query(query())) == list(range(7))


async def test_closing_the_multiplexer_ends_its_streams(
    core: "ScriptedCore", client: Client, endless: None
) -> None:
    async with Multiplexer(client) as mux:
        stream = mux.open_query(query())
        reading = asyncio.create_task(numbers(stream))
        await asyncio.sleep(0.1)
    with pytest.raises(Cancelled):
        await reading
    with pytest.raises(Cancelled):
        mux.open_query(query())


async def test_closing_the_client_ends_the_streams(
    core: "ScriptedCore", client: Client, mux: Multiplexer, endless: None
) -> None:
    reading = asyncio.create_task(numbers(mux.open_query(query())))
    await asyncio.sleep(0.1)
    await client.close()
    with pytest.raises(Cancelled):
        await reading
