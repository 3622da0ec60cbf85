"""Runs that continue others, steering of executing runs, and ephemeral runs."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from portico.agent import AgentApp, Context, Message
from portico.client import Client, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.v1 import events_pb2


def agents() -> list[AgentApp]:
    app = AgentApp("parrot")

    @app.query
    async def query(msgs: Sequence[Message], context: Context) -> AsyncIterator[str]:
        if msgs[-1].text == "history":
            yield json.dumps([message.text for message in await context.session.messages()])
        elif msgs[-1].text == "listen":
            yield "I begin. "
            while not (told := await context.new_input()):
                await asyncio.sleep(0.01)
            yield f"I was told {[message.text for message in told]}."
        elif msgs[-1].text == "remember":
            await context.state.save({"own": True})
            part = context.state.part("framework")
            await part.save({"of": "framework"})
            await part.part("graph").save({"of": "graph"}, round_id=3)
            yield "waiting"
            if await context.input_required("Go on?"):
                await part.save({"more": True})
            await context.state.save({"own": "again"})
            kept = [await part.load(), await part.part("graph").load(round_id=3)]
            yield json.dumps([saved.state if saved else None for saved in kept])
        elif msgs[-1].text == "slow":
            await asyncio.sleep(0.3)
            yield "done"
        elif msgs[-1].text == "wait":
            yield "..."
            await asyncio.sleep(600)
        elif msgs[-1].text == "authorize":
            answer = await context.auth_required("May I?")
            yield answer[-1].text
        else:
            yield f"re {msgs[-1].text}"

    return [app]


@pytest.fixture(params=["memory", "sqlite"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    store = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/portico.db"
    settings = CoreSettings(
        listen=[f"unix:{tmp_path}/core.sock"],
        store=store,
        drain_seconds=0,
        ephemeral_seconds=0.3,
        reader_grace_seconds=0.3,
    )
    server = CoreServer(agents(), settings)
    await server.start()
    async with Client(server.addresses[0]) as client:
        yield client
    await server.stop()


async def ask(client: Client, text: str, **more: object) -> events_pb2.Response:
    events = [event async for event in client.runs.query(text, **more)]  # type: ignore[arg-type]
    return events[-1].response


def said(response: events_pb2.Response) -> str:
    return response.output[-1].content[0].text


async def test_a_run_goes_on_in_the_session_of_the_one_before(client: Client) -> None:
    first = await ask(client, "one")
    second = await ask(client, "history", previous_run_id=first.id)
    assert (second.session_id, second.user_id) == (first.session_id, first.user_id)
    assert json.loads(said(second)) == ["one", "re one", "history"]


async def test_two_runs_that_continue_the_same_one_do_not_see_each_other(client: Client) -> None:
    first = await ask(client, "one")
    second = await ask(client, "two", previous_run_id=first.id)
    branch = await ask(client, "history", previous_run_id=first.id)
    assert branch.session_id != second.session_id == first.session_id
    assert json.loads(said(branch)) == ["one", "re one", "history"]
    third = await ask(client, "history", previous_run_id=second.id)
    assert json.loads(said(third)) == ["one", "re one", "two", "re two", "history"]


async def test_of_many_at_once_each_has_the_history_of_its_own(client: Client) -> None:
    first = await ask(client, "one")
    answers = await asyncio.gather(*(ask(client, "history", previous_run_id=first.id) for _ in range(8)))
    assert len({answer.session_id for answer in answers}) == 8
    assert {said(answer) for answer in answers} == {'["one", "re one", "history"]'}


async def test_what_continues_a_run_that_works_has_all_that_it_says(client: Client) -> None:
    first = (await client.runs.start("slow")).response
    more: tuple[dict[str, object], ...] = ({}, {}, {"ephemeral": True})
    answers = await asyncio.gather(
        *(ask(client, "history", previous_run_id=first.id, **options) for options in more)
    )
    assert {said(answer) for answer in answers} == {'["slow", "done", "history"]'}


async def test_a_run_that_is_continued_apart_has_its_session_for_itself(client: Client) -> None:
    first = await ask(client, "one")
    branch = await ask(client, "two", previous_run_id=first.id, fork_session=True)
    assert branch.session_id != first.session_id
    assert json.loads(said(await ask(client, "history", previous_run_id=first.id))) == [
        "one",
        "re one",
        "history",
    ]
    on = await ask(client, "history", previous_run_id=branch.id)
    assert json.loads(said(on)) == ["one", "re one", "two", "re two", "history"]
    for option in ({"fork_session": True}, {"before_message_id": "m"}):
        with pytest.raises(InvalidArgument):
            await ask(client, "x", **option)


async def test_a_run_is_continued_as_it_stood_before_it_was_told_more(client: Client) -> None:
    run = (await client.runs.start("authorize")).response
    assert [event async for event in client.runs.watch(run.id)]
    await client.runs.resume(run.id, "yes")
    events = [event async for event in client.runs.watch(run.id)]
    (told,) = [event.response.input[0] for event in events if event.response.input]
    for _ in range(2):
        branch = await ask(client, "history", previous_run_id=run.id, before_message_id=told.id)
        assert json.loads(said(branch)) == ["authorize", "May I?", "history"]
        assert branch.session_id != run.session_id
    with pytest.raises(NotFound) as error:
        await ask(client, "x", previous_run_id=run.id, before_message_id="msg_nope")
    assert error.value.reason == "MESSAGE_NOT_FOUND"


async def test_a_session_that_is_deleted_stays_so(client: Client) -> None:
    run = (await client.runs.start("listen", session_id="s", user_id="ada")).response
    waiting = (await client.runs.start("history", session_id="s", user_id="ada")).response
    async for event in client.runs.watch(run.id):
        if event.HasField("content"):
            break
    await client.sessions.delete("s", user_id="ada")
    await client.runs.steer(run.id, "go on")
    ended = [event async for event in client.runs.watch(run.id)][-1].response
    assert ended.status == events_pb2.RUN_STATUS_COMPLETED
    # A queued run of the deleted session executes without an error too.
    assert said([event async for event in client.runs.watch(waiting.id)][-1].response) == "[]"
    with pytest.raises(NotFound):
        await client.sessions.get("s", user_id="ada")
    for options in ({}, {"fork_session": True}, {"ephemeral": True}):
        with pytest.raises(NotFound) as error:
            await ask(client, "x", previous_run_id=run.id, **options)
        assert error.value.reason == "SESSION_NOT_FOUND"
    # A request that names the session again creates a new one.
    assert json.loads(said(await ask(client, "history", session_id="s", user_id="ada"))) == ["history"]


async def test_what_is_refused_leaves_no_copy(client: Client) -> None:
    first = await ask(client, "one", user_id="ada")
    await ask(client, "two", previous_run_id=first.id)
    with pytest.raises(NotFound):
        await ask(client, "x", previous_run_id=first.id, agent="nope")
    for _ in range(2):
        await ask(client, "y", previous_run_id=first.id, idempotency_key="k")
    assert len([session async for session in client.sessions.list(user_id="ada")]) == 2


async def test_what_continues_nothing_is_refused(client: Client) -> None:
    with pytest.raises(NotFound):
        await ask(client, "x", previous_run_id="resp_nope")
    first = await ask(client, "one")
    with pytest.raises(InvalidArgument):
        await ask(client, "x", previous_run_id=first.id, session_id="s")
    hidden = await ask(client, "one", ephemeral=True)
    with pytest.raises(NotFound):
        await ask(client, "x", previous_run_id=hidden.id)
    run = await client.runs.start("history", previous_run_id=first.id)
    assert run.response.session_id == first.session_id


async def test_an_agent_is_told_more_while_it_works(client: Client) -> None:
    stream = client.runs.query("listen", session_id="s", user_id="ada")
    told: list[str] = []
    async for event in stream:
        if event.HasField("content") and event.content.delta and not told:
            words = [{"role": "user", "content": text} for text in ("left", "right")]
            await client.runs.steer(stream.run_id, words)
        if event.response.input:
            told += [message.content[0].text for message in event.response.input]
            assert event.response.status == events_pb2.RUN_STATUS_IN_PROGRESS
    assert told == ["left", "right"]
    texts = [row.message.content[0].text async for row in client.sessions.list_messages("s", user_id="ada")]
    assert texts[:4] == ["listen", "I begin. ", "left", "right"]
    assert texts[-1] == f"I was told {told}."
    with pytest.raises(FailedPrecondition):
        await client.runs.steer(stream.run_id, "late")
    with pytest.raises(NotFound):
        await client.runs.steer("resp_nope", "x")


async def test_nobody_is_told_more_than_it_takes(client: Client) -> None:
    run = await client.runs.start("wait")
    for _ in range(16):
        await client.runs.steer(run.response.id, "x")
    with pytest.raises(ResourceExhausted):
        await client.runs.steer(run.response.id, "x")
    await client.runs.cancel(run.response.id)


async def test_the_kind_of_a_pause_and_its_answer_are_in_the_log(client: Client) -> None:
    run = await client.runs.start("authorize")
    paused = [event async for event in client.runs.watch(run.response.id)][-1]
    assert paused.response.input_request.kind == events_pb2.INPUT_KIND_AUTHORIZATION
    await client.runs.resume(run.response.id, "yes")
    events = [event async for event in client.runs.watch(run.response.id)]
    assert [event.response.input[0].content[0].text for event in events if event.response.input] == ["yes"]
    assert said(events[-1].response) == "yes"


async def test_an_ephemeral_run_is_followed_to_its_end_and_then_gone(client: Client) -> None:
    response = await ask(client, "history", ephemeral=True)
    assert json.loads(said(response)) == ["history"]
    assert [event async for event in client.runs.watch(response.id)]
    with pytest.raises(NotFound):
        await client.runs.get(response.id)
    assert not [run async for run in client.runs.list()]
    async with asyncio.timeout(5):
        while True:
            try:
                assert [event async for event in client.runs.watch(response.id)]
                await asyncio.sleep(0.05)
            except NotFound:
                break
    with pytest.raises(NotFound):
        await client.sessions.get(response.session_id, user_id=response.user_id)


async def remember(client: Client, **more: object) -> tuple[str, str]:
    """Ids of a run that has saved state and waits, and of its session."""
    stream = client.runs.query("remember", user_id="ada", **more)  # type: ignore[arg-type]
    events = [event async for event in stream]
    assert events[-1].response.status == events_pb2.RUN_STATUS_INPUT_REQUIRED
    return stream.run_id, events[-1].response.session_id


async def go_on(client: Client, run_id: str) -> object:
    """The parts of its state that the run's agent has read."""
    paused = await client.runs.resume(run_id, "yes")
    watched = client.runs.watch(run_id, after=paused.last_sequence_number)
    response = [event async for event in watched][-1].response
    assert response.status == events_pb2.RUN_STATUS_COMPLETED
    return json.loads(said(response))


