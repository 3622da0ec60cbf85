"""Runs over gRPC, with the Python client."""

import asyncio
import time
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from support.deployment import SCRIPTED, Deployment, ask, eventually

from portico.client import (
    AlreadyExists,
    Client,
    CursorAhead,
    FailedPrecondition,
    NotFound,
    SessionBusy,
)
from portico.v1 import events_pb2


async def test_everything_that_an_agent_yields_arrives_in_order(client: Client) -> None:
    events = [event async for event in client.runs.query("everything")]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    response = events[-1].response
    assert [message.type for message in response.output] == [
        events_pb2.MESSAGE_TYPE_REASONING,
        events_pb2.MESSAGE_TYPE_PLUGIN_CALL,
        events_pb2.MESSAGE_TYPE_PLUGIN_CALL_OUTPUT,
        events_pb2.MESSAGE_TYPE_MESSAGE,
        events_pb2.MESSAGE_TYPE_MESSAGE,
    ]
    assert response.usage.total_tokens == 12
    assert response.agent_name == "scripted"


async def test_an_exception_fails_the_run_and_keeps_what_came_before(client: Client) -> None:
    events = [event async for event in client.runs.query("boom")]
    response = events[-1].response
    assert response.status == events_pb2.RUN_STATUS_FAILED
    assert response.error.code == "AGENT_UNKNOWN_ERROR"
    assert response.error.message == "Unknown agent error: ValueError: boom"
    assert response.output[0].content[0].text == "I begin"


async def test_sys_exit_in_an_agent_ends_the_run_and_not_the_core(client: Client) -> None:
    events = [event async for event in client.runs.query("exit")]
    assert events[-1].response.status == events_pb2.RUN_STATUS_FAILED
    assert await client.runs.query("echo still here").text() == "still here"


async def test_a_plain_generator_streams_from_its_thread(client: Client) -> None:
    assert (await client.runs.query("count 50", agent="plain").text()).split() == [str(n) for n in range(50)]


