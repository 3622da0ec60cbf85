"""REST for runs, tasks, sessions, states, memories and agents: stored data is returned unchanged."""

import asyncio
from typing import Any, get_args

import httpx
import orjson
import pytest

from portico.gateways.sse.stored_schemas import RoleName, TypeName
from portico.v1 import events_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ended(http: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    async with asyncio.timeout(5):
        while True:
            run: dict[str, Any] = (await http.get(f"/runs/{run_id}")).json()
            if run["status"] not in ("created", "queued", "in_progress"):
                return run
            await asyncio.sleep(0.01)


async def test_a_run_from_start_to_deletion(http: httpx.AsyncClient) -> None:
    asked = {"input": "rich", "agent": "scripted", "user_id": "r", "session_id": "r", "metadata": {"k": [1]}}
    started = await http.post("/runs", json=asked)
    assert started.status_code == 201
    run = started.json()
    assert started.headers["location"] == f"/runs/{run['id']}"
    assert (run["user_id"], run["agent"], run["background"]) == ("r", "scripted", True)
    run = await ended(http, run["id"])
    assert run["status"] == "completed"
    assert [message["type"] for message in run["output"]] == ["reasoning", "plugin_call", "message"]
    assert run["usage"] == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "provider": "p"}
    assert run["metadata"] == {"k": [1]}
    listed = (await http.get("/runs", params={"user_id": "r", "status": ["completed", "failed"]})).json()
    assert [item["id"] for item in listed["runs"]] == [run["id"]]
    assert listed["next_page_token"] == ""
    assert not (await http.get("/runs", params={"user_id": "r", "status": "failed"})).json()["runs"]
    assert not (await http.get("/runs", params={"created_until": run["created_at"] - 9})).json()["runs"]
    assert (await http.post(f"/runs/{run['id']}/cancel")).json()["error"]["code"] == "RUN_TERMINAL"
    assert (await http.delete(f"/runs/{run['id']}")).status_code == 204
    assert (await http.get(f"/runs/{run['id']}")).status_code == 404


async def test_runs_are_paged(http: httpx.AsyncClient) -> None:
    ids = [
        (await http.post("/runs", json={"input": "echo", "user_id": "p", "session_id": str(n)})).json()["id"]
        for n in range(3)
    ]
    first = (await http.get("/runs", params={"user_id": "p", "page_size": 2})).json()
    rest = (await http.get("/runs", params={"user_id": "p", "page_token": first["next_page_token"]})).json()
    assert [run["id"] for run in first["runs"] + rest["runs"]] == ids[::-1]


async def test_a_live_run_is_cancelled_or_interrupted(http: httpx.AsyncClient) -> None:
    run = (await http.post("/runs", json={"input": "quiet"})).json()
    assert (await http.delete(f"/runs/{run['id']}")).json()["error"]["code"] == "RUN_ACTIVE"
    canceled = (await http.post(f"/runs/{run['id']}/cancel")).json()
    assert canceled["status"] == "canceled"
    assert canceled["completed_at"]
    run = (await http.post("/runs", json={"input": "quiet"})).json()
    await asyncio.sleep(0.05)
    assert (await http.post(f"/runs/{run['id']}/interrupt")).json()["error"]["code"] == "interrupted"


async def test_a_session_is_interrupted(http: httpx.AsyncClient) -> None:
    url = "/sessions/u/s/interrupt"
    assert (await http.post(url)).status_code == 409
    run = (await http.post("/runs", json={"input": "quiet", "user_id": "u", "session_id": "s"})).json()
    await asyncio.sleep(0.05)
    (stopped,) = (await http.post(url)).json()["runs"]
    assert (stopped["id"], stopped["status"]) == (run["id"], "incomplete")


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_run_asks_and_is_answered(http: httpx.AsyncClient, streaming: bool) -> None:
    asked = (await http.post("/process", json={"input": "ask", "stream": False})).json()
    assert asked["status"] == "input_required"
    question = asked["input_request"]
    assert (question["prompt"], question["schema"]) == ("Which city?", {"type": "string"})
    url = f"/runs/{asked['id']}/resume"
    wrong = await http.post(url, json={"input": "Rome", "input_request_id": "another"})
    assert wrong.json()["error"]["code"] == "RUN_NOT_PAUSED"
    answer = {"input": [{"role": "user", "content": "Rome"}], "input_request_id": question["id"]}
    headers = {"accept": "text/event-stream"} if streaming else {}
    resumed = await http.post(url, json=answer, headers=headers)
    if streaming:
        assert resumed.text.startswith(f"id: {asked['sequence_number'] + 1}\n")
        assert '"status":"completed"' in resumed.text.removesuffix("\n\n").split("\n\n")[-1]
    else:
        assert resumed.json()["id"] == asked["id"]
    run = await ended(http, asked["id"])
    assert run["output"][-1]["content"][0]["text"] == "You said Rome."
    assert (await http.post(url, json=answer)).status_code == 409