async def states(client: Client) -> list[tuple[str, int]]:
    return [(state.session_id, state.round_id) async for state in client.states.list(user_id="ada")]


async def test_an_ephemeral_run_leaves_no_part_of_its_state(client: Client) -> None:
    run_id, session_id = await remember(client, ephemeral=True)
    assert await states(client) == [(session_id, 1)]
    assert await go_on(client, run_id) == [{"more": True}, {"of": "graph"}]
    async with asyncio.timeout(30):
        while await states(client):
            await asyncio.sleep(0.05)
    assert await client.states.delete(user_id="ada", session_id=session_id) == 0
    assert (await client.identity.forget_user("ada")).states == 0


async def test_parts_of_a_state_are_no_sessions_and_are_deleted_with_it(client: Client) -> None:
    run_id, session_id = await remember(client)
    other, _ = await remember(client, session_id=f"{session_id}#framework")
    assert await states(client) == [(session_id, 1), (f"{session_id}#framework", 1)]
    assert await client.states.delete(user_id="ada", session_id=session_id, round_id=1) == 1
    assert await client.states.delete(user_id="ada", session_id=session_id) == 2
    assert await go_on(client, run_id) == [{"more": True}, None]
    assert await go_on(client, other) == [{"more": True}, {"of": "graph"}]
    assert (await client.identity.forget_user("ada")).states == 2 + 5


