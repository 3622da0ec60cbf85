"""Lightweight spans, at a fraction of the cost of the SDK's.

Most spans only start, get a few plain attributes, and end; this module supports just that. If an agent, whose
current span is its run's, uses any other operation, the span becomes one of the SDK's with the same ids.
"""

import random
import threading
from collections.abc import Callable, Mapping
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags

_PLAIN = frozenset((str, int, bool, float))  # types of plain values
_MOST_ATTRIBUTES = 128  # the SDK's limit; it drops further ones
_RANDOM = 2  # W3C trace flag: the trace id is random
_FLAGS = tuple(TraceFlags(bits) for bits in range(4))


class SpanRecorder:
    """Starts spans; a processor receives the ended ones, lightweight spans and those of the SDK."""

    def __init__(
        self,
        scope: InstrumentationScope,
        sampler: sampling.Sampler,
        resource: Resource,
        processor: SpanProcessor,
    ) -> None:
        self.ended: Callable[[Any], None] = processor.on_end
        self._sampler = sampler
        self.follows = isinstance(sampler, sampling.ParentBased)
        # The root sampler's ratio is compared here, which is cheaper than calling the sampler.
        root = getattr(sampler, "_root", None) if self.follows else sampler
        self._below = root.bound if isinstance(root, sampling.TraceIdRatioBased) else None
        self._ids = _GivenIds()
        self._handing_over = threading.Lock()
        provider = TracerProvider(
            sampling.ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids
        )
        provider.add_span_processor(processor)
        self._sdk = provider.get_tracer(scope.name, scope.version)

    def start_span(
        self, name: str, context: Context | None, kind: SpanKind, attributes: Mapping[str, Any]
    ) -> Span:
        """Starts a span as a tracer of the SDK does; the attributes must be plain."""
        parent = trace.get_current_span(context).get_span_context()
        if parent.is_valid:
            trace_id, flags, state = parent.trace_id, parent.trace_flags & _RANDOM, parent.trace_state
        else:
            trace_id, flags, state = random.getrandbits(128), _RANDOM, None
        if self.follows and parent.is_valid:
            sampled = parent.trace_flags.sampled
        elif self._below is not None:
            sampled = trace_id & sampling.TraceIdRatioBased.TRACE_ID_LIMIT < self._below
        else:
            asked = self._sampler.should_sample(context, trace_id, name, kind, attributes)
            sampled = asked.decision is sampling.Decision.RECORD_AND_SAMPLE
        own = SpanContext(trace_id, random.getrandbits(64), False, _FLAGS[flags | sampled], state)
        return RecordedSpan(self, name, own, parent, kind, attributes) if sampled else NonRecordingSpan(own)

    def hand_over(self, span: "RecordedSpan") -> Span:
        """Converts the span to one of the SDK's, once."""
        parent = trace.set_span_in_context(NonRecordingSpan(span.parent), Context())
        with self._handing_over:  # several threads of an agent may use one span
            if span.whole is None:
                self._ids.given = span.context
                span.whole = self._sdk.start_span(
                    span.name, parent, span.kind, span.attributes, start_time=span.start_time
                )
                if span.error:
                    span.whole.set_status(StatusCode.ERROR)
        return span.whole


class RecordedSpan(Span):
    """A lightweight span, from its start until it is exported."""

    __slots__ = (
        *("attributes", "context", "end_time", "error", "kind", "name", "parent", "start_time"),
        *("whole", "_recorder"),
    )

    def __init__(
        self,
        recorder: SpanRecorder,
        name: str,
        context: SpanContext,
        parent: SpanContext,
        kind: SpanKind,
        attributes: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.context = context
        self.parent = parent  # invalid if there is none
        self.kind = kind
        self.attributes = dict(attributes)
        self.error = False
        self.start_time = time_ns()
        self.end_time = 0
        self._recorder = recorder
        self.whole: Span | None = None  # the SDK's span, if it was converted

    def get_span_context(self) -> SpanContext:
        return self.context

    def is_recording(self) -> bool:
        return not self.end_time

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        few = len(self.attributes) + len(attributes) <= _MOST_ATTRIBUTES
        if self.whole is None and not self.end_time and few and all(map(_plain, attributes.items())):
            self.attributes.update(attributes)
        else:
            self._handed_over().set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self.set_attributes({key: value})

    def update_name(self, name: str) -> None:
        if self.whole is None and not self.end_time:
            self.name = name
        else:
            self._handed_over().update_name(name)

    def set_status(self, status: Any, description: str | None = None) -> None:
        if self.whole is None and not self.end_time and status is StatusCode.ERROR and description is None:
            self.error = True
        else:
            self._handed_over().set_status(status, description)

    def add_event(self, *args: Any, **named: Any) -> None:
        self._handed_over().add_event(*args, **named)

    def add_link(self, *args: Any, **named: Any) -> None:
        self._handed_over().add_link(*args, **named)

    def record_exception(self, *args: Any, **named: Any) -> None:
        self._handed_over().record_exception(*args, **named)

    def end(self, end_time: int | None = None) -> None:
        if self.end_time:
            return
        self.end_time = time_ns() if end_time is None else end_time
        if self.whole is None:
            self._recorder.ended(self)
        else:
            self.whole.end(self.end_time)

    def _handed_over(self) -> Span:
        if self.whole is not None:
            return self.whole
        # An ended span is not converted.
        return NonRecordingSpan(self.context) if self.end_time else self._recorder.hand_over(self)


def _plain(attribute: tuple[Any, Any]) -> bool:
    """Whether the SDK would accept the attribute unchanged."""
    key, value = attribute
    if type(key) is not str or not key or type(value) not in _PLAIN:
        return False
    return type(value) is not int or -(2**63) <= value < 2**63


class _GivenIds(IdGenerator):
    """Returns the ids of an existing span."""

    given: SpanContext

    def generate_trace_id(self) -> int:
        return self.given.trace_id

    def generate_span_id(self) -> int:
        return self.given.span_id

    def is_trace_id_random(self) -> bool:
        return bool(self.given.trace_flags & _RANDOM)
