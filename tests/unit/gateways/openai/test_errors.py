"""Errors in OpenAI's format, and which of them may be retried."""

import logging

import orjson
import pytest

from portico.client import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    PorticoError,
    ResourceExhausted,
    SessionBusy,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from portico.gateways.http.errors import BadRequest
from portico.gateways.openai.errors import (
    OpenAiError,
    error_json,
    error_response,
    from_bad_request,
    from_core,
    from_defect,
    from_run,
    request_id,
)


def test_the_shape() -> None:
    answer = error_response(OpenAiError("no", status=401, code="c", param="p", headers={"a": "b"}), "req_1")
    assert answer.status_code == 401
    assert orjson.loads(answer.body) == {
        "error": {"message": "no", "type": "authentication_error", "param": "p", "code": "c"}
    }
    assert (answer.headers["x-request-id"], answer.headers["a"]) == ("req_1", "b")
    assert error_response(OpenAiError("no")).headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("error", "status", "type", "code", "retry"),
    [
        (InvalidArgument("m"), 400, "invalid_request_error", "invalid_value", None),
        (Unauthenticated("m"), 401, "authentication_error", "invalid_api_key", None),
        (PermissionDenied("m"), 403, "permission_error", "permission_denied", None),
        (NotFound("m", reason="RUN_NOT_FOUND"), 404, "invalid_request_error", "run_not_found", None),
        (NotFound("m", reason="AGENT_NOT_FOUND"), 404, "invalid_request_error", "model_not_found", None),
        (OutOfRange("m", reason="CURSOR_AHEAD"), 400, "invalid_request_error", "cursor_ahead", None),
        (SessionBusy("m", reason="SESSION_BUSY"), 409, "invalid_request_error", "session_busy", None),
        (
            FailedPrecondition("m", reason="RUN_TERMINAL"),
            409,
            "invalid_request_error",
            "run_terminal",
            "false",
        ),
        (
            ResourceExhausted("m", reason="LIMIT_EXCEEDED"),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            None,
        ),
        (Internal("m"), 500, "server_error", "server_error", None),
        (PorticoError("m"), 500, "server_error", "server_error", None),
        (Unimplemented("m"), 501, "server_error", "unimplemented", "false"),
        (Unavailable("m", reason="DRAINING"), 503, "server_error", "draining", None),
        (Unavailable("m", metadata={"run_id": "resp_1"}), 503, "server_error", "unavailable", "false"),
        (DeadlineExceeded("m"), 504, "server_error", "deadline_exceeded", None),
    ],
)
def test_errors_of_the_core(
    error: PorticoError, status: int, type: str, code: str, retry: str | None
) -> None:
    told = from_core(error)
    assert (told.status, told.type, told.code) == (status, type, code)
    answer = error_response(told)
    assert answer.headers.get("x-should-retry") == retry
    assert ("retry-after" in answer.headers) == (status in (429, 503) and retry is None)


def test_parameters_of_the_contract_have_their_names_here() -> None:
    told = from_core(InvalidArgument("request.user_id: too long", metadata={"field": "request.user_id"}))
    assert (told.param, told.message) == ("user", "user: too long")
    assert from_core(NotFound("m", reason="AGENT_NOT_FOUND")).param == "model"


def test_a_run_that_had_begun_is_named() -> None:
    assert "resp_1" in from_core(Unavailable("m", metadata={"run_id": "resp_1"})).message


def test_errors_of_runs() -> None:
    assert from_run("X", "m").status == 500
    assert from_run("X", "m").headers == {"x-should-retry": "false"}
    assert from_run("X", "m", rejected=True).status == 422
    assert from_run("rate_limit_exceeded", "m").status == 429


def test_refused_requests() -> None:
    told = from_bad_request(BadRequest("m", field="top_p"))
    assert (told.status, told.param, told.code) == (400, "top_p", "invalid_value")
    assert from_bad_request(BadRequest("m", status=413, code="BODY_TOO_LARGE")).status == 413
    assert from_bad_request(BadRequest("m", status=415, code="UNSUPPORTED_MEDIA_TYPE")).status == 415


def test_a_defect_tells_nothing_but_where_to_look(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise RuntimeError("secret")
    except RuntimeError:
        told = from_defect(logging.getLogger("t"))
    answer = error_response(told)
    assert answer.headers["x-request-id"] in told.message
    assert answer.headers["x-request-id"] in caplog.text
    assert b"secret" not in answer.body
    assert answer.headers["x-should-retry"] == "false"


def test_words_that_are_no_text_go_out_all_the_same() -> None:
    assert b"?" in error_response(OpenAiError("\ud800", param="a\ud800")).body


def test_request_ids() -> None:
    assert request_id([(b"x-request-id", b"mine")]) == "mine"
    for bad in (b"", b"a\nb", b"\xff", b"x" * 201):
        assert request_id([(b"x-request-id", bad)]).startswith("req_")
    assert request_id([]) != request_id([])


def test_as_data_of_a_stream() -> None:
    assert error_json(OpenAiError("m", status=429))["error"]["type"] == "rate_limit_error"
