"""Every method of the contract treats another user's data as if it did not exist.

A method that is missing in the table fails the test that walks the contract.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from support.foreign_caller import SECRET, TENANT, UNKNOWN, USER, Estate, estate, filled, nameless

from portico.client.errors import error_from_rpc, error_from_stream_end
from portico.core.server.core_server import FILES
from portico.v1 import query_pb2

INPUT = [{"role": "ROLE_USER", "content": [{"text": "hi"}]}]
ASK = {"input": INPUT}


class Case(NamedTuple):
    """A request; placeholders such as `{run}` become ids of the owner, and then ids that don't exist.

    hidden: NOT_FOUND for both. own: about the caller itself, whatever the request names. refused:
    PERMISSION_DENIED. open: the same for all callers.
    """

    kind: str
    request: dict[str, Any]


def hidden(**request: Any) -> Case:
    return Case("hidden", request)


def own(**request: Any) -> Case:
    return Case("own", request)


def box(**request: Any) -> Case:
    return Case("hidden", {"sandbox_id": "{sandbox}", **request})


COMMAND = {"arguments": ["true"]}
TABLE: dict[str, list[Case]] = {
    "QueryService.Query": [
        own(request={**ASK, "session_id": "{session}"}),
        hidden(request=ASK, previous_run_id="{run}"),
        hidden(request=ASK, previous_run_id="{live}"),
        hidden(request=ASK, parent_run_id="{run}"),
        hidden(request=ASK, parent_run_id="{live}"),
    ],
    "QueryService.StartRun": [
        own(query={"request": {**ASK, "session_id": "{session}"}}),
        hidden(query={"request": ASK, "previous_run_id": "{run}"}),
        hidden(query={"request": ASK, "parent_run_id": "{live}"}),
    ],
    "QueryService.WatchRun": [hidden(run_id="{run}"), hidden(run_id="{live}", after_sequence_number=99)],
    "QueryService.GetRun": [hidden(run_id="{run}"), hidden(run_id="{live}")],
    "QueryService.ListRuns": [own(session_id="{session}", with_total=True), own()],
    "QueryService.CancelRun": [hidden(run_id="{run}"), hidden(run_id="{live}")],
    "QueryService.InterruptRun": [
        hidden(run_id="{run}"),
        hidden(run_id="{live}"),
        own(session={"session_id": "elsewhere"}),
    ],
    "QueryService.ResumeRun": [hidden(run_id="{run}", input=INPUT), hidden(run_id="{live}", input=INPUT)],
    "QueryService.SteerRun": [hidden(run_id="{run}", input=INPUT), hidden(run_id="{live}", input=INPUT)],
    "QueryService.DeleteRun": [hidden(run_id="{run}"), hidden(run_id="{live}")],
    "QueryService.Multiplex": [
        hidden(actions=[{"stream_id": 1, "watch": {"run_id": "{run}"}}]),
        hidden(actions=[{"stream_id": 1, "watch": {"run_id": "{live}"}}]),
        hidden(actions=[{"stream_id": 1, "query": {"request": ASK, "previous_run_id": "{run}"}}]),
        hidden(actions=[{"stream_id": 1, "query": {"request": ASK, "parent_run_id": "{live}"}}]),
        own(actions=[{"stream_id": 1, "query": {"request": {**ASK, "session_id": "{session}"}}}]),
    ],
    "AgentService.ListAgents": [Case("open", {})],
    "AgentService.GetAgent": [Case("open", {})],
    "AgentService.CallEndpoint": [own(path="/who", body_json="{}")],
    "AgentService.StreamEndpoint": [own(path="/who", body_json="{}")],
    "StateService.SaveState": [own(session_id="{session}", state_json="{}", etag="*")],
    "StateService.GetState": [hidden(session_id="{session}")],
    "StateService.ListStates": [own(session_id="{session}"), own()],
    "StateService.DeleteState": [own(session_id="{session}"), own()],
    "SessionService.CreateSession": [own(session_id="{session}")],
    "SessionService.GetSession": [hidden(session_id="{session}")],
    "SessionService.UpdateSession": [hidden(session_id="{session}", metadata_json="{}")],
    "SessionService.ListSessions": [own()],
    "SessionService.DeleteSession": [hidden(session_id="{session}")],
    "SessionService.AppendMessages": [hidden(session_id="{session}", messages=INPUT)],
    "SessionService.ListMessages": [hidden(session_id="{session}")],
    "SessionService.GetMessage": [hidden(session_id="{session}", message_id="{message}")],
    "SessionService.DeleteMessage": [hidden(session_id="{session}", message_id="{message}")],
    "SessionService.SearchSessions": [own(query=SECRET, session_id="{session}"), own(query=SECRET)],
    "MemoryService.AddMemories": [own(memories=[{"text": "mine"}])],
    "MemoryService.GetMemory": [hidden(memory_id="{memory}"), hidden(key="{memory_key}")],
    "MemoryService.UpdateMemory": [hidden(memory_id="{memory}", memory={"text": "mine"}, update_mask="text")],
    "MemoryService.SearchMemories": [own(query=SECRET)],
    "MemoryService.ListMemories": [own()],
    "MemoryService.DeleteMemories": [own(memory_id="{memory}"), own(key="{memory_key}"), own()],
    "PushService.SetPushConfig": [hidden(config={"run_id": "{run}", "url": "http://127.0.0.1/mine"})],
    "PushService.GetPushConfig": [hidden(run_id="{run}", config_id="{config}")],
    "PushService.ListPushConfigs": [hidden(run_id="{run}")],
    "PushService.DeletePushConfig": [hidden(run_id="{run}", config_id="{config}")],
    "PushService.ClaimPushes": [Case("refused", {})],
    "PushService.AckPush": [Case("refused", {"run_id": "{run}", "config_id": "{config}", "revision": "r"})],
    "SandboxService.CreateSandbox": [own(session_id="{session}")],
    "SandboxService.GetSandbox": [box()],
    "SandboxService.ListSandboxes": [own(), own(session_id="{session}")],
    "SandboxService.TouchSandbox": [box()],
    "SandboxService.DeleteSandbox": [box()],
    "SandboxService.PauseSandbox": [box()],
    "SandboxService.ResumeSandbox": [box()],
    "SandboxService.GetSandboxMetrics": [box()],
    "SandboxService.RunCell": [box(code="1")],
    "SandboxService.RunCells": [
        box(code="1"),
        own(create={"session_id": "{session}"}, code="open('note').read()"),
    ],
    "SandboxService.RunCommand": [box(command=COMMAND)],
    "SandboxService.StartProcess": [box(command=COMMAND)],
    "SandboxService.ListProcesses": [box()],
    "SandboxService.WriteProcess": [box(pid=1)],
    "SandboxService.SignalProcess": [box(pid=1, signal=9)],
    "SandboxService.WatchProcess": [box(pid=1)],
    "SandboxService.OpenTerminal": [hidden(start={"sandbox_id": "{sandbox}"})],
    "SandboxService.ListTools": [box()],
    "SandboxService.CallTool": [box(name="run_ipython_cell", arguments_json="{}")],
    "SandboxService.ReadFile": [box(path="note")],
    "SandboxService.WriteFile": [hidden(start={"sandbox_id": "{sandbox}", "path": "note"})],
    "SandboxService.StatFile": [box(path="note")],
    "SandboxService.ListDirectory": [box()],
    "SandboxService.MakeDirectory": [box(path="new")],
    "SandboxService.MoveFile": [box(source="note", destination="stolen")],
    "SandboxService.RemoveFile": [box(path="note")],
    "SandboxService.SearchFiles": [box()],
    "SandboxService.EditFile": [box(path="note", edits=[{"old_text": SECRET}])],
    "SandboxService.WatchFiles": [box()],
    "SandboxService.ConnectPort": [hidden(start={"sandbox_id": "{sandbox}", "port": 80})],
    "SandboxService.CreatePortAccess": [box(port=80)],
    "SandboxService.CreateCheckpoint": [box(name="c")],
    "SandboxService.RollBack": [box(name="c"), box(snapshot_id="{snapshot}")],
    "SandboxService.CreateSnapshot": [box()],
    "SandboxService.ListSnapshots": [own(), own(session_id="{session}"), own(sandbox_id="{sandbox}")],
    "SandboxService.DeleteSnapshot": [hidden(snapshot_id="{snapshot}")],
    "SandboxService.ForkSandbox": [hidden(snapshot_id="{snapshot}"), hidden(sandbox_id="{sandbox}")],
    "IdentityService.GetCaller": [own()],
    "IdentityService.CreateKey": [Case("refused", {"principal": {"user_id": USER}})],
    "IdentityService.ListKeys": [Case("refused", {})],
    "IdentityService.ForgetUser": [own()],
    "IdentityService.RevokeKey": [Case("refused", {"key_id": "{key}"})],
}
METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}.{method.name}": method
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
}
# Another user of the tenant, and another tenant's user of the same name. Each method has separate ones.
STRANGERS = {
    "another user": lambda method: (f"eve-{method}", TENANT),
    "another tenant": lambda method: (USER, f"globex-{method}"),
}


class Outcome(NamedTuple):
    code: str
    words: str
    answer: bytes


def test_the_table_has_every_method() -> None:
    assert set(TABLE) == set(METHODS), "a method needs a line that says what a foreign caller may see of it"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owned(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    async with estate(tmp_path_factory.mktemp("estate")) as everything:
        yield everything


async def ask(owned: Estate, method: MethodDescriptor, request: Message, credential: str) -> Outcome:
    """Result of the method. Streams are read to their end; of endless ones, only the first response."""
    channel = owned.owner.calls.connection.channel
    path = f"/{method.containing_service.full_name}/{method.name}"
    metadata = (("authorization", f"Bearer {credential}"),) if credential else ()
    response_class = GetMessageClass(method.output_type)
    coding: tuple[Any, Any] = (type(request).SerializeToString, response_class.FromString)
    answers: list[Message] = []
    try:
        if method.client_streaming:
            call = channel.stream_stream(path, *coding)(metadata=metadata, timeout=20)
            await call.write(request)
            await call.done_writing()
            answers = [answer async for answer in call]
        elif method.server_streaming:
            stream = channel.unary_stream(path, *coding)(request, metadata=metadata, timeout=20)
            answers = [answer async for answer in stream]
        else:
            answers = [await channel.unary_unary(path, *coding)(request, metadata=metadata, timeout=20)]
    except grpc.aio.AioRpcError as error:
        told = error_from_rpc(error)
        words = f"{told.code} {told.reason} {told.message} {sorted(told.metadata.items())}"
        return Outcome(error.code().name, words, b"")
    for answer in answers:
        if isinstance(answer, query_pb2.MultiplexResponse):
            for frame in answer.frames:
                if frame.end.code:
                    end = error_from_stream_end(frame.end)
                    words = f"{end.code} {end.reason} {end.message} {sorted(end.metadata.items())}"
                    return Outcome(end.code.name, words, b"")
    return Outcome("OK", "", b"".join(answer.SerializeToString() for answer in answers))


def message(method: MethodDescriptor, template: Any, names: Any) -> Message:
    return ParseDict(filled(template, names), GetMessageClass(method.input_type)())


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_anothers_is_not_there(owned: Estate, name: str, stranger: str) -> None:
    method = METHODS[name]
    stranger_is = STRANGERS[stranger](name)
    for case in TABLE[name]:
        credential = await owned.core.key(*stranger_is)
        theirs = await ask(owned, method, message(method, case.request, owned.names), credential)
        # A new key each time, because one of the methods revokes all keys of its caller.
        credential = await owned.core.key(*stranger_is)
        nobodys = await ask(owned, method, message(method, case.request, UNKNOWN), credential)
        assert SECRET.encode() not in theirs.answer
        assert theirs.code == nobodys.code, (theirs, nobodys)
        assert nameless(theirs.words, owned.names) == nameless(nobodys.words, UNKNOWN)
        match case.kind:
            case "hidden":
                assert theirs.code == "NOT_FOUND", theirs
            case "refused":
                assert theirs.code == "PERMISSION_DENIED", theirs
            case "own":
                assert theirs.code in ("OK", "FAILED_PRECONDITION"), theirs
                for thing in ("run", "live", "memory", "sandbox", "config"):
                    assert owned.names[thing].encode() not in theirs.answer
    await owned.intact()


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.asyncio(loop_scope="module")
async def test_without_a_credential_there_is_nothing(owned: Estate, name: str) -> None:
    method = METHODS[name]
    for case in TABLE[name]:
        outcome = await ask(owned, method, message(method, case.request, owned.names), "")
        assert outcome.code == ("OK" if name == "AgentService.GetAgent" else "UNAUTHENTICATED"), outcome
    await owned.intact()


@pytest.mark.asyncio(loop_scope="module")
async def test_who_is_refused_while_writing_is_told_why(owned: Estate) -> None:
    name = "SandboxService.OpenTerminal"
    method = METHODS[name]
    request = message(method, TABLE[name][0].request, owned.names)
    outcomes = [await ask(owned, method, request, "") for _ in range(600)]
    assert {outcome.code for outcome in outcomes} == {"UNAUTHENTICATED"}


USERS = {name: "user_id" for name, method in METHODS.items() if "user_id" in method.input_type.fields_by_name}
USERS["QueryService.Query"] = "request.user_id"
USERS["QueryService.StartRun"] = "query.request.user_id"
USERS["QueryService.InterruptRun"] = "session.user_id"
USERS["SandboxService.RunCells"] = "create.user_id"


def test_every_user_id_in_a_request_is_known() -> None:
    """A request with a user id in a nested message needs a line in USERS, or in `elsewhere`."""
    found = {name for name, method in METHODS.items() if _has_user(method.input_type.fields, 0)}
    # Multiplex is checked per stream; only an admin creates keys; user ids of memories are output only.
    elsewhere = {"QueryService.Multiplex", "IdentityService.CreateKey", "MemoryService.AddMemories"}
    assert found - elsewhere == set(USERS) - elsewhere


def _has_user(fields: Any, depth: int) -> bool:
    return any(
        field.name == "user_id"
        or (depth < 4 and field.message_type is not None and _has_user(field.message_type.fields, depth + 1))
        for field in fields
    )


@pytest.mark.parametrize("name", sorted(USERS))
@pytest.mark.asyncio(loop_scope="module")
async def test_nobody_can_name_another_user(owned: Estate, name: str) -> None:
    method = METHODS[name]
    credential = await owned.core.key("eve", TENANT)
    template = next(case for case in TABLE[name] if case.kind != "refused").request
    if name == "QueryService.InterruptRun":
        template = {"session": {"session_id": "elsewhere"}}
    outcomes = set()
    for victim in (USER, "nobody-of-that-name"):
        request = message(method, template, owned.names)
        target: Any = request
        *parents, field = USERS[name].split(".")
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, field, victim)
        outcomes.add(await ask(owned, method, request, credential))
    assert len(outcomes) == 1
    assert outcomes.pop().code == "PERMISSION_DENIED"
    await owned.intact()


@pytest.mark.asyncio(loop_scope="module")
async def test_to_deny_takes_the_same_look_in_the_store(
    owned: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = owned.core.server._stores.runs
    looks: list[str] = []
    get = runs.get

    async def counted(run_id: str) -> Any:
        looks.append(run_id)
        return await get(run_id)

    monkeypatch.setattr(runs, "get", counted)
    credential = await owned.core.key("eve", TENANT)
    counts = {}
    for name in ("QueryService.GetRun", "QueryService.WatchRun", "QueryService.CancelRun"):
        for thing, names in (("run", owned.names), ("live", owned.names), ("run", UNKNOWN)):
            looks.clear()
            method = METHODS[name]
            outcome = await ask(owned, method, message(method, {"run_id": f"{{{thing}}}"}, names), credential)
            assert outcome.code == "NOT_FOUND"
            counts[name, names[thing]] = len(looks)
    assert set(counts.values()) == {1}


async def test_an_ended_sandbox_is_its_owners_secret_too(tmp_path: Path) -> None:
    async with estate(tmp_path) as owned:
        box_id = owned.names["sandbox"]
        await owned.owner.sandboxes.delete(box_id)
        credential = await owned.core.key("eve", TENANT)
        method = METHODS["SandboxService.GetSandbox"]
        outcome = await ask(owned, method, message(method, {"sandbox_id": box_id}, {}), credential)
        assert outcome.code == "NOT_FOUND"
        mine = await ask(owned, method, message(method, {"sandbox_id": box_id}, {}), owned.credential)
        assert mine.code == "FAILED_PRECONDITION"
