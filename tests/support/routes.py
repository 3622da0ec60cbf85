"""Every route of every gateway, and the request that asks it for another user's data.

A route that is in no table fails a test of `tests/unit/gateways/test_foreign_callers.py`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from support.foreign_caller import SECRET, USER

ASK = {"input": "hi", "stream": False}


class Case(NamedTuple):
    """A request. hidden: 404 for both. own: about the caller itself. open: for all. None is used for the
    body.
    """

    kind: str
    body: Any = None
    query: Mapping[str, str] | None = None


def hidden(body: Any = None, **query: str) -> Case:
    return Case("hidden", body, query)


def own(body: Any = None, **query: str) -> Case:
    return Case("own", body, query)


SSE: dict[str, Case] = {
    "POST /process": own({**ASK, "session_id": "{session}"}),
    "GET /": Case("open"),
    "GET /health": Case("open"),
    "GET /readiness": Case("open"),
    "GET /liveness": Case("open"),
    "POST /process/task": own({**ASK, "session_id": "{session}"}),
    "GET /process/task/{run_id}": hidden(),
    "POST /runs": own({**ASK, "session_id": "{session}"}),
    "GET /runs": own(session_id="{session}"),
    "GET /runs/{run_id}": hidden(),
    "DELETE /runs/{run_id}": hidden(),
    "GET /runs/{run_id}/events": hidden(),
    "POST /runs/{run_id}/cancel": hidden(),
    "POST /runs/{run_id}/interrupt": hidden(),
    "POST /sessions/{user_id}/{session_id}/interrupt": own(),
    "POST /runs/{run_id}/resume": hidden({"input": "hi"}),
    "POST /runs/{run_id}/steer": hidden({"input": "hi"}),
    "POST /sessions": own({"user_id": USER, "session_id": "{session}"}),
    "GET /sessions": own(user_id=USER),
    "GET /sessions/search": own(user_id=USER, query=SECRET),
    "GET /sessions/{user_id}/{session_id}": hidden(),
    "PATCH /sessions/{user_id}/{session_id}": hidden({"metadata": {}}),
    "DELETE /sessions/{user_id}/{session_id}": hidden(),
    "GET /sessions/{user_id}/{session_id}/messages": hidden(),
    "POST /sessions/{user_id}/{session_id}/messages": hidden(
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}
    ),
    "GET /sessions/{user_id}/{session_id}/messages/{message_id}": hidden(),
    "DELETE /sessions/{user_id}/{session_id}/messages/{message_id}": hidden(),
    "GET /states/{user_id}": own(),
    "DELETE /states/{user_id}": own(),
    "GET /states/{user_id}/{session_id}": hidden(),
    "POST /states/{user_id}/{session_id}": own({}),
    "DELETE /states/{user_id}/{session_id}": own(),
    "GET /states/{user_id}/{session_id}/{round_id}": hidden(),
    "PUT /states/{user_id}/{session_id}/{round_id}": own({}),
    "DELETE /states/{user_id}/{session_id}/{round_id}": own(),
    "POST /memories": own({"user_id": USER, "memories": [{"text": "mine"}]}),
    "GET /memories": own(user_id=USER),
    "DELETE /memories": own(user_id=USER, memory_id="{memory}"),
    "GET /memories/{user_id}": hidden(key="{memory_key}"),
    "GET /memories/{user_id}/{memory_id}": hidden(),
    "PATCH /memories/{user_id}/{memory_id}": hidden({"text": "mine"}),
    "POST /memories/search": own({"user_id": USER, "query": SECRET}),
    "DELETE /users/{user_id}": own(),
    "GET /agents": own(),
    "GET /agents/{name}": Case("open"),
    "POST /sandboxes": own({"user_id": USER, "session_id": "{session}"}),
    "GET /sandboxes": own(),
    "GET /sandboxes/snapshots": own(),
    "GET /sandboxes/{sandbox_id}": hidden(),
    "DELETE /sandboxes/{sandbox_id}": hidden(),
    "POST /sandboxes/{sandbox_id}/touch": hidden(),
    "POST /sandboxes/{sandbox_id}/pause": hidden(),
    "POST /sandboxes/{sandbox_id}/resume": hidden(),
    "GET /sandboxes/{sandbox_id}/metrics": hidden(),
    "POST /sandboxes/{sandbox_id}/cells": hidden({"code": "1"}),
    "POST /sandboxes/{sandbox_id}/commands": hidden({"command": "true"}),
    "POST /sandboxes/{sandbox_id}/processes": hidden({"command": "true"}),
    "GET /sandboxes/{sandbox_id}/processes": hidden(),
    "GET /sandboxes/{sandbox_id}/processes/{pid}/output": hidden(),
    "POST /sandboxes/{sandbox_id}/processes/{pid}/input": hidden({"data": "x"}),
    "POST /sandboxes/{sandbox_id}/processes/{pid}/signal": hidden({"signal": 9}),
    "GET /sandboxes/{sandbox_id}/tools": hidden(),
    "POST /sandboxes/{sandbox_id}/tools/{name}": hidden({}),
    "GET /sandboxes/{sandbox_id}/files": hidden(),
    "DELETE /sandboxes/{sandbox_id}/files": hidden(path="note"),
    "GET /sandboxes/{sandbox_id}/files/content": hidden(path="note"),
    "HEAD /sandboxes/{sandbox_id}/files/content": hidden(path="note"),
    "PUT /sandboxes/{sandbox_id}/files/content": hidden(b"stolen", path="note"),
    "GET /sandboxes/{sandbox_id}/files/info": hidden(path="note"),
    "POST /sandboxes/{sandbox_id}/files/directories": hidden({"path": "new"}),
    "POST /sandboxes/{sandbox_id}/files/move": hidden({"source": "note", "destination": "stolen"}),
    "GET /sandboxes/{sandbox_id}/files/search": hidden(),
    "POST /sandboxes/{sandbox_id}/files/edit": hidden(
        {"path": "note", "edits": [{"old_text": SECRET, "new_text": ""}]}
    ),
    "GET /sandboxes/{sandbox_id}/files/changes": hidden(),
    "POST /sandboxes/{sandbox_id}/ports/{port}": hidden({}),
    "POST /sandboxes/{sandbox_id}/checkpoints": hidden({"name": "c"}),
    "POST /sandboxes/{sandbox_id}/rollback": hidden({"checkpoint": "c"}),
    "POST /sandboxes/{sandbox_id}/snapshots": hidden(),
    "POST /sandboxes/{sandbox_id}/fork": hidden({}),
    "DELETE /sandboxes/snapshots/{snapshot_id}": hidden(),
}
# Routes that OpenAPI does not describe, the terminal's WebSocket and the signed ports, have tests here.
OPENAI: dict[str, Case] = {
    "POST /v1/responses": hidden({"input": "hi", "previous_response_id": "{run}"}),
    "POST /v1/chat/completions": own({"messages": [{"role": "user", "content": "hi"}], "model": "keeper"}),
    "POST /v1/responses/input_tokens": hidden({"input": "hi", "previous_response_id": "{run}"}),
    "POST /v1/responses/compact": hidden({"model": "keeper", "previous_response_id": "{run}"}),
    "GET /v1/responses/{response_id}": hidden(),
    "DELETE /v1/responses/{response_id}": hidden(),
    "POST /v1/responses/{response_id}/cancel": hidden(),
    "GET /v1/responses/{response_id}/input_items": hidden(),
    "POST /v1/conversations": own({}),
    "GET /v1/conversations/{conversation_id}": hidden(),
    "POST /v1/conversations/{conversation_id}": hidden({"metadata": {}}),
    "DELETE /v1/conversations/{conversation_id}": hidden(),
    "POST /v1/conversations/{conversation_id}/items": hidden(
        {"items": [{"type": "message", "role": "user", "content": "hi"}]}
    ),
    "GET /v1/conversations/{conversation_id}/items": hidden(),
    "GET /v1/conversations/{conversation_id}/items/{item_id}": hidden(),
    "DELETE /v1/conversations/{conversation_id}/items/{item_id}": hidden(),
    "GET /v1/models": own(),
    "GET /v1/models/{model}": Case("open"),
}
MESSAGE = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
PUSH = {"url": "https://93.184.216.34/x"}
A2A_REST: dict[str, Case] = {
    "POST /message:send": hidden({"message": {**MESSAGE, "taskId": "{run}"}}),
    "POST /message:stream": hidden({"message": {**MESSAGE, "taskId": "{live}"}}),
    "POST /tasks/{id}:cancel": hidden({}),
    "GET /tasks/{id}:subscribe": hidden(),
    "POST /tasks/{id}:subscribe": hidden({}),
    "GET /tasks/{id}": hidden(),
    "GET /tasks/{id}/pushNotificationConfigs/{push_id}": hidden(),
    "DELETE /tasks/{id}/pushNotificationConfigs/{push_id}": hidden(),
    "POST /tasks/{id}/pushNotificationConfigs": hidden(PUSH),
    "GET /tasks/{id}/pushNotificationConfigs": hidden(),
    "GET /tasks": own(contextId="{session}"),
    "GET /extendedAgentCard": own(),
}
TASK, CONFIG = {"id": "{run}"}, {"taskId": "{run}", "id": "{config}"}
A2A_RPC: dict[str, Case] = {
    "SendMessage": hidden({"message": {**MESSAGE, "taskId": "{run}"}}),
    "SendStreamingMessage": hidden({"message": {**MESSAGE, "taskId": "{live}"}}),
    "GetTask": hidden(TASK),
    "ListTasks": own({"contextId": "{session}"}),
    "CancelTask": hidden(TASK),
    "SubscribeToTask": hidden({"id": "{live}"}),
    "CreateTaskPushNotificationConfig": hidden({"taskId": "{run}", **PUSH}),
    "GetTaskPushNotificationConfig": hidden(CONFIG),
    "ListTaskPushNotificationConfigs": hidden({"taskId": "{run}"}),
    "DeleteTaskPushNotificationConfig": hidden(CONFIG),
    "GetExtendedAgentCard": own({}),
}
OLD_MESSAGE = {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "hi"}]}
OLD_CONFIG = {"id": "{run}", "pushNotificationConfigId": "{config}"}
A2A_OLD: dict[str, Case] = {
    "message/send": hidden({"message": {**OLD_MESSAGE, "taskId": "{run}"}}),
    "message/stream": hidden({"message": {**OLD_MESSAGE, "taskId": "{live}"}}),
    "tasks/get": hidden(TASK),
    "tasks/cancel": hidden(TASK),
    "tasks/resubscribe": hidden({"id": "{live}"}),
    "tasks/pushNotificationConfig/set": hidden({"taskId": "{run}", "pushNotificationConfig": PUSH}),
    "tasks/pushNotificationConfig/get": hidden(OLD_CONFIG),
    "tasks/pushNotificationConfig/list": hidden(TASK),
    "tasks/pushNotificationConfig/delete": hidden(OLD_CONFIG),
    "agent/getAuthenticatedExtendedCard": own(),
}
MCP: dict[str, dict[str, Any]] = {
    "sandbox_create": {},
    "sandbox_run_code": {"code": "1", "sandbox_id": "{sandbox}"},
    "sandbox_exec": {"command": "true", "sandbox_id": "{sandbox}"},
    "sandbox_read_file": {"path": "note", "sandbox_id": "{sandbox}"},
    "sandbox_write_file": {"path": "note", "text": "", "sandbox_id": "{sandbox}"},
    "sandbox_list_files": {"sandbox_id": "{sandbox}"},
    "sandbox_snapshot": {"sandbox_id": "{sandbox}"},
    "sandbox_list_snapshots": {},
    "sandbox_delete_snapshot": {"snapshot_id": "{snapshot}"},
    "sandbox_fork": {"source": "{snapshot}"},
    "sandbox_kill": {"sandbox_id": "{sandbox}"},
}
PLACES = {
    "run_id": "{run}",
    "response_id": "{run}",
    "id": "{run}",
    "session_id": "{session}",
    "conversation_id": "{session}",
    "item_id": "{message}",
    "message_id": "{message}",
    "push_id": "{config}",
    "user_id": USER,
    "sandbox_id": "{sandbox}",
    "snapshot_id": "{snapshot}",
    "round_id": "1",
    "pid": "1",
    "port": "80",
    "name": "keeper",
    "model": "keeper",
}
