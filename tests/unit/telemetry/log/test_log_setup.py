"""Log lines: their ids, their format, and the texts that they never contain."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from portico.telemetry.log import log_ids, log_setup

log = logging.getLogger("some.module")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def configure(stream: io.StringIO, format: log_setup.Format, *, content: bool = False) -> None:
    log_setup.configure(level="info", format=format, content=content, service="test", stream=stream)


def in_a_run() -> None:
    log_ids.run_id.set("resp_1")
    log_ids.request_id.set("req-7")
    where = SpanContext(0xAB, 0xCD, is_remote=True, trace_flags=TraceFlags(1))
    context.attach(trace.set_span_in_context(NonRecordingSpan(where)))


async def test_a_line_of_json_has_the_ids_of_what_it_is_about(stream: io.StringIO) -> None:
    configure(stream, "json")
    in_a_run()
    log.warning("it is %s", "late\nvery")
    told = orjson.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "warning",
        "service": "test",
        "logger": "some.module",
        "message": "it is late\nvery",
        "request_id": "req-7",
        "run_id": "resp_1",
        "trace_id": f"{0xAB:032x}",
        "span_id": f"{0xCD:016x}",
    }


async def test_a_line_for_people_has_them_too(stream: io.StringIO) -> None:
    configure(stream, "human")
    in_a_run()
    log.info("here")
    assert stream.getvalue().endswith(
        f" INFO some.module here request_id=req-7 run_id=resp_1 trace_id={0xAB:032x}\n"
    )


@pytest.mark.parametrize("format", ["human", "json"])
@pytest.mark.parametrize("content", [False, True])
def test_an_exceptions_own_words_are_there_only_when_asked_for(
    stream: io.StringIO, format: log_setup.Format, content: bool
) -> None:
    configure(stream, format, content=content)
    try:
        try:
            raise KeyError("the user's words")
        except KeyError as error:
            error.add_note("more of the user's words")
            raise ValueError("the user's words") from error
    except ValueError:
        log.exception("it failed")
    told = stream.getvalue()
    assert "ValueError" in told
    assert "KeyError" in told
    assert Path(__file__).name in told
    shown = told.replace('raise KeyError("the user', "").replace('raise ValueError("the user', "")
    shown = shown.replace('raise KeyError(\\"the user', "").replace('raise ValueError(\\"the user', "")
    shown = shown.replace('error.add_note("more of the user', "")
    assert ("the user's words" in shown) is content


@pytest.mark.parametrize(
    "text",
    [
        "authorization: Bearer {}",
        "Authorization: Basic {}",
        'headers {{"Authorization": "Bearer {}"}}',
        "api_key={}",
        'x-api-key: "{}"',
        "password = {}",
        "postgres://portico:{}@db/portico",
        "got {} from it",
    ],
)
def test_secrets_are_in_no_line_even_when_all_is_asked_for(stream: io.StringIO, text: str) -> None:
    secret = "sk-abcdefghijklmnop1234567890"
    configure(stream, "human", content=True)
    log.warning(text.format(secret))
    try:
        raise ValueError(text.format(secret))
    except ValueError:
        log.exception("again")
    assert secret not in stream.getvalue()
    assert stream.getvalue().count(log_setup.HIDDEN) == 2


def test_ordinary_lines_stay_as_they_are() -> None:
    for line in ("the token is refused", "run resp_0123456789abcdef goes on", "http://127.0.0.1:8090/a?b=c"):
        assert log_setup.without_secrets(line) == line


def test_a_line_for_people_does_not_act_on_their_terminal(stream: io.StringIO) -> None:
    log_setup.configure(level="info", format="human", content=True, service="s", stream=stream)
    try:
        raise ValueError("\x1b]0;title\x07")
    except ValueError:
        logging.getLogger("t").exception("of %s", "\x1b[2J")
    assert "of \\x1b[2J" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_what_is_no_text_does_not_lose_the_line(stream: io.StringIO) -> None:
    configure(stream, "json")
    log.info("half a \ud800 character")
    assert orjson.loads(stream.getvalue())["message"] == "half a ? character"