async def test_tasks_in_the_references_words(http: httpx.AsyncClient) -> None:
    submitted = (await http.post("/process/task", json={"input": "echo hi"})).json()
    assert submitted["status"] == "submitted"
    assert set(submitted) == {"task_id", "status", "queue", "message"}
    await ended(http, submitted["task_id"])
    told = (await http.get(f"/process/task/{submitted['task_id']}")).json()
    assert told["status"] == "finished"
    assert told["result"]["output"][0]["content"][0]["text"] == "hi"
    broken = (await http.post("/process/task", json={"input": "boom"})).json()["task_id"]
    await ended(http, broken)
    assert (await http.get(f"/process/task/{broken}")).json()["status"] == "error"
    quiet = (await http.post("/process/task", json={"input": "quiet"})).json()["task_id"]
    await asyncio.sleep(0.05)
    assert (await http.get(f"/process/task/{quiet}")).json() == {"status": "running", "result": None}


async def test_a_session_and_its_messages(http: httpx.AsyncClient) -> None:
    asked = {"user_id": "talker", "session_id": "s", "metadata": {"topic": "sea"}}
    made = await http.post("/sessions", json=asked)
    assert (made.status_code, made.headers["location"]) == (201, "/sessions/talker/s")
    assert made.json()["metadata"] == {"topic": "sea"}
    assert (await http.post("/sessions", json=asked)).json()["error"]["code"] == "SESSION_EXISTS"
    texts = [[{"type": "text", "text": f"fish {number}"}] for number in range(3)]
    given = [{"role": "user", "id": f"m{number}", "content": text} for number, text in enumerate(texts)]
    added = await http.post("/sessions/talker/s/messages", json={"messages": given})
    assert added.status_code == 201
    assert [item["message"]["id"] for item in added.json()["messages"]] == ["m0", "m1", "m2"]
    assert (await http.get("/sessions/talker/s")).json()["message_count"] == 3
    back = (
        await http.get("/sessions/talker/s/messages", params={"order": "descending", "page_size": 2})
    ).json()
    assert [item["message"]["content"][0]["text"] for item in back["messages"]] == ["fish 2", "fish 1"]
    more = {"order": "descending", "page_token": back["next_page_token"]}
    assert len((await http.get("/sessions/talker/s/messages", params=more)).json()["messages"]) == 1
    search: dict[str, str | int] = {"user_id": "talker", "query": "fish", "top_k": 2}
    hits = (await http.get("/sessions/search", params=search)).json()["hits"]
    assert {hit["session_id"] for hit in hits} == {"s"}
    listed = (await http.get("/sessions", params={"user_id": "talker"})).json()["sessions"]
    assert [session["session_id"] for session in listed] == ["s"]
    assert (await http.delete("/sessions/talker/s")).status_code == 204
    assert (await http.get("/sessions/talker/s")).json()["error"]["code"] == "SESSION_NOT_FOUND"


async def test_states_and_their_etags(http: httpx.AsyncClient) -> None:
    first = await http.post("/states/u/s", json={"a": 1})
    etag = first.headers["etag"]
    assert (first.status_code, first.json()["round_id"]) == (200, 1)
    got = await http.get("/states/u/s/1")
    assert (got.json()["state"], got.headers["etag"]) == ({"a": 1}, etag)
    written = await http.put("/states/u/s/1", json={"a": 2}, headers={"if-match": etag})
    assert written.status_code == 200
    assert written.headers["etag"] != etag
    for method, path in (("PUT", "/states/u/s/1"), ("POST", "/states/u/s")):
        stale = await http.request(method, path, json={"a": 3}, headers={"if-match": etag})
        assert (stale.status_code, stale.json()["error"]["code"]) == (409, "ETAG_MISMATCH")
        assert stale.json()["error"]["details"]["etag"] == written.json()["etag"]
    only_new = {"if-none-match": "*"}
    assert (await http.put("/states/u/s/1", json={}, headers=only_new)).status_code == 409
    assert (await http.put("/states/u/s/5", json={"a": 5}, headers=only_new)).status_code == 200
    for headers in ({"if-match": "*"}, {"if-none-match": etag}, {"if-match": etag, "if-none-match": "*"}):
        assert (await http.put("/states/u/s/5", json={}, headers=headers)).status_code == 400
    assert (await http.get("/states/u/s")).json()["state"] == {"a": 5}
    listed = (await http.get("/states/u", params={"session_id": "s"})).json()["states"]
    assert [(item["round_id"], item["state"]) for item in listed] == [(1, None), (5, None)]
    assert (await http.delete("/states/u/s/5")).json() == {"deleted": 1}
    assert (await http.delete("/states/u/s")).json() == {"deleted": 1}
    assert (await http.delete("/states/u")).json() == {"deleted": 0}
    assert (await http.get("/states/u/s")).status_code == 404