async def test_a_deleted_session_takes_its_state_along_though_a_run_still_works(client: Client) -> None:
    run_id, session_id = await remember(client)
    await client.sessions.delete(session_id, user_id="ada")
    assert await states(client) == []
    assert await go_on(client, run_id) == [None, None]
    # State that the agent itself saves after that needs no session and is visible.
    assert await states(client) == [(session_id, 1)]
    assert (await client.identity.forget_user("ada")).states == 1


async def test_an_ephemeral_run_that_waits_for_nobody_is_given_up(client: Client) -> None:
    stream = client.runs.query("authorize", ephemeral=True)
    events = [event async for event in stream]
    assert events[-1].response.status == events_pb2.RUN_STATUS_INPUT_REQUIRED
    await asyncio.sleep(1)
    with pytest.raises((NotFound, FailedPrecondition)):
        await client.runs.resume(stream.run_id, "yes")


async def test_an_ephemeral_run_leaves_a_session_that_it_was_given(client: Client) -> None:
    response = await ask(client, "one", ephemeral=True, session_id="s", user_id="ada")
    await asyncio.sleep(0.6)
    with pytest.raises(NotFound):
        assert [event async for event in client.runs.watch(response.id)]
    assert (await client.sessions.get("s", user_id="ada")).message_count == 2


async def test_a_core_that_starts_removes_what_another_left_over(tmp_path: Path) -> None:
    settings = CoreSettings(
        listen=[f"unix:{tmp_path}/core.sock"],
        store=f"sqlite:///{tmp_path}/portico.db",
        drain_seconds=0,
        ephemeral_seconds=1,
    )
    server = CoreServer(agents(), settings)
    await server.start()
    async with Client(server.addresses[0]) as client:
        response = await ask(client, "one", ephemeral=True)
        await server.stop()
        server = CoreServer(agents(), settings)
        await server.start()
        # An interrupted reader resumes and gets the rest.
        events = [event async for event in client.runs.watch(response.id)]
        assert events[-1].response.status == response.status
        async with asyncio.timeout(5):
            while True:
                try:
                    await client.sessions.get(response.session_id, user_id=response.user_id)
                    await asyncio.sleep(0.05)
                except NotFound:
                    break
    await server.stop()
