"""A line of the audit log has caller, action and ids, and no content of the call."""

import json
from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry import context
from support.agent_calls import calling

from portico.core.services.rpc import audit_log
from portico.model.identity import UNAUTHENTICATED_OPERATOR, make_principal
from portico.telemetry.log import log_ids
from portico.telemetry.tracing import spans
from portico.v1 import agent_pb2, identity_pb2, query_pb2, sandbox_pb2

WHO = make_principal("acme", "ann", frozenset(("use",)))


def told(method: str, request: object, answer: object = None, **more: Any) -> dict[str, object]:
    lines: list[bytes] = []
    with audit_log.write_audit_to(lines.append):
        audit_log.record_call(method, request, answer, **more)
    [line] = lines
    found: dict[str, object] = json.loads(line)
    assert str(found.pop("time")).endswith("+00:00")
    return found


def test_a_line_says_who_did_what_and_for_which_request() -> None:
    request = query_pb2.QueryRequest(previous_run_id="resp_1")
    asked = request.request
    asked.user_id, asked.session_id, asked.agent_name = "ann", "s", "a"
    request.request.input.add().content.add().text = "a secret"
    ids_token = log_ids.request_id.set("mine")
    trace = context.attach(spans.parent_of({"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-00"}))
    try:
        with calling(WHO):
            line = told("Query", request, run_id="resp_2")
    finally:
        context.detach(trace)
        log_ids.request_id.reset(ids_token)
    assert line == {
        "address": "",
        "action": "create",
        "method": "Query",
        "outcome": "OK",
        "caller": {"tenant": "acme", "user": "ann"},
        "request_id": "mine",
        "trace_id": "ab" * 16,
        "run_id": "resp_2",
        "agent_name": "a",
        "session_id": "s",
        "user_id": "ann",
        "previous_run_id": "resp_1",
    }


def test_without_auth_or_before_it_is_known_nobody_is_named() -> None:
    assert told("/portico.v1.QueryService/GetRun", None)["caller"] is None
    with calling(UNAUTHENTICATED_OPERATOR):
        assert told("/portico.v1.QueryService/GetRun", None)["caller"] is None


def test_what_an_answer_names_is_told_unless_it_was_only_read() -> None:
    run = query_pb2.StartRunResponse()
    run.run.response.id = "resp_9"
    assert told("/portico.v1.QueryService/StartRun", query_pb2.StartRunRequest(), run)["run_id"] == "resp_9"
    read = query_pb2.GetRunResponse()
    read.run.response.id = "resp_9"
    assert "run_id" not in told("/portico.v1.QueryService/GetRun", query_pb2.GetRunRequest(), read)
    key = identity_pb2.CreateKeyResponse()
    key.key.key_id, key.credential = "key_1", "portico_secret"
    line = told("/portico.v1.IdentityService/CreateKey", identity_pb2.CreateKeyRequest(), key)
    assert line["key_id"] == "key_1"
    assert "portico_secret" not in str(line)


def test_long_names_are_cut_and_empty_ones_left_out() -> None:
    line = told("GetRun", query_pb2.GetRunRequest(run_id="x" * 1000))
    assert line["run_id"] == "x" * 256
    assert "run_id" not in told("GetRun", query_pb2.GetRunRequest())


@pytest.mark.parametrize("message", [agent_pb2.GetAgentRequest(), sandbox_pb2.CreateSandboxRequest()])
def test_any_message_can_be_told(message: Message) -> None:
    assert told("ReadIt", message)["outcome"] == "OK"


def test_nothing_is_made_when_nobody_wants_it() -> None:
    audit_log.record_call("Query", query_pb2.QueryRequest())