async def test_what_was_saved_can_be_read(http: httpx.AsyncClient) -> None:
    """Also nested as deeply as a body may be, and with large numbers."""
    body = b'{"a":' * 253 + b'[1.5,18446744073709551615,"\xe2\x80\xa8"]' + b"}" * 253
    headers = {"content-type": "application/json"}
    assert (await http.post("/states/deep/s", content=body, headers=headers)).status_code == 200
    assert b'"state":%b}' % body in (await http.get("/states/deep/s")).content
    session = b'{"user_id":"deep","session_id":"s","metadata":%b}' % body
    made = await http.post("/sessions", content=session, headers=headers)
    assert b'"metadata":%b}' % body in made.content
    assert body in (await http.get("/sessions", params={"user_id": "deep"})).content


async def test_memories(http: httpx.AsyncClient) -> None:
    given = [
        {"text": "zebras sleep", "metadata": {"kind": "fact"}},
        {"text": "zebras run", "session_id": "s"},
    ]
    added = await http.post("/memories", json={"user_id": "u", "memories": given})
    assert added.status_code == 201
    ids = [memory["memory_id"] for memory in added.json()["memories"]]
    asked = {"user_id": "u", "query": "zebras", "metadata": {"kind": "fact"}}
    (hit,) = (await http.post("/memories/search", json=asked)).json()["hits"]
    assert hit["memory"]["text"] == "zebras sleep"
    assert hit["memory"]["metadata"] == {"kind": "fact"}
    listed = (await http.get("/memories", params={"user_id": "u"})).json()["memories"]
    assert {memory["memory_id"] for memory in listed} == set(ids)
    only = {"user_id": "u", "memory_id": ids[0]}
    assert (await http.delete("/memories", params=only)).json() == {"deleted": 1}
    assert (await http.delete("/memories", params={"user_id": "u"})).json() == {"deleted": 1}


