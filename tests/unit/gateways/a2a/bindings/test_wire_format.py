"""Wire details that the SDK's client does not check: versions, error formats, media types, limits,
slashes.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from a2a.compat.v0_3 import a2a_v0_3_pb2, a2a_v0_3_pb2_grpc
from a2a.types import a2a_pb2 as a2a
from a2a.types import a2a_pb2_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from support.a2a_gateways import Gateway, running_core, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

V1 = {"a2a-version": "1.0"}
ASKED = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "echo x"}]}}
OLD_ASKED = {"message": {"messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "echo x"}]}}
TASK = {"id": "resp_nobody"}
CALLS = [
    ("SendMessage", ASKED),
    ("SendStreamingMessage", ASKED),
    ("GetTask", TASK),
    ("ListTasks", {}),
    ("CancelTask", TASK),
    ("SubscribeToTask", TASK),
    ("CreateTaskPushNotificationConfig", {"taskId": "x", "url": "https://example.org"}),
    ("GetTaskPushNotificationConfig", {"taskId": "x", "id": "y"}),
    ("ListTaskPushNotificationConfigs", {"taskId": "x"}),
    ("DeleteTaskPushNotificationConfig", {"taskId": "x", "id": "y"}),
    ("GetExtendedAgentCard", {}),
]
PATHS = [
    ("POST", "/message:send", ASKED),
    ("POST", "/message:stream", ASKED),
    ("GET", "/tasks/resp_nobody", None),
    ("GET", "/tasks", None),
    ("POST", "/tasks/resp_nobody:cancel", {}),
    ("POST", "/tasks/resp_nobody:subscribe", {}),
    ("POST", "/tasks/x/pushNotificationConfigs", {"url": "https://example.org"}),
    ("GET", "/tasks/x/pushNotificationConfigs/y", None),
    ("GET", "/tasks/x/pushNotificationConfigs", None),
    ("DELETE", "/tasks/x/pushNotificationConfigs/y", None),
    ("GET", "/extendedAgentCard", None),
]


async def rpc(
    gateway: Gateway, method: str, params: Any, headers: dict[str, str] | None = None, path: str = "/a2a"
) -> httpx.Response:
    call = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    return await gateway.http.post(gateway.url + path, json=call, headers=V1 if headers is None else headers)


async def rest(
    gateway: Gateway, method: str, path: str, body: Any, headers: dict[str, str] | None = None
) -> httpx.Response:
    url = f"{gateway.url}/a2a{path}"
    return await gateway.http.request(method, url, json=body, headers=V1 if headers is None else headers)


def reason(details: list[dict[str, Any]]) -> str:
    info = details[0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["domain"] == "a2a-protocol.org"
    return str(info["reason"])


@pytest.mark.parametrize(("method", "params"), CALLS)
@pytest.mark.parametrize("version", ["2.0", "1.1", "0.2", "x", ""])
async def test_rpc_refuses_versions_that_it_does_not_speak(
    gateway: Gateway, method: str, params: Any, version: str
) -> None:
    answer = await rpc(gateway, method, params, {"a2a-version": version})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["id"], body["error"]["code"]) == (7, -32009)
    assert reason(body["error"]["data"]) == "VERSION_NOT_SUPPORTED"


@pytest.mark.parametrize(("method", "path", "body"), PATHS)
@pytest.mark.parametrize("version", ["2.0", "1.1", ""])
async def test_rest_refuses_versions_that_it_does_not_speak(
    gateway: Gateway, method: str, path: str, body: Any, version: str
) -> None:
    answer = await rest(gateway, method, path, body, {"a2a-version": version})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["status"]) == (400, "FAILED_PRECONDITION")
    assert reason(error["details"]) == "VERSION_NOT_SUPPORTED"


@pytest.mark.parametrize("version", ["2.0", "0.3", None])
async def test_grpc_refuses_versions_that_it_does_not_speak(gateway: Gateway, version: str | None) -> None:
    metadata = () if version is None else (("a2a-version", version),)
    async with grpc.aio.insecure_channel(gateway.grpc) as channel:
        stub: Any = a2a_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
        for call in (
            stub.GetTask(a2a.GetTaskRequest(id="x"), metadata=metadata),
            stub.ListTasks(a2a.ListTasksRequest(), metadata=metadata),
            stub.SendMessage(a2a.SendMessageRequest(), metadata=metadata),
            stub.SubscribeToTask(a2a.SubscribeToTaskRequest(id="x"), metadata=metadata).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert grpc_reason(caught.value) == "VERSION_NOT_SUPPORTED"


def grpc_reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[no-untyped-call]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "a2a-protocol.org"
    return str(info.reason)


async def test_old_grpc_needs_no_version(gateway: Gateway) -> None:
    async with grpc.aio.insecure_channel(gateway.grpc) as channel:
        stub: Any = a2a_v0_3_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetTask(a2a_v0_3_pb2.GetTaskRequest(name="tasks/x"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetTask(
                a2a_v0_3_pb2.GetTaskRequest(name="tasks/x"), metadata=(("a2a-version", "1.0"),)
            )
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("path", ["/a2a", "/a2a/", "/agents/scripted/a2a", "/agents/scripted/a2a/"])
async def test_urls_work_with_and_without_a_slash(gateway: Gateway, path: str) -> None:
    answer = await rpc(gateway, "SendMessage", ASKED, path=path)
    assert answer.json()["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    old = await rpc(gateway, "message/send", OLD_ASKED, {}, path=path)
    assert old.json()["result"]["status"]["state"] == "completed"
    url = f"{gateway.url}{path.rstrip('/')}/message:send"
    for sent in (url, f"{url}/"):
        assert (await gateway.http.post(sent, json=ASKED, headers=V1)).status_code == 200
    old_url = f"{gateway.url}{path.rstrip('/')}/v1/message:send"
    body = {"message": {"messageId": "m", "role": "ROLE_USER", "content": [{"text": "echo x"}]}}
    assert (await gateway.http.post(old_url, json=body)).status_code == 200


async def test_a_patch_of_a_version_is_ignored(gateway: Gateway) -> None:
    assert "result" in (await rpc(gateway, "SendMessage", ASKED, {"A2A-Version": "1.0.7"})).json()
    assert "result" in (await rpc(gateway, "message/send", OLD_ASKED, {"A2A-Version": "0.3.0"})).json()


async def test_old_methods_are_not_those_of_the_new_version(gateway: Gateway) -> None:
    assert (await rpc(gateway, "message/send", OLD_ASKED)).json()["error"]["code"] == -32601
    answer = await rest(gateway, "POST", "/v1/message:send", OLD_ASKED)
    assert answer.status_code == 404


@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
async def test_rpc_errors_have_their_codes(gateway: Gateway, method: str) -> None:
    url = f"{gateway.url}/a2a"
    json_type = {**V1, "content-type": "application/json"}
    call = {"jsonrpc": "2.0", "id": "a", "method": method, "params": ASKED}
    for content, headers, code, id in (
        (b"{", json_type, -32700, None),
        (json.dumps([call]).encode(), json_type, -32600, None),
        (json.dumps({**call, "jsonrpc": "1.0"}).encode(), json_type, -32600, "a"),
        (json.dumps({**call, "method": "Nothing"}).encode(), json_type, -32601, "a"),
        (json.dumps({**call, "params": {"message": 3}}).encode(), json_type, -32602, "a"),
        (json.dumps({**call, "params": {}}).encode(), json_type, -32602, "a"),
        (json.dumps(call).encode(), {**V1, "content-type": "text/plain"}, -32005, None),
    ):
        answer = await gateway.http.post(url, content=content, headers=headers)
        assert answer.status_code == 200
        body = answer.json()
        assert (body["error"]["code"], body["id"]) == (code, id), body
        assert isinstance(body["error"].get("data", []), list | dict)
    unknown = {**ASKED, "unheardOf": {"x": 1}}
    assert "error" not in (await rpc(gateway, method, unknown)).text


async def test_violations_of_fields_are_told(gateway: Gateway) -> None:
    empty = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": []}}
    error = (await rpc(gateway, "SendMessage", empty)).json()["error"]
    assert error["data"][1]["fieldViolations"][0]["field"] == "message.parts"
    answer = await rest(gateway, "POST", "/message:stream", empty)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][1]["fieldViolations"][0]["field"] == "message.parts"


async def test_bodies_have_a_limit_and_a_type(gateway: Gateway) -> None:
    large = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x" * 100_001}]}}
    answer = await rpc(gateway, "SendMessage", large)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, -32600)
    answer = await rest(gateway, "POST", "/message:send", large)
    assert answer.status_code == 413
    answer = await gateway.http.post(
        f"{gateway.url}/a2a/message:send", content=b"x", headers={**V1, "content-type": "text/plain"}
    )
    assert answer.status_code == 400
    assert reason(answer.json()["error"]["details"]) == "CONTENT_TYPE_NOT_SUPPORTED"
    fine = await gateway.http.post(
        f"{gateway.url}/a2a/message:send",
        content=json.dumps(ASKED),
        headers={**V1, "content-type": "application/a2a+json; charset=utf-8"},
    )
    assert fine.status_code == 200
    assert fine.headers["content-type"] == "application/a2a+json"


async def test_who_forgets_the_version_is_told_of_the_header(gateway: Gateway) -> None:
    said = "send the header A2A-Version: 1.0"
    assert said in (await rpc(gateway, "SendMessage", ASKED, {})).json()["error"]["message"]
    assert said in (await rest(gateway, "POST", "/message:send", ASKED, {})).json()["error"]["message"]
    assert (await rpc(gateway, "Nothing", ASKED, {})).json()["error"]["code"] == -32601


@pytest.mark.parametrize("path", ["/v1/message:stream", "/v1/tasks/resp_nobody:subscribe"])
async def test_old_streams_that_can_not_begin_are_errors(gateway: Gateway, path: str) -> None:
    content = [{"text": "x"}]
    asked: dict[str, Any] = {"message": {"messageId": "m", "role": "ROLE_USER", "content": content}}
    asked["configuration"] = {"acceptedOutputModes": ["video/mp4"]}
    answer = await rest(gateway, "POST", path, asked, {})
    stream = "stream" in path
    assert answer.status_code == (400 if stream else 404)
    expected = "CONTENT_TYPE_NOT_SUPPORTED" if stream else "TASK_NOT_FOUND"
    assert reason(answer.json()["error"]["details"]) == expected


async def test_an_old_stream_that_can_not_go_on_ends_with_an_error(tmp_path: Path) -> None:
    asked = {"message": {"messageId": "m", "role": "ROLE_USER", "content": [{"text": "quiet"}]}}
    async with running_core(tmp_path) as core, running_gateway(tmp_path, resume_seconds=0.2) as gateway:
        stream = gateway.http.stream("POST", f"{gateway.url}/a2a/v1/message:stream", json=asked)
        lines = []
        async with stream as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
                if '"."' in line:
                    await core.stop()
    assert "event: error" in lines
    assert "UNAVAILABLE" in lines[-2] + lines[-1]


async def test_rest_errors_are_a_status(gateway: Gateway) -> None:
    answer = await rest(gateway, "GET", "/tasks/resp_nobody", None)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    assert reason(error["details"]) == "TASK_NOT_FOUND"
    subscribed = await rest(gateway, "GET", "/tasks/resp_nobody:subscribe", None)
    assert (subscribed.status_code, subscribed.headers["content-type"]) == (404, "application/json")
    assert (await rest(gateway, "GET", "/nowhere/at/all/really", None)).status_code == 404
    assert (await rest(gateway, "DELETE", "/message:send", None)).status_code in (404, 405)


async def test_a_tenant_in_a_path_is_an_agent(gateway: Gateway) -> None:
    answer = await rest(gateway, "POST", "/other/message:send", ASKED)
    assert answer.json()["task"]["artifacts"][0]["parts"][0]["text"] == "the other"
    wrong = await rest(gateway, "POST", "/nobody/message:send", ASKED)
    assert wrong.status_code == 400
    assert reason(wrong.json()["error"]["details"]) == "INVALID_PARAMS"
    url = f"{gateway.url}/agents/scripted/a2a"
    params = {**ASKED, "tenant": "other"}
    both = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
    assert (await gateway.http.post(url, json=both, headers=V1)).json()["error"]["code"] == -32602
    params["tenant"] = "scripted"
    assert "result" in (await gateway.http.post(url, json=both, headers=V1)).json()


async def test_a_stream_is_proto_json(gateway: Gateway) -> None:
    asked = {"message": {**ASKED["message"], "parts": [{"text": 'echo "quoted" \u2028 é'}]}}
    answer = await rpc(gateway, "SendStreamingMessage", asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    told = [json.loads(line[6:]) for line in lines]
    assert {(event["jsonrpc"], event["id"]) for event in told} == {("2.0", 7)}
    results = [event["result"] for event in told]
    task = results[0]["task"]
    assert task["status"]["state"] == "TASK_STATE_SUBMITTED"
    assert task["status"]["timestamp"].endswith("Z")
    assert task["history"][0]["role"] == "ROLE_USER"
    assert results[2]["artifactUpdate"]["artifact"]["parts"] == [{"text": '"quoted" \u2028 é'}]
    assert "append" not in results[2]["artifactUpdate"]
    assert results[-2]["artifactUpdate"] == {
        "taskId": task["id"],
        "contextId": task["contextId"],
        "artifact": {
            "artifactId": results[2]["artifactUpdate"]["artifact"]["artifactId"],
            "parts": [{"text": ""}],
        },
        "append": True,
        "lastChunk": True,
    }
    over_rest = await rest(gateway, "POST", "/message:stream", asked)
    plain = [json.loads(line[6:]) for line in over_rest.text.split("\n") if line]
    assert [list(event) for event in plain] == [list(result) for result in results]


async def test_the_fast_chunks_are_what_the_slow_ones_are(gateway: Gateway) -> None:
    """Only the first and the last chunk of a text go through the translator."""
    asked = {"message": {**ASKED["message"], "parts": [{"text": "count 5"}]}}
    fast = await rpc(gateway, "SendStreamingMessage", asked)
    pushed = {**asked, "configuration": {"taskPushNotificationConfig": {"url": "http://127.0.0.1:9/"}}}
    slow = await rpc(gateway, "SendStreamingMessage", pushed)

    def shapes(answer: httpx.Response) -> list[Any]:
        told = [json.loads(line[6:])["result"] for line in answer.text.split("\n") if line.startswith("data")]
        for event in told:
            for update in event.values():
                for name in ("id", "taskId", "contextId", "status", "history"):
                    update.pop(name, None)
                update.get("artifact", {}).pop("artifactId", None)
        return told

    assert shapes(fast) == shapes(slow)
    assert len(shapes(fast)) == 9


async def test_a_repeat_with_a_key_is_the_same_task(gateway: Gateway) -> None:
    headers = {**V1, "idempotency-key": "once"}
    ids = {
        (await rpc(gateway, "SendMessage", ASKED, headers)).json()["result"]["task"]["id"] for _ in range(2)
    }
    assert len(ids) == 1


async def test_extensions_that_a_call_asks_for_reach_the_message(gateway: Gateway) -> None:
    headers = {**V1, "a2a-extensions": "https://example.org/a, https://example.org/b"}
    task = (await rpc(gateway, "SendMessage", ASKED, headers)).json()["result"]["task"]
    assert task["history"][0]["extensions"] == ["https://example.org/a", "https://example.org/b"]


async def test_no_defect_tells_of_the_inside(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("a secret of the code")

    monkeypatch.setattr("portico.gateways.a2a.tasks.start_task.to_message", broken)
    answers = [
        await rpc(gateway, "SendMessage", ASKED),
        await rpc(gateway, "SendStreamingMessage", ASKED),
        await rpc(gateway, "message/send", OLD_ASKED, {}),
        await rpc(gateway, "message/stream", OLD_ASKED, {}),
        await rest(gateway, "POST", "/message:send", ASKED),
        await rest(gateway, "POST", "/message:stream", ASKED),
    ]
    for answer in answers:
        assert "secret" not in answer.text
        assert "quote request" in answer.text
    async with grpc.aio.insecure_channel(gateway.grpc) as channel:
        stub: Any = a2a_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
        message = a2a.Message(message_id="m", role=a2a.ROLE_USER, parts=[a2a.Part(text="x")])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SendMessage(
                a2a.SendMessageRequest(message=message), metadata=(("a2a-version", "1.0"),)
            )
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(caught.value)
    assert "a secret of the code" in caplog.text


async def test_other_paths_are_not_claimed(gateway: Gateway) -> None:
    claims = gateway.site.gateways[0].claims
    for path in ("/", "/process", "/agents", "/agents/a", "/agents/a/endpoints/a2a", "/a2ax", "/agents//a2a"):
        assert not claims(path)
    for path in ("/a2a", "/a2a/x", "/.well-known/agent-card.json", "/agents/a/a2a", "/agents/a/a2a/x/y"):
        assert claims(path)


async def test_who_leaves_a_stream_harms_nobody(gateway: Gateway, tmp_path: Path) -> None:
    asked = {"message": {**ASKED["message"], "parts": [{"text": f"until {tmp_path}/go"}]}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": asked}
    async with gateway.http.stream("POST", f"{gateway.url}/a2a", json=call, headers=V1) as answer:
        first = await anext(answer.aiter_lines())
    id = json.loads(first[6:])["result"]["task"]["id"]
    await asyncio.sleep(0.5)  # longer than a foreground run without readers would live
    (tmp_path / "go").touch()
    await asyncio.sleep(0.1)
    task = (await rpc(gateway, "GetTask", {"id": id})).json()["result"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_wrong_parameters_of_old_methods_are_said_to_be(gateway: Gateway) -> None:
    for method, params in (("message/send", {"message": 3}), ("tasks/get", {}), ("tasks/cancel", {"id": 7})):
        answer = (await rpc(gateway, method, params, {})).json()
        assert (answer["error"]["code"], answer["id"]) == (-32602, 7)
    assert (await rpc(gateway, "tasks/nothing", {}, {})).json()["error"]["code"] == -32601
    missing = (await rpc(gateway, "tasks/get", {"id": "resp_nobody"}, {})).json()
    assert missing["error"]["code"] == -32001


async def test_old_push_configs_need_no_id(gateway: Gateway) -> None:
    asked = {**OLD_ASKED, "configuration": {"blocking": False}}
    asked["message"] = {**OLD_ASKED["message"], "parts": [{"kind": "text", "text": "quiet"}]}
    id = (await rpc(gateway, "message/send", asked, {})).json()["result"]["id"]
    none = (await rpc(gateway, "tasks/pushNotificationConfig/get", {"id": id}, {})).json()
    assert none["error"]["code"] == -32001
    config = {"taskId": id, "pushNotificationConfig": {"url": "http://127.0.0.1:9/", "token": "t"}}
    made = (await rpc(gateway, "tasks/pushNotificationConfig/set", config, {})).json()["result"]
    config_id = made["pushNotificationConfig"]["id"]
    for params in ({"id": id}, {"id": id, "pushNotificationConfigId": config_id}):
        got = (await rpc(gateway, "tasks/pushNotificationConfig/get", params, {})).json()["result"]
        assert got == made
    listed = (await rpc(gateway, "tasks/pushNotificationConfig/list", {"id": id}, {})).json()["result"]
    assert listed == [made]
    gone = {"id": id, "pushNotificationConfigId": config_id}
    assert "error" not in (await rpc(gateway, "tasks/pushNotificationConfig/delete", gone, {})).json()
    assert (await rpc(gateway, "tasks/pushNotificationConfig/list", {"id": id}, {})).json()["result"] == []
    await rpc(gateway, "CancelTask", {"id": id})


async def test_a_rest_cancel_has_a_body_or_none(gateway: Gateway) -> None:
    message = {**ASKED["message"], "parts": [{"text": "quiet"}]}
    quiet = {"message": message, "configuration": {"returnImmediately": True}}
    for path, body, told in (
        ("/tasks/{}:cancel", None, {}),
        ("/tasks/{}:cancel/", {"metadata": {"why": [1]}}, {"metadata": {"cancel": {"why": [1.0]}}}),
        ("/scripted/tasks/{}:cancel", {"id": "another"}, {}),
    ):
        id = (await rpc(gateway, "SendMessage", quiet)).json()["result"]["task"]["id"]
        answer = await rest(gateway, "POST", path.format(id), body)
        assert answer.headers["content-type"] == "application/a2a+json"
        task = answer.json()
        assert (task["id"], task["status"]["state"]) == (id, "TASK_STATE_CANCELED")
        assert {name: task[name] for name in ("metadata",) if name in task} == told
    assert (await rest(gateway, "POST", "/tasks/x:cancel", {"metadata": 3})).status_code == 400
    assert (await rest(gateway, "GET", "/tasks/x:cancel", None)).status_code == 405
    assert (await rest(gateway, "POST", "/nobody/tasks/x:cancel", {})).status_code == 400


async def test_a_gateway_that_stops_ends_its_streams(core_directory: Path) -> None:
    asked = {"message": {**ASKED["message"], "parts": [{"text": "quiet"}]}}
    async with running_gateway(core_directory) as gateway:
        fast = asyncio.create_task(rpc(gateway, "SendStreamingMessage", asked))
        whole = asyncio.create_task(rpc(gateway, "SendMessage", asked))
        await asyncio.sleep(0.2)
        listed = (await rpc(gateway, "ListTasks", {"status": "TASK_STATE_WORKING"})).json()["result"]
        ids = [task["id"] for task in listed["tasks"]]
        slow = asyncio.create_task(rpc(gateway, "SubscribeToTask", {"id": ids[0]}))
        await asyncio.sleep(0.2)
        gateway.site.stop()
        async with asyncio.timeout(3):
            assert ": this gateway is stopping" in (await fast).text
            assert '"task"' in (await slow).text
            # The task has not ended, and its state shows it.
            assert (await whole).json()["result"]["task"]["status"]["state"] == "TASK_STATE_WORKING"
            late = await rpc(gateway, "SendStreamingMessage", asked)
        assert late.json()["error"]["data"][0]["reason"] == "UNAVAILABLE"
    async with running_gateway(core_directory) as other:
        for task in (await rpc(other, "ListTasks", {"status": "TASK_STATE_WORKING"})).json()["result"][
            "tasks"
        ]:
            await rpc(other, "CancelTask", {"id": task["id"]})