async def test_cancel_returns_when_the_agents_clean_up_has_run(client: Client, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    run = await client.runs.start(f"forever {mark}")
    await asyncio.sleep(0.2)
    assert not mark.exists()
    ended = await client.runs.cancel(run.response.id)
    assert mark.read_text() == "cleaned up"
    assert ended.response.status == events_pb2.RUN_STATUS_CANCELED
    assert ended.response.output[0].content[0].text.startswith("...")
    again = await client.runs.cancel(run.response.id)
    assert again.response.status == events_pb2.RUN_STATUS_CANCELED


async def test_an_interrupted_agent_may_say_a_last_word(client: Client) -> None:
    run = await client.runs.start("last-word")
    await asyncio.sleep(0.1)
    ended = await client.runs.interrupt(run.response.id)
    assert ended.response.status == events_pb2.RUN_STATUS_INCOMPLETE
    assert ended.response.error.code == "interrupted"
    assert ended.response.output[0].content[0].text == "working but I was interrupted"


async def test_a_session_is_interrupted_by_user_and_session(client: Client) -> None:
    session_id = uuid4().hex
    await client.runs.start("last-word", user_id="u", session_id=session_id)
    await asyncio.sleep(0.1)
    (ended,) = await client.runs.interrupt_session(user_id="u", session_id=session_id)
    assert ended.response.status == events_pb2.RUN_STATUS_INCOMPLETE
    with pytest.raises(FailedPrecondition):
        await client.runs.interrupt_session(user_id="u", session_id=session_id)


async def test_an_ended_run_can_not_be_cancelled(client: Client) -> None:
    stream = client.runs.query("echo done")
    await stream.text()
    with pytest.raises(FailedPrecondition) as caught:
        await client.runs.cancel(stream.run_id)
    assert caught.value.reason == "RUN_TERMINAL"


async def test_a_cursor_beyond_the_end_is_a_typed_error(client: Client) -> None:
    stream = client.runs.query("echo done")
    await stream.text()
    with pytest.raises(CursorAhead) as caught:
        [event async for event in client.runs.watch(stream.run_id, after=1000)]
    assert caught.value.metadata["last_sequence_number"] == str(stream.last_sequence_number)
    last = stream.last_sequence_number
    assert [event async for event in client.runs.watch(stream.run_id, after=last)] == []


@pytest.mark.parametrize("after", [None, 0, 3, 100, 205])
async def test_a_replay_is_what_the_live_stream_was(client: Client, after: int | None) -> None:
    stream = client.runs.query("count 200")
    live = [event async for event in stream]
    replay = [event async for event in client.runs.watch(stream.run_id, after=after)]
    assert replay == live[0 if after is None else after + 1 :]


async def test_a_human_is_asked_and_answers(client: Client) -> None:
    events = [event async for event in client.runs.query("ask")]
    paused = events[-1].response
    assert paused.status == events_pb2.RUN_STATUS_INPUT_REQUIRED
    assert paused.input_request.prompt == "Which city?"
    with pytest.raises(FailedPrecondition):
        await client.runs.resume(paused.id, "Paris", input_request_id="another")
    run = await client.runs.resume(paused.id, "Paris", input_request_id=paused.input_request.id)
    assert run.last_sequence_number == events[-1].sequence_number
    rest = [event async for event in client.runs.watch(paused.id, after=run.last_sequence_number)]
    assert rest[-1].response.output[-1].content[0].text == "You said Paris."
    with pytest.raises(FailedPrecondition):
        await client.runs.resume(paused.id, "Rome")


async def test_a_rejection_is_a_status_of_its_own(client: Client) -> None:
    events = [event async for event in client.runs.query("reject")]
    assert events[-1].response.status == events_pb2.RUN_STATUS_REJECTED
    assert events[-1].response.error.code == "closed"


async def test_a_deadline_fails_the_run(client: Client, tmp_path: Path) -> None:
    began = time.monotonic()
    events = [event async for event in client.runs.query(f"forever {tmp_path / 'mark'}", timeout=0.3)]
    assert events[-1].response.status == events_pb2.RUN_STATUS_FAILED
    assert events[-1].response.error.code == "deadline_exceeded"
    assert time.monotonic() - began < 5


async def test_a_session_remembers_its_runs(client: Client) -> None:
    session_id = uuid4().hex
    await client.runs.query("echo one", session_id=session_id, user_id="u").text()
    text = await client.runs.query("history", session_id=session_id, user_id="u").text()
    assert text == "user:echo one|assistant:one|user:history|"


async def test_state_and_memory_are_at_hand(client: Client) -> None:
    session_id = uuid4().hex
    text = await client.runs.query("remember zebras sleep", session_id=session_id, user_id=session_id).text()
    assert text == "zebras sleep; round 1"


async def test_runs_of_one_session_wait_for_each_other(client: Client) -> None:
    session_id = uuid4().hex
    first = client.runs.query("count 20 10", session_id=session_id, user_id="u")
    await anext(first)
    second = client.runs.query("history", session_id=session_id, user_id="u")
    events = [event async for event in second]
    statuses = [event.response.status for event in events if event.HasField("response")]
    assert statuses == [
        events_pb2.RUN_STATUS_CREATED,
        events_pb2.RUN_STATUS_QUEUED,
        events_pb2.RUN_STATUS_IN_PROGRESS,
        events_pb2.RUN_STATUS_COMPLETED,
    ]
    assert "assistant:0 1 2" in events[-1].response.output[0].content[0].text
    await first.aclose()


async def test_a_busy_session_may_reject_interrupt_or_run_beside(client: Client) -> None:
    here = uuid4().hex
    first = await client.runs.start("last-word", user_id="u", session_id=here)
    await asyncio.sleep(0.05)
    with pytest.raises(SessionBusy):
        await client.runs.start("echo x", user_id="u", session_id=here, if_session_busy="reject")
    parallel = client.runs.query("echo beside", user_id="u", session_id=here, if_session_busy="parallel")
    assert await parallel.text() == "beside"
    after = client.runs.query("echo after", user_id="u", session_id=here, if_session_busy="interrupt")
    assert await after.text() == "after"
    ended = await client.runs.get(first.response.id)
    assert ended.response.status == events_pb2.RUN_STATUS_INCOMPLETE


async def test_a_queued_run_can_be_cancelled(client: Client) -> None:
    here = uuid4().hex
    first = await client.runs.start("last-word", user_id="u", session_id=here)
    second = await client.runs.start("echo never", user_id="u", session_id=here)
    ended = await client.runs.cancel(second.response.id)
    assert ended.response.status == events_pb2.RUN_STATUS_CANCELED
    await client.runs.cancel(first.response.id)


async def test_an_idempotency_key_finds_the_first_run(client: Client) -> None:
    key = uuid4().hex
    first = await client.runs.start("echo once", idempotency_key=key, user_id="u")
    again = await client.runs.start("echo once", idempotency_key=key, user_id="u")
    assert again.response.id == first.response.id
    with pytest.raises(AlreadyExists):
        await client.runs.start("echo other", idempotency_key=key, user_id="u")
    twins = await asyncio.gather(
        *(client.runs.start("echo twin", idempotency_key=f"{key}-twins", user_id="u") for _ in range(10))
    )
    assert len({run.response.id for run in twins}) == 1


async def test_runs_are_listed_newest_first_and_by_filter(client: Client) -> None:
    user_id = uuid4().hex
    ids = []
    for number in range(5):
        run = await client.runs.start(f"echo {number}", user_id=user_id, session_id=f"{user_id}{number}")
        ids.append(run.response.id)
    listed = [run.response.id async for run in client.runs.list(user_id=user_id)]
    assert listed == ids[::-1]
    paged = [run.response.id async for run in client.runs.list(user_id=user_id, page_size=2)]
    assert paged == listed
    assert not [run async for run in client.runs.list(user_id=user_id, agent="plain")]


async def test_a_deleted_run_is_gone(client: Client) -> None:
    stream = client.runs.query("echo gone")
    await stream.text()
    await client.runs.delete(stream.run_id)
    with pytest.raises(NotFound):
        await client.runs.get(stream.run_id)
    live = await client.runs.start("last-word")
    with pytest.raises(FailedPrecondition):
        await client.runs.delete(live.response.id)
    await client.runs.cancel(live.response.id)


async def test_a_slow_reader_harms_nobody_and_gets_everything(client: Client, deployment: Deployment) -> None:
    """One reads nothing for 10 s of a log larger than every buffer; the other finishes long before."""
    run = await client.runs.start("big 20000 150")
    slow = client.runs.watch(run.response.id)
    await anext(slow)
    began = time.monotonic()
    fast = [event async for event in client.runs.watch(run.response.id)]
    assert time.monotonic() - began < 8
    await asyncio.sleep(max(0.0, 10 - (time.monotonic() - began)))
    assert [event.sequence_number async for event in slow] == [e.sequence_number for e in fast[1:]]


async def test_output_beyond_the_limit_is_a_typed_failure(client: Client) -> None:
    events = [event async for event in client.runs.query("big 60000 100")]
    assert events[-1].response.error.code == "output_too_large"


async def test_a_foreground_run_that_nobody_reads_is_cancelled(tmp_path: Path) -> None:
    lonely = Deployment(SCRIPTED, tmp_path, env={"PORTICO_CORE_READER_GRACE_SECONDS": "1"})
    try:
        async with Client(lonely.target) as client:
            mark = tmp_path / "mark"
            async with client.runs.query(f"forever {mark}") as stream:
                await anext(stream)
                run_id = stream.run_id
            await asyncio.sleep(0.5)
            assert not mark.exists()
            back = client.runs.watch(run_id)  # a reader that returns keeps it running
            await anext(back)
            await asyncio.sleep(1.5)
            assert not mark.exists()
            await back.aclose()
            await eventually(mark.exists)
            background = await client.runs.start(f"forever {tmp_path / 'other'}")
            await asyncio.sleep(1.5)
            assert not (tmp_path / "other").exists()
            await client.runs.cancel(background.response.id)
            ended = await client.runs.get(run_id)
            assert ended.response.status == events_pb2.RUN_STATUS_CANCELED
            assert ended.response.error.code == "reader_gone"
    finally:
        lonely.stop()


@pytest.mark.timeout(180)
async def test_a_thousand_anonymous_requests_at_once(deployment: Deployment) -> None:
    limits = httpx.Limits(max_connections=1000)
    async with httpx.AsyncClient(base_url=deployment.url, timeout=150, limits=limits) as http:

        async def one(number: int) -> None:
            answer = await http.post("/process", json=ask(f"echo {number}"))
            assert answer.status_code == 200, answer.text
            assert answer.text.rstrip().count("\n\n") == 6
            assert f'"text":"{number}"' in answer.text

        await asyncio.gather(*(one(number) for number in range(1000)))