async def test_agents(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/agents")).json()["agents"]
    assert [(agent["name"], agent["is_default"]) for agent in listed] == [
        ("other", False),
        ("scripted", True),
    ]
    told = (await http.get("/agents/scripted")).json()
    assert {"path": "/add", "methods": ["GET", "POST"], "streaming": False, "description": ""} in told[
        "endpoints"
    ]


async def test_the_service_tells_of_itself(http: httpx.AsyncClient) -> None:
    told = (await http.get("/")).json()
    assert told["endpoints"]["process"] == "/process"
    assert (await http.get("/health")).json() == {"status": "healthy", "mode": "gateway", "runner": "ready"}
    assert (await http.get("/readiness")).json() == {"status": "ready"}
    assert (await http.get("/liveness")).json() == {"status": "alive"}


async def test_a_sessions_metadata_and_single_messages(http: httpx.AsyncClient) -> None:
    await http.post("/sessions", json={"user_id": "eve", "session_id": "s", "metadata": {"a": 1}})
    changed = await http.patch("/sessions/eve/s", json={"metadata": {"b": 2}})
    assert changed.json()["metadata"] == {"b": 2}
    texts = ["one", "two", "three"]
    messages = [{"id": f"m_{text}", "role": "user", "content": text} for text in texts]
    await http.post("/sessions/eve/s/messages", json={"messages": messages})
    one = await http.get("/sessions/eve/s/messages/m_one")
    assert one.json()["message"]["content"][0]["text"] == "one"
    after = await http.get("/sessions/eve/s/messages", params={"after_message_id": "m_one"})
    assert [item["message"]["id"] for item in after.json()["messages"]] == ["m_two", "m_three"]
    assert (await http.delete("/sessions/eve/s/messages/m_one")).status_code == 204
    for answer in (
        await http.get("/sessions/eve/s/messages/m_one"),
        await http.delete("/sessions/eve/s/messages/m_one"),
        await http.get("/sessions/eve/s/messages", params={"after_message_id": "m_one"}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "MESSAGE_NOT_FOUND")


async def test_runs_continue_others_are_steered_and_ephemeral(http: httpx.AsyncClient) -> None:
    first = (await http.post("/process", json={"input": "echo x", "stream": False})).json()
    asked = {"input": "echo y", "stream": False, "previous_run_id": first["id"]}
    second = (await http.post("/process", json=asked)).json()
    assert second["session_id"] == first["session_id"]
    hidden = (
        await http.post("/process", json={"input": "echo z", "stream": False, "ephemeral": True})
    ).json()
    assert (await http.get(f"/runs/{hidden['id']}")).status_code == 404
    run = (await http.post("/process/task", json={"input": "quiet"})).json()["task_id"]
    assert (await http.post(f"/runs/{run}/steer", json={"input": "more"})).status_code == 204
    await http.post(f"/runs/{run}/cancel")
    assert (await http.post(f"/runs/{run}/steer", json={"input": "more"})).status_code == 409


async def test_events_tell_what_an_agent_was_told(http: httpx.AsyncClient) -> None:
    run = (await http.post("/process/task", json={"input": "ask"})).json()["task_id"]
    async with http.stream("GET", f"/runs/{run}/events") as paused:
        assert '"input_request"' in (await paused.aread()).decode()
    resumed = await http.post(
        f"/runs/{run}/resume", json={"input": "Paris"}, headers={"accept": "text/event-stream"}
    )
    assert '"input":[{' in resumed.text
    assert "You said Paris." in resumed.text


async def test_a_user_is_forgotten(http: httpx.AsyncClient) -> None:
    run = (await http.post("/runs", json={"input": "echo", "user_id": "gone", "session_id": "g"})).json()
    await ended(http, run["id"])
    await http.post("/memories", json={"user_id": "gone", "memories": [{"text": "a"}, {"text": "b"}]})
    forgotten = await http.delete("/users/gone")
    counts = {name: count for name, count in forgotten.json().items() if count}
    assert (forgotten.status_code, counts) == (200, {"runs": 1, "sessions": 1, "messages": 1, "memories": 2})
    assert (await http.get(f"/runs/{run['id']}")).status_code == 404
    assert set((await http.delete("/users/gone")).json().values()) == {0}


async def test_a_memory_is_got_changed_and_replaced(http: httpx.AsyncClient) -> None:
    given = {"text": "zebras sleep", "key": "a/b ü", "created_at": 12.5, "metadata": {"n": 1}}
    (added,) = (await http.post("/memories", json={"user_id": "u 1", "memories": [given]})).json()["memories"]
    assert (added["key"], added["created_at"], added["expires_at"]) == ("a/b ü", 12.5, None)
    place = f"/memories/u%201/{added['memory_id']}"
    assert (await http.get(place)).json() == added
    assert (await http.get("/memories/u%201", params={"key": "a/b ü"})).json() == added

    changes = {"text": "zebras run", "metadata": None, "expires_at": 4_000_000_000.25}
    changed = (await http.patch(place, json=changes)).json()
    assert changed.pop("updated_at") >= added["updated_at"]
    assert changed == {
        **{name: value for name, value in added.items() if name != "updated_at"},
        "text": "zebras run",
        "metadata": None,
        "expires_at": 4_000_000_000.25,
    }
    assert (await http.patch(place, json={"expires_at": None})).json()["expires_at"] is None

    again = {"user_id": "u 1", "memories": [{"text": "zebras eat", "key": "a/b ü"}]}
    (replaced,) = (await http.post("/memories", json=again)).json()["memories"]
    assert (replaced["memory_id"], replaced["created_at"]) == (added["memory_id"], 12.5)
    assert (await http.delete("/memories", params={"user_id": "u 1", "key": "a/b ü"})).json() == {
        "deleted": 1
    }
    for gone in (await http.get(place), await http.get("/memories/u%201", params={"key": "a/b ü"})):
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "MEMORY_NOT_FOUND")


async def test_memories_are_chosen_by_their_metadata(http: httpx.AsyncClient) -> None:
    given = [{"text": f"zebra {n}", "metadata": {"n": n, "of": {"kind": "fact"}}} for n in range(5)]
    await http.post("/memories", json={"user_id": "chosen", "memories": given})
    chosen = {
        "all": [{"path": "n", "operator": "ge", "value": 2}],
        "any": [[{"path": ["of", "kind"], "operator": "prefix", "value": "fa"}]],
    }
    asked = {"user_id": "chosen", "query": "zebra", "filter": chosen}
    hits = (await http.post("/memories/search", json=asked)).json()["hits"]
    assert {hit["memory"]["metadata"]["n"] for hit in hits} == {2, 3, 4}
    params = {"user_id": "chosen", "filter": orjson.dumps(chosen).decode()}
    listed = (await http.get("/memories", params=params)).json()["memories"]
    assert {memory["metadata"]["n"] for memory in listed} == {2, 3, 4}
    assert (await http.delete("/memories", params=params)).json() == {"deleted": 3}
    assert len((await http.get("/memories", params={"user_id": "chosen"})).json()["memories"]) == 2


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("", 400),
        ("[]", 422),
        ("{", 400),
        ('{"al": []}', 422),
        ('{"all": [{"path": "a", "operator": "eq"}]}', 422),
        ('{"all": [{"path": "a", "operator": "like", "value": "b"}]}', 422),
        ('{"all": [{"path": "a", "operator": "eq", "value": {"b": 1}}]}', 400),
        ('{"all": [{"path": [], "operator": "eq", "value": 1}]}', 400),
        ('{"all": [{"path": "a", "operator": "lt", "value": null}]}', 400),
        ('{"any": [[]]}', 400),
        ('{"all": [' + ",".join(['{"path": "a", "operator": "eq", "value": 1}'] * 33) + "]}", 400),
        ('{"all": [{"path": "a", "operator": "eq", "value": "' + "x" * 8192 + '"}]}', 422),
    ],
)
async def test_what_is_no_filter_deletes_nothing(http: httpx.AsyncClient, asked: str, status: int) -> None:
    await http.post("/memories", json={"user_id": "safe", "memories": [{"text": "zebra"}]})
    refused = await http.delete("/memories", params={"user_id": "safe", "filter": asked})
    assert refused.status_code == status, refused.text
    assert (await http.delete("/memories", params={"user_id": "safe"})).json() == {"deleted": 1}


