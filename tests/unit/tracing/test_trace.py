"""`@trace` on every kind of function: spans, handlers, merged streams, JSON files."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace as opentelemetry_trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from portico.telemetry.log import log_ids
from portico.telemetry.tracing import spans
from portico.tracing import (
    EventContext,
    LocalLogHandler,
    Tracer,
    TraceType,
    TracingUtil,
    decorator,
    get_tracer,
    merge_incremental_chunk,
    trace,
)


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans.use(provider.get_tracer("test"))
    yield exporter
    spans.use(None)


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalLogHandler]:
    handler = LocalLogHandler(log_dir=str(tmp_path))
    tracer = Tracer([handler])
    monkeypatch.setattr(decorator, "_tracer", lambda: tracer)
    yield handler
    handler.close()


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def told(folder: Path, kind: str = "info") -> list[dict[str, Any]]:
    (path,) = folder.glob(f"{kind}.log.*")
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_coroutines_span_has_its_arguments_and_its_result(exported: InMemorySpanExporter) -> None:
    @trace(TraceType.TOOL, trace_name="weather")
    async def look(city: str, *, unit: str = "C") -> dict[str, int]:
        return {"degrees": 21}

    assert await look("Rome", unit="F") == {"degrees": 21}
    span = only(exported)
    assert span.attributes is not None
    assert span.name == "weather"
    assert span.attributes["gen_ai.span.kind"] == "TOOL"
    assert span.attributes["gen_ai.operation.name"] == "execute_tool"
    assert json.loads(str(span.attributes["input.value"])) == {"city": "Rome", "unit": "F"}
    assert json.loads(str(span.attributes["output.value"])) == {"degrees": 21}


async def test_spans_nest_as_calls_do_also_below_generators(exported: InMemorySpanExporter) -> None:
    @trace(TraceType.TOOL)
    def inner() -> int:
        return 1

    @trace(TraceType.LLM)
    async def outer() -> AsyncIterator[int]:
        yield inner()
        yield inner()

    @trace(TraceType.AGENT_STEP)
    async def step() -> int:
        total = 0
        async for number in outer():
            # The reader is not in the generator's span.
            assert opentelemetry_trace.get_current_span().name == "step"  # type: ignore[attr-defined]
            total += number
        return total

    assert await step() == 2
    by_name = {span.name: span for span in exported.get_finished_spans()}
    for child, parent in (("inner", "outer"), ("outer", "step")):
        assert by_name[child].parent is not None
        assert by_name[child].parent.span_id == by_name[parent].context.span_id  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_streams_texts_are_merged(exported: InMemorySpanExporter, kind: str) -> None:
    @trace(TraceType.LLM)
    def plain() -> Iterator[str]:
        yield "a"
        yield "b"

    @trace(TraceType.LLM)
    async def eager() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    found = list(plain()) if kind == "sync" else [one async for one in eager()]
    assert found == ["a", "b"]
    attributes = only(exported).attributes
    assert attributes is not None
    assert attributes["output.value"] == "ab"
    assert attributes["gen_ai.response.first_pkg"] == '"a"'
    assert "gen_ai.response.first_delay" in attributes


async def test_a_stream_that_is_left_early_ends_its_span_without_an_error(
    exported: InMemorySpanExporter,
) -> None:
    closed = []

    @trace()
    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async with aclosing(endless()) as stream:  # type: ignore[type-var]
        async for _ in stream:
            break
    assert closed == [True]
    assert only(exported).status.is_ok or only(exported).status.is_unset


async def test_a_generator_gets_what_its_reader_sends() -> None:
    @trace()
    def ask() -> Any:
        answer = yield "?"
        return f"heard {answer}"

    asking = ask()
    assert next(asking) == "?"
    with pytest.raises(StopIteration) as ended:
        asking.send("yes")
    assert ended.value.value == "heard yes"


async def test_a_generator_hears_what_is_thrown_into_it() -> None:
    @trace()
    async def listens() -> Any:
        try:
            yield 1
        except asyncio.CancelledError:
            yield "a last word"

    @trace()
    def too() -> Any:
        try:
            yield 1
        except KeyError:
            yield "a last word"

    later, now = listens(), too()
    assert [await anext(later), await later.athrow(asyncio.CancelledError())] == [1, "a last word"]
    assert [next(now), now.throw(KeyError())] == [1, "a last word"]
    await later.aclose()
    now.close()


async def test_failures_are_told_and_go_on(
    exported: InMemorySpanExporter, handler: LocalLogHandler, tmp_path: Path
) -> None:
    @trace(TraceType.TOOL)
    async def fails() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        await fails()
    span = only(exported)
    assert span.attributes is not None
    assert span.attributes["error.type"] == "KeyError"
    assert not span.status.is_ok
    (line,) = told(tmp_path, "error")
    assert (line["step"], line["code"]) == ("fails_error", "KeyError")
    assert "KeyError: 'gone'" in line["context"]["details"]


async def test_cancelling_is_no_failure_of_handlers_and_goes_on(exported: InMemorySpanExporter) -> None:
    @trace()
    async def sleeps() -> None:
        await asyncio.sleep(600)

    task = asyncio.create_task(sleeps())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    attributes = only(exported).attributes
    assert attributes is not None
    assert attributes["error.type"] == "CancelledError"


async def test_handlers_are_told_without_any_spans(handler: LocalLogHandler, tmp_path: Path) -> None:
    log_ids.run_id.set("resp_1")

    @trace(TraceType.LLM, trace_name="ask")
    async def ask(prompt: str, **kwargs: Any) -> AsyncIterator[str]:
        event: EventContext = kwargs["trace_event"]
        event.on_log("half way")
        event.set_attribute("any", "thing")
        yield f"{prompt}!"

    assert [one async for one in ask("hi", temperature=1)] == ["hi!"]
    lines = told(tmp_path)
    assert [line["step"] for line in lines] == ["ask_start", "", "ask_first_resp", "ask_end"]
    assert lines[0]["context"] == {"prompt": "hi", "temperature": 1}
    assert lines[1]["message"] == "half way"
    assert lines[3]["context"] == {"output": "hi!"}
    assert {line["request_id"] for line in lines} == {"resp_1"}
    TracingUtil.set_request_id("mine")
    assert TracingUtil.get_request_id() == "mine"


async def test_work_elsewhere_joins_by_its_trace_context(exported: InMemorySpanExporter) -> None:
    @trace()
    def child() -> None:
        pass

    @trace()
    def parent(**kwargs: Any) -> Any:
        return kwargs["trace_event"].get_trace_context()

    child(trace_context=parent())  # type: ignore[call-arg]
    first, second = exported.get_finished_spans()
    assert second.parent is not None
    assert first.context is not None
    assert second.parent.span_id == first.context.span_id


def test_files_are_turned_over(tmp_path: Path) -> None:
    handler = LocalLogHandler(log_dir=str(tmp_path), log_file_name="mine", max_bytes=2000, backup_count=2)
    for number in range(100):
        handler.on_log(f"line {number}")
    handler.close()
    files = sorted(tmp_path.glob("mine-info.log.*"))
    assert len(files) == 3
    assert all(file.stat().st_size <= 2000 for file in files)


def test_chunks_of_openai_are_merged_to_one() -> None:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> Any:
        told = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        return SimpleNamespace(choices=[1], model_dump=lambda exclude_none: told)

    call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a"'}}
    more = {"index": 0, "function": {"arguments": ": 1}"}}
    chunks = [
        chunk({"role": "assistant", "content": "He"}),
        chunk({"content": "llo"}),
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [more]}, "stop"),
    ]
    (choice,) = merge_incremental_chunk(chunks)["choices"]
    assert choice["delta"]["content"] == "Hello"
    assert choice["delta"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert choice["finish_reason"] == "stop"
    assert merge_incremental_chunk([]) is None
    assert merge_incremental_chunk([1, 2]) == [1, 2]


def test_types_can_be_added_once() -> None:
    TraceType.add_type("DREAMING", "DREAMING")
    assert TraceType.DREAMING == "DREAMING"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="LLM exists already"):
        TraceType.add_type("LLM", "x")


def test_a_tracers_events_by_hand(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "portico.tracing")
    tracer = get_tracer()
    assert tracer is get_tracer("default")
    with tracer.event(opentelemetry_trace.INVALID_SPAN, "step", {"a": 1}) as event:
        event.on_end({"b": 2})
    with pytest.raises(ZeroDivisionError), tracer.event(opentelemetry_trace.INVALID_SPAN, "bad", {}):
        1 / 0  # noqa: B018
    assert [record.message.split(" ")[:2] for record in caplog.records] == [
        *(["step", "begins:"], ["step", "ends"]),
        *(["bad", "begins:"], ["bad", "fails"]),
    ]


def test_off_calls_go_straight_through() -> None:
    calls = []

    @trace(TraceType.TOOL)
    def tool(value: Any) -> Any:
        calls.append(opentelemetry_trace.get_current_span() is opentelemetry_trace.INVALID_SPAN)
        return value

    unprintable = object()
    assert tool(unprintable) is unprintable
    assert calls == [True]
