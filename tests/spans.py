"""OpenTelemetry's SDK in memory, for the tests of the tracer."""

# First: after a fork, what providers have registered needs the lock that what this module has registered opens.
import concurrent.futures.thread  # noqa: F401
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from dotflow.providers import TracerOpenTelemetry

#: Metrics that count; the others are histograms.
COUNTERS = ("dotflow.runs", "dotflow.attempts", "dotflow.retries")


class Telemetry:
    """A tracer, its providers, and their records."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        nobody = Resource({})  # the SDK's own looks for facts in threads
        self.tracer_provider = TracerProvider(sampler, nobody, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader], nobody, shutdown_on_exit=False)
        self.tracer = TracerOpenTelemetry(self.tracer_provider, self.meter_provider)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The ended spans, in the order of their ends."""
        return self._exporter.get_finished_spans()

    def runs(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith("dotflow.run")]

    def run(self) -> ReadableSpan:
        """The span of the only run."""
        (span,) = self.runs()
        return span

    def attempts(self, step: str | None = None) -> list[ReadableSpan]:
        """Returns the spans of attempts, in the order of their starts."""
        found = [
            span
            for span in self.spans
            if "dotflow.attempt" in facts(span) and (step is None or facts(span)["dotflow.step.name"] == step)
        ]
        indices = ("dotflow.task.id", "dotflow.item", "dotflow.attempt")
        return sorted(found, key=lambda span: (span.start_time or 0, *(facts(span).get(name, 0) for name in indices)))

    def calls(self) -> list[ReadableSpan]:
        """Returns the spans of calls of durable steps, in the order of their ends."""
        return [span for span in self.spans if "dotflow.call" in facts(span)]

    def maps(self) -> list[ReadableSpan]:
        """Returns the spans of mapped tasks, in the order of their ends."""
        return [span for span in self.spans if span.name.startswith("dotflow.map")]

    def items(self) -> list[ReadableSpan]:
        """Returns the spans of items, in their order."""
        found = [span for span in self.spans if span.name.startswith("dotflow.item")]
        return sorted(found, key=lambda span: facts(span)["dotflow.item"])

    def attempt(self, step: str | None = None) -> ReadableSpan:
        """The span of the only attempt."""
        (span,) = self.attempts(step)
        return span

    def points(self, metric: str) -> list[Any]:
        """The data points of one metric."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]

    def counts(self, metric: str) -> dict[tuple[Any, ...], float]:
        """Returns the counts by the values of the attributes, sorted by name."""
        points: list[NumberDataPoint | HistogramDataPoint] = self.points(metric)
        return {
            tuple(value for _, value in sorted((point.attributes or {}).items())): (
                point.count if isinstance(point, HistogramDataPoint) else point.value
            )
            for point in points
        }

    def text(self) -> str:
        """Returns everything that was recorded."""
        data = self._reader.get_metrics_data()
        return "\n".join([*(span.to_json() for span in self.spans), data.to_json() if data else ""])


def facts(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def place(span: ReadableSpan) -> tuple[int, int]:
    """The trace and the id of a span."""
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def place_of_parent(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def exceptions(span: ReadableSpan) -> list[Mapping[str, Any]]:
    """Returns the attributes of its `exception` events."""
    return [event.attributes or {} for event in span.events if event.name == "exception"]