async def test_a_search_in_sessions_shows_words_of_some_kinds_of_messages(
    http: httpx.AsyncClient,
) -> None:
    await http.post("/sessions", json={"user_id": "kinds", "session_id": "s"})
    given = [
        {"role": "user", "content": [{"type": "text", "text": "Where do zebras sleep?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A zebra sleeps <b>standing</b>."}]},
        {"role": "assistant", "type": "reasoning", "content": [{"type": "text", "text": "Zebra facts."}]},
    ]
    await http.post("/sessions/kinds/s/messages", json={"messages": given})
    asked: dict[str, Any] = {"user_id": "kinds", "query": "zebra"}

    async def found(**wanted: Any) -> list[dict[str, Any]]:
        answer = await http.get("/sessions/search", params=asked | wanted)
        assert answer.status_code == 200, answer.text
        hits: list[dict[str, Any]] = answer.json()["hits"]
        return hits

    (hit,) = await found(role="user", highlight=True)
    assert hit["highlights"] == [{"text": "Where do zebras sleep?", "ranges": [{"start": 9, "end": 15}]}]
    (hit,) = await found(type="reasoning")
    assert (hit["message"]["message"]["type"], hit["highlights"]) == ("reasoning", [])
    assert len(await found(role=["user", "assistant"], type=["message", "reasoning"])) == 3
    for wanted in ({"role": "nobody"}, {"type": "MESSAGE"}, {"highlight": "perhaps"}):
        assert (await http.get("/sessions/search", params=asked | wanted)).status_code == 422


async def test_the_names_of_roles_and_types_are_those_of_the_contract() -> None:
    roles = {name.removeprefix("ROLE_").lower() for name in events_pb2.Role.keys()}  # noqa: SIM118
    types = {name.removeprefix("MESSAGE_TYPE_").lower() for name in events_pb2.MessageType.keys()}  # noqa: SIM118
    assert roles - set(get_args(RoleName)) == types - set(get_args(TypeName)) == {"unspecified"}
