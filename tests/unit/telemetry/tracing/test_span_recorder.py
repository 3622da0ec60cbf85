"""Lightweight spans equal the SDK's, also if an agent uses operations that only the SDK has."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from portico.telemetry.tracing import spans
from portico.telemetry.tracing.otlp_encoder import Encoder
from portico.telemetry.tracing.span_recorder import RecordedSpan, SpanRecorder
from portico.telemetry.tracing.trace_provider import TraceProvider

SCOPE = InstrumentationScope("portico", "1")
RESOURCE = Resource({"service.name": "test"})
CALLER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1,b=2"}


class Ended(SpanProcessor):
    """Keeps ended spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


@pytest.fixture
def ended() -> Ended:
    return Ended()


@pytest.fixture
def recorder(ended: Ended) -> SpanRecorder:
    return SpanRecorder(SCOPE, sampling.DEFAULT_ON, RESOURCE, ended)


values = some.text() | some.booleans() | some.integers(-(2**63), 2**63 - 1) | some.floats(allow_nan=False)


@given(
    name=some.text(),
    attributes=some.dictionaries(some.text(min_size=1), values, max_size=20),
    kind=some.sampled_from(SpanKind),
    caller=some.sampled_from([{}, {"traceparent": CALLER["traceparent"]}, CALLER]),
    failed=some.booleans(),
)
def test_on_the_wire_they_are_as_the_sdks(
    name: str, attributes: dict[str, Any], kind: SpanKind, caller: dict[str, str], failed: bool
) -> None:
    ended = Ended()
    recorder = SpanRecorder(SCOPE, sampling.DEFAULT_ON, RESOURCE, ended)
    ours = recorder.start_span(name, spans.parent_of(caller), kind, {"first": 1})
    assert isinstance(ours, RecordedSpan)
    ours.set_attributes(attributes)
    if failed:
        ours.set_status(StatusCode.ERROR)
    ours.end()
    recorder.hand_over(ours).end(ours.end_time)
    recorded, of_the_sdk = ended.spans
    wanted = encode_spans([of_the_sdk])
    (span,) = wanted.resource_spans[0].scope_spans[0].spans
    if not failed:
        span.ClearField("status")  # an unset status has no meaning
    encoder = Encoder(RESOURCE, SCOPE)
    assert encoder.message([recorded]) == wanted
    assert len(encoder.message([recorded, of_the_sdk, recorded]).resource_spans) == 2


def test_half_of_a_character_loses_no_span(recorder: SpanRecorder, ended: Ended) -> None:
    recorder.start_span("a\ud800", None, SpanKind.INTERNAL, {"b\ud800": "c\ud800"}).end()
    (span,) = Encoder(RESOURCE, SCOPE).message(ended.spans).resource_spans[0].scope_spans[0].spans
    assert (span.name, span.attributes[0].key, span.attributes[0].value.string_value) == ("a?", "b?", "c?")


def test_whatever_else_it_is_asked_for_the_sdk_does_under_the_same_ids(
    recorder: SpanRecorder, ended: Ended
) -> None:
    span = recorder.start_span("run", spans.parent_of(CALLER), SpanKind.INTERNAL, {"own": 1})
    span.set_status(StatusCode.ERROR)
    other = recorder.start_span("other", None, SpanKind.INTERNAL, {})
    span.add_event("said", {"word": "hm"})
    span.add_link(other.get_span_context())
    span.record_exception(ValueError("no"))
    span.set_attribute("list", [1, 2])
    span.set_attribute("plain", True)
    span.update_name("renamed")
    span.end()
    (whole,) = ended.spans
    assert isinstance(whole, ReadableSpan)
    assert whole.get_span_context() == span.get_span_context()
    assert whole.parent is not None
    assert whole.parent.span_id == 0xB7AD6B7169203331
    assert whole.attributes == {"own": 1, "list": (1, 2), "plain": True}
    assert [event.name for event in whole.events] == ["said", "exception"]
    assert [link.context for link in whole.links] == [other.get_span_context()]
    assert (whole.name, whole.status.status_code) == ("renamed", StatusCode.ERROR)
    assert isinstance(span, RecordedSpan)
    assert (whole.start_time, whole.end_time) == (span.start_time, span.end_time)


@pytest.mark.parametrize(
    "more",
    [
        {f"key {number}": number for number in range(200)},
        {"large": 2**63},
        {"": "no name"},
        {"none": None},
    ],
    ids=["too many", "too large", "no name", "nothing"],
)
def test_what_needs_cleaning_is_cleaned_by_the_sdk(
    recorder: SpanRecorder, ended: Ended, more: dict[str, Any]
) -> None:
    span = recorder.start_span("run", None, SpanKind.INTERNAL, {"own": 1})
    span.set_attributes(more)
    span.end()
    (whole,) = ended.spans
    assert isinstance(whole, ReadableSpan)
    assert len(whole.attributes or {}) <= 128


def test_a_described_status_of_an_agents_is_kept(recorder: SpanRecorder, ended: Ended) -> None:
    with trace.use_span(recorder.start_span("run", None, SpanKind.INTERNAL, {}), end_on_exit=True) as span:
        span.set_status(Status(StatusCode.ERROR, "so bad"))
    assert ended.spans[0].status.description == "so bad"


