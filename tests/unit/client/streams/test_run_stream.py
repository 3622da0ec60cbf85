"""A run's stream arrives complete and in order, whatever happens to the connection."""

import asyncio
import gc
import random
from typing import TYPE_CHECKING

import grpc
import pytest

from portico.client import (
    AlreadyExists,
    Cancelled,
    Client,
    CursorAhead,
    NotFound,
    PorticoError,
    ProtocolError,
    RunFailed,
    RunStream,
    Unavailable,
)
from portico.v1 import events_pb2

if TYPE_CHECKING:
    from unit.client.conftest import ScriptedCore


async def numbers(stream: RunStream) -> list[int]:
    return [event.sequence_number async for event in stream]


async def test_a_query_is_followed_to_its_end(core: "ScriptedCore", client: Client) -> None:
    async with client.runs.query("hello", agent="friday") as stream:
        assert stream.run_id == ""
        assert stream.last_sequence_number is None
        assert await numbers(stream) == list(range(6 + 1))
        assert stream.run_id == "resp_0"
        assert stream.last_sequence_number == 6
        assert stream.response is not None
        assert stream.response.status == events_pb2.RUN_STATUS_COMPLETED
    assert core.asked == ["Query"]


async def test_text_is_all_that_was_said(client: Client) -> None:
    assert await client.runs.query("hello").text() == "abc"


async def test_text_of_a_failed_run_raises(core: "ScriptedCore", client: Client) -> None:
    core.make_runs("abc", events_pb2.RUN_STATUS_FAILED)
    with pytest.raises(RunFailed) as caught:
        await client.runs.query("hello").text()
    assert (caught.value.reason, caught.value.message) == ("boom", "it broke")


async def test_the_cursor_follows_the_event_that_was_returned(client: Client) -> None:
    async with client.runs.query("hello") as stream:
        async for event in stream:
            assert stream.last_sequence_number == event.sequence_number


@pytest.mark.parametrize("seed", range(20))
async def test_a_stream_cut_anywhere_is_whole(core: "ScriptedCore", client: Client, seed: int) -> None:
    dice = random.Random(seed)
    core.make_runs("abcdefghijklmnopqrstuvwxyz")
    core.frame_events = dice.randint(1, 8)
    core.cuts = [dice.randint(0, 12) for _ in range(3)]
    assert await numbers(client.runs.query("hello")) == list(range(30))


async def test_a_resume_asks_for_what_follows(core: "ScriptedCore", client: Client) -> None:
    core.cuts = [0, 4, 0]
    await numbers(client.runs.query("hello"))
    # Cut before its first event, the query is sent again; the key makes it the same run.
    assert core.asked == ["Query", "Query", "WatchRun 3", "WatchRun 3"]
    assert list(core.logs) == ["resp_0"]


async def test_the_callers_own_idempotency_key_is_kept(core: "ScriptedCore", client: Client) -> None:
    await numbers(client.runs.query("hello", idempotency_key="mine"))
    await numbers(client.runs.query("hello", idempotency_key="mine"))
    assert core.runs_by_key == {"mine": "resp_0"}


async def test_a_cut_behind_the_terminal_event_is_no_loss(core: "ScriptedCore", client: Client) -> None:
    core.cut_behind_end = True
    assert await numbers(client.runs.query("hello")) == list(range(7))
    assert core.asked == ["Query"]


async def test_a_pause_ends_the_stream(core: "ScriptedCore", client: Client) -> None:
    core.make_runs("abc", events_pb2.RUN_STATUS_INPUT_REQUIRED)
    async with client.runs.query("hello") as stream:
        assert await numbers(stream) == list(range(7))
        assert stream.response is not None
        assert stream.response.status == events_pb2.RUN_STATUS_INPUT_REQUIRED


async def test_a_cut_behind_a_pause_is_resumed(core: "ScriptedCore", client: Client) -> None:
    core.make_runs("abc", events_pb2.RUN_STATUS_INPUT_REQUIRED)
    core.cut_behind_end = True
    assert await numbers(client.runs.query("hello")) == list(range(7))
    # From after the pause the core would wait for the answer.
    assert core.asked == ["Query", "WatchRun 5"]


async def test_a_stream_that_ends_without_an_end_is_resumed(core: "ScriptedCore", client: Client) -> None:
    core.ends = [4]
    assert await numbers(client.runs.query("hello")) == list(range(7))
    assert core.asked == ["Query", "WatchRun 3"]


