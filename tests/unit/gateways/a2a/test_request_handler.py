"""All operations behave alike on every binding and in both versions, through the SDK's own client."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from a2a.client import Client
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import (
    ContentTypeNotSupportedError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from support.a2a_gateways import BINDINGS, Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW = [pytest.param((binding, "1.0"), id=f"{binding} 1.0") for binding in BINDINGS]
OLD = [pytest.param((binding, "0.3"), id=f"{binding} 0.3") for binding in BINDINGS]
both = pytest.mark.parametrize("speaks", NEW + OLD)
new = pytest.mark.parametrize("speaks", NEW)


def message(text: str = "", *, parts: list[a2a.Part] | None = None, **more: Any) -> a2a.Message:
    said = [a2a.Part(text=text)] if parts is None else parts
    return a2a.Message(message_id=uuid4().hex, role=a2a.ROLE_USER, parts=said, **more)


def ask(
    text: str = "", *, configuration: Any = None, metadata: Any = None, **more: Any
) -> a2a.SendMessageRequest:
    return a2a.SendMessageRequest(
        message=message(text, **more), configuration=configuration, metadata=metadata
    )


async def connect(gateway: Gateway, speaks: tuple[str, str], **options: Any) -> Client:
    return await gateway.client(speaks[0], version=speaks[1], **options)


async def events(stream: AsyncIterator[a2a.StreamResponse]) -> list[a2a.StreamResponse]:
    return [event async for event in stream]


async def sent(client: Client, request: a2a.SendMessageRequest) -> a2a.Task:
    """Returns the task from a blocking send."""
    answers = await events(client.send_message(request))
    assert [answer.WhichOneof("payload") for answer in answers] == ["task"]
    return answers[0].task


def text(task: a2a.Task) -> str:
    return "".join(part.text for artifact in task.artifacts for part in artifact.parts)


def kinds(answers: list[a2a.StreamResponse]) -> list[str]:
    return [str(answer.WhichOneof("payload")) for answer in answers]


async def paused(gateway: Gateway, words: str = "ask") -> a2a.Task:
    client = await gateway.client("JSONRPC", streaming=False)
    return await sent(client, ask(words))


async def live(gateway: Gateway, words: str = "quiet") -> a2a.Task:
    client = await gateway.client("JSONRPC", streaming=False)
    now = a2a.SendMessageConfiguration(return_immediately=True)
    return await sent(client, ask(words, configuration=now))


@both
async def test_a_send_waits_for_the_end(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    task = await sent(client, ask("echo hello"))
    assert task.id.startswith("resp_")
    assert task.context_id
    assert task.status.state == a2a.TASK_STATE_COMPLETED
    assert task.status.timestamp.seconds > 1_600_000_000
    assert text(task) == "hello"
    assert [(told.role, told.parts[0].text) for told in task.history] == [(a2a.ROLE_USER, "echo hello")]
    assert {(told.task_id, told.context_id) for told in task.history} == {(task.id, task.context_id)}


@both
async def test_a_stream_is_the_task_then_its_updates(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks)
    answers = await events(client.send_message(ask("count 3")))
    assert kinds(answers) == ["task", "status_update", *["artifact_update"] * 4, "status_update"]
    task = answers[0].task
    assert task.status.state == a2a.TASK_STATE_SUBMITTED
    assert answers[1].status_update.status.state == a2a.TASK_STATE_WORKING
    chunks = [answer.artifact_update for answer in answers[2:-1]]
    assert [chunk.artifact.parts[0].text for chunk in chunks] == ["0 ", "1 ", "2 ", ""]
    assert [chunk.append for chunk in chunks] == [False, True, True, True]
    assert [chunk.last_chunk for chunk in chunks] == [False, False, False, True]
    assert len({chunk.artifact.artifact_id for chunk in chunks}) == 1
    assert answers[-1].status_update.status.state == a2a.TASK_STATE_COMPLETED
    assert {(chunk.task_id, chunk.context_id) for chunk in chunks} == {(task.id, task.context_id)}


@both
async def test_send_can_return_at_once(gateway: Gateway, speaks: tuple[str, str], tmp_path: Path) -> None:
    client = await connect(gateway, speaks, streaming=False)
    now = a2a.SendMessageConfiguration(return_immediately=True)
    task = await sent(client, ask(f"until {tmp_path}/go", configuration=now))
    assert task.status.state in (a2a.TASK_STATE_SUBMITTED, a2a.TASK_STATE_WORKING)
    (tmp_path / "go").touch()
    async with asyncio.timeout(5):
        while (task := await client.get_task(a2a.GetTaskRequest(id=task.id))).status.state < 3:
            await asyncio.sleep(0.01)
    assert text(task) == ".!"


@both
async def test_a_question_is_answered_by_a_message_to_the_task(
    gateway: Gateway, speaks: tuple[str, str]
) -> None:
    client = await connect(gateway, speaks, streaming=False)
    task = await sent(client, ask("ask"))
    assert task.status.state == a2a.TASK_STATE_INPUT_REQUIRED
    assert task.status.message.parts[0].text == "Which city?"
    assert task.status.message.role == a2a.ROLE_AGENT
    # The context follows from the task.
    ended = await sent(client, ask("Rome", task_id=task.id))
    assert (ended.id, ended.context_id) == (task.id, task.context_id)
    assert ended.status.state == a2a.TASK_STATE_COMPLETED
    assert text(ended) == "You said Rome."
    assert [told.parts[0].text for told in ended.history] == ["ask", "Which city?", "Rome"]
    assert {(told.task_id, told.context_id) for told in ended.history} == {(task.id, task.context_id)}


@both
async def test_an_answer_can_stream(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks)
    first = await events(client.send_message(ask("ask")))
    assert first[-1].status_update.status.state == a2a.TASK_STATE_INPUT_REQUIRED
    task = first[0].task
    answers = await events(client.send_message(ask("Rome", task_id=task.id)))
    assert answers[0].task.id == task.id
    assert answers[0].task.status.state == a2a.TASK_STATE_WORKING
    assert [told.parts[0].text for told in answers[0].task.history] == ["ask", "Which city?", "Rome"]
    assert answers[1].artifact_update.artifact.parts[0].text == "You said Rome."
    assert answers[-1].status_update.status.state == a2a.TASK_STATE_COMPLETED


@both
async def test_a_consent_is_auth_required(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    task = await sent(client, ask("authorize"))
    assert task.status.state == a2a.TASK_STATE_AUTH_REQUIRED
    assert task.status.message.parts[0].text == "May I?"
    ended = await sent(client, ask("the key", task_id=task.id, context_id=task.context_id))
    assert text(ended) == "Thanks for the key."


@both
@pytest.mark.parametrize(
    ("words", "state", "said"),
    [
        ("boom", a2a.TASK_STATE_FAILED, "Unknown agent error: ValueError: boom"),
        ("refuse", a2a.TASK_STATE_REJECTED, "not today"),
    ],
)
async def test_ends_other_than_success_say_why(
    gateway: Gateway, speaks: tuple[str, str], words: str, state: a2a.TaskState, said: str
) -> None:
    client = await connect(gateway, speaks, streaming=False)
    task = await sent(client, ask(words))
    assert (task.status.state, task.status.message.parts[0].text) == (state, said)


@both
async def test_what_an_agent_does_is_told_apart_from_what_it_says(
    gateway: Gateway, speaks: tuple[str, str]
) -> None:
    client = await connect(gateway, speaks, streaming=False)
    task = await sent(client, ask("rich"))
    told = [(item.metadata["type"], item.parts[0].WhichOneof("content")) for item in task.history[1:]]
    assert told[:2] == [("reasoning", "text"), ("plugin_call", "data")]
    parts = task.artifacts[0].parts
    assert parts[0].text == "It is 21 degrees."
    assert MessageToDict(parts[1].data) == {"degrees": 21, "exact": 20.5}
    assert parts[2].url == "https://example.org/map.pdf"
    assert MessageToDict(task.metadata)["usage"]["total_tokens"] == 5


@both
async def test_a_cancel_ends_the_run_and_all_its_streams(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks)
    stream = client.send_message(ask("quiet"))
    first = await anext(stream)
    while (await anext(stream)).WhichOneof("payload") != "artifact_update":
        pass
    watching = client.subscribe(a2a.SubscribeToTaskRequest(id=first.task.id))
    assert (await anext(watching)).task.id == first.task.id
    task = await client.cancel_task(a2a.CancelTaskRequest(id=first.task.id))
    assert task.status.state == a2a.TASK_STATE_CANCELED
    assert text(task) == "."
    for following in (stream, watching):
        last = (await events(following))[-1]
        assert last.status_update.status.state == a2a.TASK_STATE_CANCELED


@new
async def test_an_agent_and_everybody_hear_why_it_was_cancelled(
    gateway: Gateway, speaks: tuple[str, str], tmp_path: Path
) -> None:
    client = await connect(gateway, speaks)
    stream = client.send_message(ask(f"why {tmp_path}/why"))
    first = await anext(stream)
    while (await anext(stream)).WhichOneof("payload") != "artifact_update":
        pass
    why = {"reason": "too slow", "by": {"name": "me"}}
    task = await client.cancel_task(
        a2a.CancelTaskRequest(id=first.task.id, metadata=ParseDict(why, Struct()))
    )
    assert json.loads((tmp_path / "why").read_text()) == why
    assert MessageToDict(task.metadata) == {"cancel": why}
    assert MessageToDict((await events(stream))[-1].status_update.metadata) == {"cancel": why}
    assert await client.get_task(a2a.GetTaskRequest(id=task.id)) == task


@both
async def test_what_has_ended_is_not_cancelled(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    task = await sent(client, ask("echo x"))
    with pytest.raises((TaskNotCancelableError, Exception), match="cancel"):
        await client.cancel_task(a2a.CancelTaskRequest(id=task.id))


@new
async def test_a_canceled_task_is_not_cancelled_again(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks)
    task = await live(gateway)
    await client.cancel_task(a2a.CancelTaskRequest(id=task.id))
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(a2a.CancelTaskRequest(id=task.id))


@new
async def test_who_subscribes_sees_all_of_it_once(
    gateway: Gateway, speaks: tuple[str, str], tmp_path: Path
) -> None:
    client = await connect(gateway, speaks)
    task = await live(gateway, f"until {tmp_path}/go")
    watching = client.subscribe(a2a.SubscribeToTaskRequest(id=task.id))
    seen = text((await anext(watching)).task)
    (tmp_path / "go").touch()
    rest = await events(watching)
    seen += "".join(
        part.text
        for event in rest
        if event.HasField("artifact_update")
        for part in event.artifact_update.artifact.parts
    )
    assert seen == ".!"
    assert rest[-1].status_update.status.state == a2a.TASK_STATE_COMPLETED


@new
async def test_who_subscribes_to_a_question_hears_the_answer(
    gateway: Gateway, speaks: tuple[str, str]
) -> None:
    client = await connect(gateway, speaks)
    task = await paused(gateway)
    watching = client.subscribe(a2a.SubscribeToTaskRequest(id=task.id))
    assert (await anext(watching)).task.status.state == a2a.TASK_STATE_INPUT_REQUIRED
    rest = asyncio.create_task(events(watching))
    await events(client.send_message(ask("Rome", task_id=task.id)))
    answers = await rest
    assert answers[0].status_update.status.state == a2a.TASK_STATE_WORKING
    assert answers[-1].status_update.status.state == a2a.TASK_STATE_COMPLETED


@new
async def test_what_has_ended_takes_no_more(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    task = await sent(client, ask("echo x"))
    with pytest.raises(UnsupportedOperationError):
        await sent(client, ask("more", task_id=task.id))
    streaming = await connect(gateway, speaks)
    with pytest.raises(UnsupportedOperationError):
        await events(streaming.subscribe(a2a.SubscribeToTaskRequest(id=task.id)))
    with pytest.raises(UnsupportedOperationError):
        await events(streaming.send_message(ask("more", task_id=task.id)))


@new
async def test_what_is_not_there_is_not_found(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    streaming = await connect(gateway, speaks)
    theirs = await sent(await connect(gateway, speaks, streaming=False, agent="other"), ask("x"))
    for id in ("resp_nobody", theirs.id):
        with pytest.raises(TaskNotFoundError):
            await client.get_task(a2a.GetTaskRequest(id=id))
        with pytest.raises(TaskNotFoundError):
            await client.cancel_task(a2a.CancelTaskRequest(id=id))
        with pytest.raises(TaskNotFoundError):
            await events(streaming.subscribe(a2a.SubscribeToTaskRequest(id=id)))
        with pytest.raises(TaskNotFoundError):
            await sent(client, ask("x", task_id=id))


@new
async def test_a_task_keeps_its_context(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    task = await paused(gateway)
    with pytest.raises(InvalidParamsError):
        await sent(client, ask("Rome", task_id=task.id, context_id="another"))
    ended = await sent(client, ask("Rome", task_id=task.id, context_id=task.context_id))
    assert ended.status.state == a2a.TASK_STATE_COMPLETED


@both
async def test_a_context_is_a_conversation(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    context = f"context-{uuid4().hex}"
    first = await sent(client, ask("echo one", context_id=context))
    assert first.context_id == context
    second = await sent(client, ask("history", context_id=context))
    assert second.context_id == context
    assert second.id != first.id
    assert text(second) == "echo one | one | history"


@new
async def test_history_is_as_long_as_asked(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    task = await paused(gateway)
    await sent(client, ask("Rome", task_id=task.id))
    for length, expected in ((None, 3), (0, 0), (1, 1), (2, 2), (9, 3)):
        request = a2a.GetTaskRequest(id=task.id)
        if length is not None:
            request.history_length = length
        told = await client.get_task(request)
        assert len(told.history) == expected
        assert not expected or told.history[-1].parts[0].text == "Rome"
    with pytest.raises(InvalidParamsError):
        await client.get_task(a2a.GetTaskRequest(id=task.id, history_length=-1))
    short = a2a.SendMessageConfiguration(history_length=0)
    assert not (await sent(client, ask("echo x", configuration=short))).history


@new
async def test_lists_are_paged_and_in_order(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    context = f"context-{uuid4().hex}"
    waiting = await sent(client, ask("ask", context_id=context))
    made = [await sent(client, ask(f"echo {number}", context_id=context)) for number in range(4)]
    await sent(client, ask("Rome", task_id=waiting.id))
    # The task that changed last is first.
    expected = [waiting.id, *(task.id for task in reversed(made))]
    seen: list[str] = []
    token, pages = "", 0
    while token or not pages:
        page = await client.list_tasks(
            a2a.ListTasksRequest(context_id=context, page_size=2, page_token=token)
        )
        assert (page.page_size, page.total_size) == (2, 5)
        times = [task.status.timestamp.ToNanoseconds() for task in page.tasks]
        assert times == sorted(times, reverse=True)
        assert not any(task.artifacts for task in page.tasks)
        seen += [task.id for task in page.tasks]
        token, pages = page.next_page_token, pages + 1
    assert (seen, pages) == (expected, 3)
    everything = await client.list_tasks(
        a2a.ListTasksRequest(context_id=context, include_artifacts=True, history_length=0)
    )
    assert everything.page_size == 50
    assert [text(task) for task in everything.tasks] == ["You said Rome.", "3", "2", "1", "0"]
    assert not any(task.history for task in everything.tasks)


@new
async def test_lists_are_filtered(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    context = f"context-{uuid4().hex}"
    done = await sent(client, ask("echo x", context_id=context))
    failed = await sent(client, ask("boom", context_id=context))
    waiting = await sent(client, ask("ask", context_id=context))
    for state, expected in (
        (a2a.TASK_STATE_COMPLETED, [done.id]),
        (a2a.TASK_STATE_FAILED, [failed.id]),
        (a2a.TASK_STATE_INPUT_REQUIRED, [waiting.id]),
        (a2a.TASK_STATE_AUTH_REQUIRED, []),
        (a2a.TASK_STATE_CANCELED, []),
        (a2a.TASK_STATE_UNSPECIFIED, [waiting.id, failed.id, done.id]),
    ):
        page = await client.list_tasks(a2a.ListTasksRequest(context_id=context, status=state))
        assert [task.id for task in page.tasks] == expected
    after = a2a.ListTasksRequest(context_id=context, status_timestamp_after=failed.status.timestamp)
    assert [task.id for task in (await client.list_tasks(after)).tasks] == [waiting.id, failed.id]
    for wrong in ({"page_size": 0}, {"page_size": 101}, {"page_token": "x"}, {"history_length": -1}):
        with pytest.raises(InvalidParamsError):
            await client.list_tasks(a2a.ListTasksRequest(**wrong))


@new
async def test_all_parts_arrive_and_come_back(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    about = ParseDict({"page": 3, "of": {"title": "x"}}, Struct())
    parts = [
        a2a.Part(text="echo parts", metadata=about),
        a2a.Part(data=ParseDict({"a": [1, 2.5, None, {"b": True}]}, Value())),
        a2a.Part(data=Value(list_value=ListValue(values=[Value(number_value=1), Value(string_value="two")]))),
        a2a.Part(raw=b"\x00\xff", media_type="image/png", filename="a.png"),
        a2a.Part(raw=b"%PDF", media_type="application/pdf", filename="a.pdf"),
        a2a.Part(url="https://example.org/a.png", media_type="image/png"),
        a2a.Part(url="https://example.org/a.pdf", media_type="application/pdf"),
    ]
    request = ask(parts=parts, extensions=["https://example.org/ext"], reference_task_ids=["resp_1"])
    request.message.metadata.CopyFrom(about)
    task = await sent(client, request)
    told = task.history[0]
    assert list(told.parts) == parts
    assert told.message_id == request.message.message_id
    assert told.metadata == about
    assert (list(told.extensions), list(told.reference_task_ids)) == (["https://example.org/ext"], ["resp_1"])


@new
async def test_media_types_that_an_agent_does_not_read_are_refused(
    gateway: Gateway, speaks: tuple[str, str]
) -> None:
    client = await connect(gateway, speaks, streaming=False)
    with pytest.raises(ContentTypeNotSupportedError):
        await sent(client, ask(parts=[a2a.Part(raw=b"x", media_type="video/mp4")]))
    streaming = await connect(gateway, speaks)
    with pytest.raises(ContentTypeNotSupportedError):
        await events(streaming.send_message(ask(parts=[a2a.Part(raw=b"x", media_type="video/mp4")])))


@both
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_caller_who_can_use_nothing_that_an_agent_writes_is_refused(
    gateway: Gateway, speaks: tuple[str, str], streaming: bool
) -> None:
    client = await connect(gateway, speaks, streaming=streaming)
    only = a2a.SendMessageConfiguration(accepted_output_modes=["video/mp4", "audio/*"])
    new = speaks[1] == "1.0"  # 0.3's clients report errors in words of their own, or not at all
    with pytest.raises(
        ContentTypeNotSupportedError if new else Exception, match="does not write video/mp4" if new else None
    ):
        await events(client.send_message(ask("echo x", configuration=only)))


@both
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_caller_gets_what_it_can_use(
    gateway: Gateway, speaks: tuple[str, str], streaming: bool
) -> None:
    client = await connect(gateway, speaks, streaming=streaming)

    async def answer(*accepted: str) -> tuple[list[Any], list[str]]:
        configuration = a2a.SendMessageConfiguration(accepted_output_modes=accepted)
        answers = await events(client.send_message(ask("rich", configuration=configuration)))
        id = answers[0].task.id
        task = await client.get_task(a2a.GetTaskRequest(id=id))
        (artifact,) = task.artifacts or [a2a.Artifact()]
        kinds = [str(part.WhichOneof("content")) for part in artifact.parts]
        for told in answers[1:]:
            for part in told.artifact_update.artifact.parts:
                assert str(part.WhichOneof("content")) in kinds
        return list(artifact.parts), list(MessageToDict(task.metadata).get("omittedModes", []))

    parts, omitted = await answer("text")
    assert [part.text for part in parts[:2]] == ["It is 21 degrees.", '{"degrees":21,"exact":20.5}']
    assert omitted == ["image/png"]
    parts, omitted = await answer("application/json", "image/*")
    assert [part.WhichOneof("content") for part in parts] == ["data", "url", "raw"]
    assert omitted == ["text/plain"]
    parts, omitted = await answer()
    assert (len(parts), omitted) == (4, [])


@new
async def test_an_agent_sees_what_its_caller_can_use(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    modes = a2a.SendMessageConfiguration(accepted_output_modes=["text/plain", "image/*"])
    assert json.loads(text(await sent(client, ask("modes", configuration=modes)))) == [
        "text/plain",
        "image/*",
    ]


@new
async def test_metadata_of_a_request_is_the_tasks(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    task = await sent(client, ask("echo x", metadata=ParseDict({"ticket": 7}, Struct())))
    assert MessageToDict(task.metadata) == {"ticket": 7}
    again = await client.get_task(a2a.GetTaskRequest(id=task.id))
    assert again == task


@new
async def test_what_is_required_is_named(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    empty = a2a.SendMessageRequest(message=a2a.Message(message_id="m", role=a2a.ROLE_USER))
    with pytest.raises(InvalidParamsError):
        await sent(client, empty)
    with pytest.raises(InvalidParamsError):
        await events((await connect(gateway, speaks)).send_message(empty))


@both
async def test_another_agent_has_its_own_url(gateway: Gateway, speaks: tuple[str, str]) -> None:
    if speaks == ("GRPC", "0.3"):
        pytest.skip("0.3 has no tenants: its gRPC is the default agent's")
    client = await connect(gateway, speaks, streaming=False, agent="other")
    assert text(await sent(client, ask("x"))) == "the other"


@new
async def test_any_replica_answers(gateway: Gateway, replica: Gateway, speaks: tuple[str, str]) -> None:
    one = await connect(gateway, speaks)
    two = await connect(replica, speaks)
    stream = one.send_message(ask("quiet"))
    task = (await anext(stream)).task
    watching = two.subscribe(a2a.SubscribeToTaskRequest(id=task.id))
    assert (await anext(watching)).task.id == task.id
    canceled = await two.cancel_task(a2a.CancelTaskRequest(id=task.id))
    assert canceled.status.state == a2a.TASK_STATE_CANCELED
    assert (await events(stream))[-1] == (await events(watching))[-1]
    assert await one.get_task(a2a.GetTaskRequest(id=task.id)) == canceled


@both
@pytest.mark.parametrize("streaming", [True, False])
async def test_an_agent_can_answer_with_a_message(
    gateway: Gateway, speaks: tuple[str, str], streaming: bool
) -> None:
    if speaks == ("GRPC", "0.3"):
        pytest.skip("0.3 has no tenants: its gRPC is the default agent's")
    client = await connect(gateway, speaks, streaming=streaming, agent="direct")
    (answer,) = await events(client.send_message(ask("hello")))
    assert answer.message.parts[0].text == "directly hello"
    assert answer.message.role == a2a.ROLE_AGENT
    assert answer.message.context_id
    (failed,) = await events(client.send_message(ask("boom")))
    assert failed.task.status.state == a2a.TASK_STATE_FAILED
    (waiting,) = await events(client.send_message(ask("ask")))
    assert waiting.task.status.state == a2a.TASK_STATE_INPUT_REQUIRED


@new
async def test_a_task_that_works_is_told_more(
    gateway: Gateway, speaks: tuple[str, str], tmp_path: Path
) -> None:
    client = await connect(gateway, speaks)
    task = await live(gateway, f"listen {tmp_path}/go")
    stream = client.send_message(ask("to me", task_id=task.id))
    assert (await anext(stream)).task.id == task.id
    (tmp_path / "go").touch()
    rest = await events(stream)
    assert rest[-1].status_update.status.state == a2a.TASK_STATE_COMPLETED
    told = await client.get_task(a2a.GetTaskRequest(id=task.id))
    assert text(told) == ".I hear: to me"
    assert told.history[-1].parts[0].text == "to me"


@new
async def test_an_agent_sees_what_a_message_says(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    request = ask("see", extensions=["https://example.org/ext"], reference_task_ids=["resp_1"])
    request.message.parts[0].metadata["page"] = 3
    request.message.metadata["ticket"] = "t"
    request.metadata["order"] = 7
    seen = json.loads(text(await sent(client, request)))
    id = request.message.message_id
    assert seen == [
        id,
        id,
        ["https://example.org/ext"],
        ["resp_1"],
        {"ticket": "t"},
        {"order": 7},
        {"page": 3},
    ]


@both
async def test_a_budget_comes_with_the_metadata_and_its_use_with_the_end(
    gateway: Gateway, speaks: tuple[str, str]
) -> None:
    client = await connect(gateway, speaks, streaming=False)
    budget = Struct()
    budget.update({"portico.budget": {"tool_calls": 0}})
    task = await sent(client, ask("rich", metadata=budget))
    assert task.status.state == a2a.TASK_STATE_FAILED
    assert task.status.message.metadata["code"] == "budget_exceeded"
    assert MessageToDict(task.metadata)["portico.used"]["exceeded"] == "tool_calls"


@new
async def test_a_budget_that_can_not_be_is_refused(gateway: Gateway, speaks: tuple[str, str]) -> None:
    client = await connect(gateway, speaks, streaming=False)
    budget = Struct()
    budget.update({"portico.budget": {"tool_calls": "many"}})
    with pytest.raises(InvalidParamsError, match=r"portico\.budget\.tool_calls"):
        await sent(client, ask("rich", metadata=budget))