def test_what_has_ended_stays_as_it_is(recorder: SpanRecorder, ended: Ended) -> None:
    span = recorder.start_span("run", None, SpanKind.INTERNAL, {"own": 1})
    span.end()
    assert not span.is_recording()
    span.set_attribute("late", 1)
    span.add_event("late")
    span.update_name("late")
    span.set_status(StatusCode.ERROR)
    span.end()
    (kept,) = ended.spans
    assert (kept.name, kept.attributes, kept.error) == ("run", {"own": 1}, False)


def test_what_is_not_sampled_is_passed_on_and_not_recorded(ended: Ended) -> None:
    never = SpanRecorder(SCOPE, sampling.ParentBasedTraceIdRatio(0.0), RESOURCE, ended)
    root = never.start_span("root", Context(), SpanKind.SERVER, {})
    child = never.start_span("child", trace.set_span_in_context(root), SpanKind.INTERNAL, {})
    for span in (child, root):
        assert not span.is_recording()
        assert spans.headers_of(span)["traceparent"].endswith("-02"), "W3C's flags: not sampled, a random id"
        span.end()
    assert child.get_span_context().trace_id == root.get_span_context().trace_id
    assert not ended.spans
    sampled = never.start_span("child", spans.parent_of(CALLER), SpanKind.SERVER, {})
    assert sampled.is_recording(), "the caller's trace is sampled"


@pytest.mark.parametrize("parted", [True, False])
def test_a_share_of_new_traces_is_the_samplers(ended: Ended, parted: bool) -> None:
    ratio = sampling.TraceIdRatioBased(0.3)
    own = SpanRecorder(SCOPE, sampling.ParentBased(ratio) if parted else ratio, RESOURCE, ended)
    for _ in range(200):
        span = own.start_span("root", Context(), SpanKind.SERVER, {})
        trace_id = span.get_span_context().trace_id
        wanted = ratio.should_sample(None, trace_id, "root").decision is sampling.Decision.RECORD_AND_SAMPLE
        assert span.is_recording() == wanted == span.get_span_context().trace_flags.sampled


def test_what_is_below_an_unsampled_span_is_left_out_where_the_sampler_follows(ended: Ended) -> None:
    follows = SpanRecorder(SCOPE, sampling.ParentBasedTraceIdRatio(0.5), RESOURCE, ended)
    never = {"traceparent": f"{CALLER['traceparent'][:-2]}00"}
    try:
        assert spans.is_excluded()
        spans.use(follows, follows=follows.follows)
        for carrier, wanted in (({}, False), (CALLER, False), (never, True)):
            token = context.attach(spans.parent_of(carrier))
            assert spans.is_excluded() == wanted
            context.detach(token)
        by_itself = SpanRecorder(SCOPE, sampling.ALWAYS_ON, RESOURCE, ended)
        spans.use(by_itself, follows=by_itself.follows)
        token = context.attach(spans.parent_of(never))
        assert not spans.is_excluded()
        context.detach(token)
    finally:
        spans.use(None)


_hex = some.text("0123456789abcdef", min_size=1, max_size=33)


@given(
    carrier=some.fixed_dictionaries(
        {
            "traceparent": some.just(CALLER["traceparent"])
            | some.builds("{}-{}-{}-{}".format, some.sampled_from(["00", "01", "ff"]), _hex, _hex, _hex)
            | some.builds("00-{:032x}-{:016x}-{:02x}".format, *[some.integers(0, 255)] * 3)
            | some.text()
        },
        optional={"tracestate": some.sampled_from(["a=1", "", "nonsense"])},
    )
)
def test_the_callers_headers_are_read_and_written_as_the_library_does(carrier: dict[str, str]) -> None:
    library = TraceContextTextMapPropagator()
    wanted = library.extract(carrier, Context())
    found = spans.parent_of(carrier)
    assert (
        trace.get_current_span(found).get_span_context() == trace.get_current_span(wanted).get_span_context()
    )
    written: dict[str, str] = {}
    library.inject(written, wanted)
    assert spans.headers_of(trace.get_current_span(found)) == written


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    yield
    spans.use(None)


@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_they_are_ours_until_somebody_else_wants_them(protocol: str) -> None:
    traces = TraceProvider(["otlp"], protocol, RESOURCE, SCOPE)
    assert isinstance(traces.starter, SpanRecorder), "this release of the exporter accepts recorded spans"
    spans.use(traces.starter)
    traces.provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    assert not isinstance(spans.tracer(), SpanRecorder)


@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize(
    ("exporters", "variable"),
    [
        (["console"], ""),
        (["otlp", "console"], ""),
        (["otlp"], "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"),
        (["otlp"], "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
    ],
)
def test_other_readers_and_limits_get_the_sdks(
    monkeypatch: pytest.MonkeyPatch, exporters: list[str], variable: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, "5")
    assert not isinstance(TraceProvider(exporters, "http/protobuf", RESOURCE, SCOPE).starter, SpanRecorder)