async def test_watching_from_a_cursor_brings_what_follows(core: "ScriptedCore", client: Client) -> None:
    await numbers(client.runs.query("hello"))
    assert await numbers(client.runs.watch("resp_0")) == list(range(7))
    assert await numbers(client.runs.watch("resp_0", after=4)) == [5, 6]
    assert await numbers(client.runs.watch("resp_0", after=6)) == []


async def test_a_restart_of_the_core_is_survived(core: "ScriptedCore", client: Client, endless: None) -> None:
    async with client.runs.query("hello") as stream:
        seen = [(await anext(stream)).sequence_number for _ in range(6)]
        reading = asyncio.create_task(numbers(stream))
        await asyncio.sleep(0.1)
        await core.stop()
        core.finish_runs()
        await asyncio.sleep(0.3)
        await core.start()
        assert seen + await reading == list(range(7))


@pytest.mark.parametrize("doing", ["repeat", "skip"])
async def test_a_repeat_or_a_gap_is_a_protocol_error(
    core: "ScriptedCore", client: Client, doing: str
) -> None:
    core.make_runs("abc")
    await numbers(client.runs.query("hello", idempotency_key="key"))
    log = core.logs["resp_0"]
    log[3:4] = [log[3], log[3]] if doing == "repeat" else []
    with pytest.raises(ProtocolError, match="were due"):
        await numbers(client.runs.watch("resp_0"))


async def test_a_resume_that_takes_too_long_gives_up(core: "ScriptedCore", client: Client) -> None:
    core.cuts = [4] + [0] * 100
    with pytest.raises(Unavailable) as caught:
        await numbers(client.runs.query("hello", resume_timeout=0.4))
    assert caught.value.reason == "DRAINING"


async def test_other_errors_are_not_retried(core: "ScriptedCore", client: Client) -> None:
    core.cuts = [0]
    core.fail_streams(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_CONFLICT", run_id="resp_9")
    with pytest.raises(AlreadyExists) as caught:
        await numbers(client.runs.query("hello"))
    assert caught.value.reason == "IDEMPOTENCY_CONFLICT"
    assert caught.value.metadata == {"run_id": "resp_9"}
    assert core.asked == ["Query"]


async def test_a_cursor_ahead_of_the_log_is_its_own_error(core: "ScriptedCore", client: Client) -> None:
    core.logs["resp_0"] = core.script("resp_0")
    core.cuts = [0]
    core.fail_streams(grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD", last_sequence_number="6")
    with pytest.raises(CursorAhead):
        await numbers(client.runs.watch("resp_0", after=5))


async def test_an_unknown_run_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound) as caught:
        await numbers(client.runs.watch("resp_none"))
    assert caught.value.metadata == {"run_id": "resp_none"}


async def test_leaving_the_block_ends_the_call(core: "ScriptedCore", client: Client, endless: None) -> None:
    async with client.runs.query("hello") as stream:
        async for _ in stream:
            break
    await asyncio.wait_for(core.cancelled.wait(), 5)
    assert await numbers(stream) == []


async def test_dropping_the_stream_ends_the_call(core: "ScriptedCore", client: Client, endless: None) -> None:
    async for _ in client.runs.query("hello"):
        break
    gc.collect()
    await asyncio.wait_for(core.cancelled.wait(), 5)


async def test_a_cancelled_reader_ends_the_call_and_may_read_on(
    core: "ScriptedCore", client: Client, endless: None
) -> None:
    async with client.runs.query("hello") as stream:
        for _ in range(6):
            await anext(stream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(stream)
        await asyncio.wait_for(core.cancelled.wait(), 5)
        core.finish_runs()
        assert await numbers(stream) == [6]


async def test_closing_the_client_under_a_reader_raises_cancelled(
    core: "ScriptedCore", client: Client, endless: None
) -> None:
    stream = client.runs.query("hello")
    reading = asyncio.create_task(numbers(stream))
    await asyncio.sleep(0.1)
    await client.close()
    with pytest.raises(Cancelled):
        await reading
    with pytest.raises(PorticoError):
        await numbers(client.runs.query("hello"))


async def test_nobody_at_the_address_is_unavailable() -> None:
    async with Client("unix:/nowhere/core.sock") as nobody:
        with pytest.raises(Unavailable):
            await numbers(nobody.runs.query("hello", resume_timeout=0.2))
