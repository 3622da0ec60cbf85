"""Every method sends its request and returns its result; errors are typed; retries are safe."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Value
from grpc_health.v1 import health_pb2

from portico.client import (
    Cancelled,
    Client,
    DeadlineExceeded,
    EtagMismatch,
    InvalidArgument,
    NotFound,
    PorticoError,
    Unavailable,
    query_request,
    user_message,
)
from portico.v1 import agent_pb2, events_pb2, memory_pb2, query_pb2, session_pb2, state_pb2

if TYPE_CHECKING:
    from unit.client.conftest import ScriptedCore

RUN = query_pb2.Run(response=events_pb2.Response(id="resp_1"), last_sequence_number=3)
SESSION = session_pb2.Session(user_id="ada", session_id="s")
STATE = state_pb2.State(user_id="ada", session_id="s", round_id=2, etag="e")
MEMORY = memory_pb2.Memory(memory_id="mem_1", text="likes tea")
MEMORY_HIT = memory_pb2.MemoryHit(memory=MEMORY, score=1)
AGENT = agent_pb2.Agent(name="friday")
IN_PLACE = session_pb2.SessionMessage(message=user_message("hi"), position=1)
SESSION_HIT = session_pb2.SessionHit(session_id="s", message=IN_PLACE, score=1)
HI = events_pb2.Message(
    type=events_pb2.MESSAGE_TYPE_MESSAGE,
    role=events_pb2.ROLE_USER,
    content=[events_pb2.Content(type=events_pb2.CONTENT_TYPE_TEXT, text="hi")],
)

Call = Callable[[Client], Awaitable[Any]]
# The client's call, the method, its request, its response, and the result.
CASES: list[tuple[Call, str, Message, Message, Any]] = [
    (
        lambda c: c.runs.get("resp_1"),
        "GetRun",
        query_pb2.GetRunRequest(run_id="resp_1"),
        query_pb2.GetRunResponse(run=RUN),
        RUN,
    ),
    (
        lambda c: c.runs.start("hi", agent="friday", idempotency_key="k", timeout=2),
        "StartRun",
        query_pb2.StartRunRequest(query=query_request("hi", agent="friday", idempotency_key="k", timeout=2)),
        query_pb2.StartRunResponse(run=RUN),
        RUN,
    ),
    (
        lambda c: c.runs.cancel("resp_1"),
        "CancelRun",
        query_pb2.CancelRunRequest(run_id="resp_1"),
        query_pb2.CancelRunResponse(run=RUN),
        RUN,
    ),
    (
        lambda c: c.runs.interrupt("resp_1"),
        "InterruptRun",
        query_pb2.InterruptRunRequest(run_id="resp_1"),
        query_pb2.InterruptRunResponse(runs=[RUN]),
        RUN,
    ),
    (
        lambda c: c.runs.interrupt_session(user_id="ada", session_id="s"),
        "InterruptRun",
        query_pb2.InterruptRunRequest(session=query_pb2.SessionTarget(user_id="ada", session_id="s")),
        query_pb2.InterruptRunResponse(runs=[RUN, RUN]),
        (RUN, RUN),
    ),
    (
        lambda c: c.runs.resume("resp_1", "hi", input_request_id="q"),
        "ResumeRun",
        query_pb2.ResumeRunRequest(run_id="resp_1", input=[HI], input_request_id="q"),
        query_pb2.ResumeRunResponse(run=RUN),
        RUN,
    ),
    (
        lambda c: c.runs.delete("resp_1"),
        "DeleteRun",
        query_pb2.DeleteRunRequest(run_id="resp_1"),
        query_pb2.DeleteRunResponse(),
        None,
    ),
    (
        lambda c: c.runs.steer("resp_1", "left"),
        "SteerRun",
        query_pb2.SteerRunRequest(run_id="resp_1", input=[user_message("left")]),
        query_pb2.SteerRunResponse(),
        None,
    ),
    (
        lambda c: c.sessions.update("s", user_id="ada", metadata={"a": 1}),
        "UpdateSession",
        session_pb2.UpdateSessionRequest(user_id="ada", session_id="s", metadata_json='{"a":1}'),
        session_pb2.UpdateSessionResponse(session=session_pb2.Session(session_id="s")),
        session_pb2.Session(session_id="s"),
    ),
    (
        lambda c: c.sessions.get_message("s", "msg_1", user_id="ada"),
        "GetMessage",
        session_pb2.GetMessageRequest(user_id="ada", session_id="s", message_id="msg_1"),
        session_pb2.GetMessageResponse(message=session_pb2.SessionMessage(position=1)),
        session_pb2.SessionMessage(position=1),
    ),
    (
        lambda c: c.sessions.delete_message("s", "msg_1", user_id="ada"),
        "DeleteMessage",
        session_pb2.DeleteMessageRequest(user_id="ada", session_id="s", message_id="msg_1"),
        session_pb2.DeleteMessageResponse(),
        None,
    ),
    (
        lambda c: c.agents.get("friday"),
        "GetAgent",
        agent_pb2.GetAgentRequest(name="friday"),
        agent_pb2.GetAgentResponse(agent=AGENT),
        AGENT,
    ),
    (
        lambda c: c.agents.call_endpoint("/add", {"a": 1}, agent="friday"),
        "CallEndpoint",
        agent_pb2.CallEndpointRequest(agent_name="friday", path="/add", body_json='{"a":1}'),
        agent_pb2.CallEndpointResponse(result_json="2"),
        agent_pb2.CallEndpointResponse(result_json="2"),
    ),
    (
        lambda c: c.states.save({"n": 1}, user_id="ada", session_id="s", round_id=2, etag="*"),
        "SaveState",
        state_pb2.SaveStateRequest(user_id="ada", session_id="s", round_id=2, state_json='{"n":1}', etag="*"),
        state_pb2.SaveStateResponse(state=STATE),
        STATE,
    ),
    (
        lambda c: c.states.get(user_id="ada", session_id="s"),
        "GetState",
        state_pb2.GetStateRequest(user_id="ada", session_id="s"),
        state_pb2.GetStateResponse(state=STATE),
        STATE,
    ),
    (
        lambda c: c.states.delete(user_id="ada"),
        "DeleteState",
        state_pb2.DeleteStateRequest(user_id="ada"),
        state_pb2.DeleteStateResponse(deleted_count=4),
        4,
    ),
    (
        lambda c: c.sessions.create(user_id="ada", metadata={"topic": "tea"}),
        "CreateSession",
        session_pb2.CreateSessionRequest(user_id="ada", metadata_json='{"topic":"tea"}'),
        session_pb2.CreateSessionResponse(session=SESSION),
        SESSION,
    ),
    (
        lambda c: c.sessions.get("s", user_id="ada"),
        "GetSession",
        session_pb2.GetSessionRequest(user_id="ada", session_id="s"),
        session_pb2.GetSessionResponse(session=SESSION),
        SESSION,
    ),
    (
        lambda c: c.sessions.delete("s", user_id="ada"),
        "DeleteSession",
        session_pb2.DeleteSessionRequest(user_id="ada", session_id="s"),
        session_pb2.DeleteSessionResponse(),
        None,
    ),
    (
        lambda c: c.sessions.append_messages("s", "hi", user_id="ada"),
        "AppendMessages",
        session_pb2.AppendMessagesRequest(user_id="ada", session_id="s", messages=[HI]),
        session_pb2.AppendMessagesResponse(messages=[IN_PLACE]),
        (IN_PLACE,),
    ),
    (
        lambda c: c.sessions.search(
            "tea", user_id="ada", top_k=3, roles=["user"], types=["message", "reasoning"], highlight=True
        ),
        "SearchSessions",
        session_pb2.SearchSessionsRequest(
            user_id="ada",
            query="tea",
            top_k=3,
            roles=[events_pb2.ROLE_USER],
            types=[events_pb2.MESSAGE_TYPE_MESSAGE, events_pb2.MESSAGE_TYPE_REASONING],
            highlight=True,
        ),
        session_pb2.SearchSessionsResponse(hits=[SESSION_HIT]),
        (SESSION_HIT,),
    ),
    (
        lambda c: c.memories.get(key="k", user_id="ada"),
        "GetMemory",
        memory_pb2.GetMemoryRequest(user_id="ada", key="k"),
        memory_pb2.GetMemoryResponse(memory=MEMORY),
        MEMORY,
    ),
    (
        lambda c: c.memories.update("mem_1", user_id="ada", text="a", metadata={"k": 1}, expire_time=None),
        "UpdateMemory",
        memory_pb2.UpdateMemoryRequest(
            user_id="ada",
            memory_id="mem_1",
            memory=memory_pb2.Memory(text="a", metadata_json='{"k":1}'),
            update_mask=FieldMask(paths=["text", "metadata_json", "expire_time"]),
        ),
        memory_pb2.UpdateMemoryResponse(memory=MEMORY),
        MEMORY,
    ),
    (
        lambda c: c.memories.add(["a", MEMORY], user_id="ada", session_id="s", metadata={"k": "v"}),
        "AddMemories",
        memory_pb2.AddMemoriesRequest(
            user_id="ada",
            memories=[memory_pb2.Memory(text="a", session_id="s", metadata_json='{"k":"v"}'), MEMORY],
        ),
        memory_pb2.AddMemoriesResponse(memories=[MEMORY]),
        (MEMORY,),
    ),
    (
        lambda c: c.memories.search("tea", user_id="ada", metadata={"k": "v"}, top_k=2),
        "SearchMemories",
        memory_pb2.SearchMemoriesRequest(user_id="ada", query="tea", metadata={"k": "v"}, top_k=2),
        memory_pb2.SearchMemoriesResponse(hits=[MEMORY_HIT]),
        (MEMORY_HIT,),
    ),
    (
        lambda c: c.memories.delete(
            user_id="ada",
            key="k",
            filter={
                "all": [{"path": "year", "operator": "ge", "value": 2020}],
                "any": [[{"path": ["a", "b"], "operator": "in", "value": ["x", None, True]}]],
            },
        ),
        "DeleteMemories",
        memory_pb2.DeleteMemoriesRequest(
            user_id="ada",
            key="k",
            filter=memory_pb2.MetadataFilter(
                all=[
                    memory_pb2.MetadataCondition(
                        path=["year"],
                        operator=memory_pb2.METADATA_OPERATOR_GE,
                        value=Value(number_value=2020),
                    )
                ],
                any=[
                    memory_pb2.MetadataAlternatives(
                        conditions=[
                            memory_pb2.MetadataCondition(
                                path=["a", "b"],
                                operator=memory_pb2.METADATA_OPERATOR_IN,
                                value=Value(
                                    list_value=ListValue(
                                        values=[
                                            Value(string_value="x"),
                                            Value(null_value=NULL_VALUE),
                                            Value(bool_value=True),
                                        ]
                                    )
                                ),
                            )
                        ]
                    )
                ],
            ),
        ),
        memory_pb2.DeleteMemoriesResponse(deleted_count=1),
        1,
    ),
]
# The listing, the method, the pages and all their items.
LISTS: list[tuple[Callable[[Client], Any], str, list[Any], list[Any]]] = [
    (
        lambda c: c.runs.list(statuses=["failed"], created_from=datetime(2025, 1, 1, tzinfo=UTC)),
        "ListRuns",
        [query_pb2.ListRunsResponse(runs=[RUN], next_page_token="n"), query_pb2.ListRunsResponse(runs=[RUN])],
        [RUN, RUN],
    ),
    (
        lambda c: c.agents.list(page_size=1),
        "ListAgents",
        [agent_pb2.ListAgentsResponse(next_page_token="n"), agent_pb2.ListAgentsResponse(agents=[AGENT])],
        [AGENT],
    ),
    (
        lambda c: c.states.list(user_id="ada"),
        "ListStates",
        [state_pb2.ListStatesResponse(states=[STATE])],
        [STATE],
    ),
    (
        lambda c: c.sessions.list(user_id="ada"),
        "ListSessions",
        [session_pb2.ListSessionsResponse(sessions=[SESSION])],
        [SESSION],
    ),
    (
        lambda c: c.sessions.list_messages("s", user_id="ada", order="descending"),
        "ListMessages",
        [session_pb2.ListMessagesResponse(messages=[IN_PLACE])],
        [IN_PLACE],
    ),
    (
        lambda c: c.memories.list(user_id="ada"),
        "ListMemories",
        [memory_pb2.ListMemoriesResponse(memories=[MEMORY])],
        [MEMORY],
    ),
]


@pytest.mark.parametrize(
    ("call", "method", "request_", "answer", "result"), CASES, ids=[case[1] for case in CASES]
)
async def test_a_call_asks_and_returns(
    core: "ScriptedCore",
    client: Client,
    call: Call,
    method: str,
    request_: Message,
    answer: Message,
    result: Any,
) -> None:
    core.answers[method] = answer
    assert await call(client) == result
    assert (core.asked, core.requests) == ([method], [request_])


@pytest.mark.parametrize(("call", "method", "pages", "items"), LISTS, ids=[case[1] for case in LISTS])
async def test_a_list_is_iterated_over_or_taken_by_the_page(
    core: "ScriptedCore",
    client: Client,
    call: Callable[[Client], Any],
    method: str,
    pages: list[Any],
    items: list[Any],
) -> None:
    core.answers[method] = [*pages, pages[0]]
    listing = call(client)
    assert [item async for item in listing] == items
    assert [request.page_token for request in core.requests] == ["", "n"][: len(pages)]
    assert await listing.page() == pages[0]


def test_every_rpc_of_the_contract_is_called() -> None:
    streams = {"Query", "WatchRun", "Multiplex", "StreamEndpoint"}
    called = {case[1] for case in CASES} | {case[1] for case in LISTS} | streams
    assert called == {
        method.name
        for file in (agent_pb2, memory_pb2, query_pb2, session_pb2, state_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


async def test_a_page_token_begins_a_list(core: "ScriptedCore", client: Client) -> None:
    core.answers["ListAgents"] = agent_pb2.ListAgentsResponse()
    await client.agents.list(page_size=7, page_token="seven").page()
    assert core.requests == [agent_pb2.ListAgentsRequest(page_size=7, page_token="seven")]


async def test_an_error_has_its_class_reason_and_metadata(core: "ScriptedCore", client: Client) -> None:
    core.answer_with_error("SaveState", grpc.StatusCode.ABORTED, "ETAG_MISMATCH", etag="e7")
    with pytest.raises(EtagMismatch) as caught:
        await client.states.save({}, user_id="ada")
    assert caught.value.code is grpc.StatusCode.ABORTED
    assert caught.value.reason == "ETAG_MISMATCH"
    assert caught.value.metadata == {"etag": "e7"}
    assert str(caught.value) == "scripted (ETAG_MISMATCH)"


async def test_credential_and_metadata_go_with_every_call(core: "ScriptedCore") -> None:
    core.answers["GetRun"] = query_pb2.GetRunResponse(run=RUN)
    async with Client(core.target, credential="secret", metadata={"X-Team": "tea"}) as client:
        await client.runs.get("resp_1")
        await client.runs.query("hello").text()
        await client.with_options(credential="other", metadata={"x-more": "1"}).runs.get("resp_1")
        await client.runs.get("resp_1")
    sent = [(m.get("authorization"), m.get("x-team"), m.get("x-more")) for m in core.metadata]
    assert sent == [
        ("Bearer secret", "tea", None),
        ("Bearer secret", "tea", None),
        ("Bearer other", "tea", "1"),
        ("Bearer secret", "tea", None),
    ]


async def test_reads_and_start_are_tried_again(core: "ScriptedCore", client: Client) -> None:
    core.answer_with_error("GetRun", grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    core.answers["GetRun"] = [core.answers["GetRun"], query_pb2.GetRunResponse(run=RUN)]
    assert await client.runs.get("resp_1") == RUN
    core.answer_with_error("StartRun", grpc.StatusCode.UNAVAILABLE, "DRAINING")
    core.answers["StartRun"] = [core.answers["StartRun"], query_pb2.StartRunResponse(run=RUN)]
    assert await client.runs.start("hi") == RUN
    first, second = core.requests[-2:]
    assert first.query.idempotency_key == second.query.idempotency_key != ""


async def test_a_read_is_answered_as_soon_as_a_core_is_back(core: "ScriptedCore", client: Client) -> None:
    core.answers["GetRun"] = query_pb2.GetRunResponse(run=RUN)
    await client.runs.get("resp_1")
    await core.stop()
    attempts: asyncio.Queue[None] = asyncio.Queue()

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        attempts.put_nowait(None)

    async with await asyncio.start_unix_server(refuse, core.target.removeprefix("unix:")):
        client.calls.connection.channel.get_state(try_to_connect=True)
        # After six attempts the channel waits for the maximum time between two attempts.
        for _ in range(6):
            await attempts.get()
    await core.start()
    assert await client.runs.get("resp_1") == RUN


async def test_writes_are_not_tried_again(core: "ScriptedCore", client: Client) -> None:
    core.answer_with_error("SaveState", grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    with pytest.raises(Unavailable):
        await client.states.save({}, user_id="ada")
    assert core.asked == ["SaveState"]


async def test_the_timeout_bounds_a_call(core: "ScriptedCore", client: Client) -> None:
    async def sleep(request: Any) -> Any:
        await asyncio.sleep(5)

    core.answers["GetRun"] = sleep
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await client.with_options(timeout=0.1).runs.get("resp_1")
    assert time.monotonic() - started < 1


async def test_a_cancelled_task_stays_cancelled(core: "ScriptedCore", client: Client) -> None:
    async def sleep(request: Any) -> Any:
        await asyncio.sleep(5)

    core.answers["GetRun"] = sleep
    task = asyncio.create_task(client.runs.get("resp_1"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_closed_client_raises_cancelled(client: Client) -> None:
    await client.close()
    with pytest.raises(Cancelled):
        await client.runs.get("resp_1")


async def test_health_is_what_the_core_says(core: "ScriptedCore", client: Client) -> None:
    assert await client.healthy()
    await core.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert not await client.healthy()
    await core.stop()
    assert not await client.healthy()


async def test_an_endpoint_streams(core: "ScriptedCore", client: Client) -> None:
    core.answers["StreamEndpoint"] = [agent_pb2.StreamEndpointResponse(item_json=str(n)) for n in range(3)]
    items = [item.item_json async for item in client.agents.stream_endpoint("/count", {"to": 3})]
    assert items == ["0", "1", "2"]
    assert core.requests[0].body_json == '{"to":3}'


async def test_leaving_an_endpoints_stream_ends_the_call(core: "ScriptedCore", client: Client) -> None:
    core.answers["StreamEndpoint"] = [agent_pb2.StreamEndpointResponse(item_json="0")]
    core.hold = True
    items = client.agents.stream_endpoint("/count")
    await anext(items)
    await items.aclose()
    await asyncio.wait_for(core.cancelled.wait(), 5)


async def test_an_endpoint_that_fails_raises(core: "ScriptedCore", client: Client) -> None:
    core.answer_with_error("StreamEndpoint", grpc.StatusCode.NOT_FOUND, "ENDPOINT_NOT_FOUND", path="/x")
    with pytest.raises(NotFound):
        await anext(client.agents.stream_endpoint("/x"))


async def test_no_grpc_exception_leaves_the_client(core: "ScriptedCore", client: Client) -> None:
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            core.answer_with_error("DeleteRun", code, "")
            with pytest.raises(PorticoError) as caught:
                await client.runs.delete("resp_1")
            expected = grpc.StatusCode.UNAVAILABLE if code is grpc.StatusCode.CANCELLED else code
            assert caught.value.code is expected
    core.answer_with_error("DeleteRun", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="run_id")
    with pytest.raises(InvalidArgument):
        await client.runs.delete("")
