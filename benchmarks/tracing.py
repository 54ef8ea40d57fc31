"""What spans and metrics cost a step."""

import time
from collections.abc import Callable, Iterator

from measure import Row, fresh
from sequential import loop, per_piece
from workflows import completed, no_op, nothing, workflow_of

from dotflow import Config
from dotflow.providers import LogDefault, TracerOpenTelemetry


def rows(quick: bool) -> Iterator[Row]:
    """What TracerOpenTelemetry adds to a step that does nothing: a span, a count, a time and its place in the trace.

    By hand it is the same calls of OpenTelemetry around a plain call. The SDK makes the spans and adds up the metrics;
    nobody exports them. Without an SDK the API's calls do nothing: what a program pays that is traced by nobody.
    """
    count = 1_000 if quick else 5_000
    found = fresh(measure, count, 3 if quick else 7)
    without, bare = found.pop("dotflow"), found.pop("bare loop")
    yield Row(
        what="tracer on a no-op step, on top, the SDK's spans and metrics",
        ours=found["SDK"] - without,
        peers={"the same calls by hand": found["by hand"] - bare},
    )
    yield Row(what="the same without an SDK", ours=found["API only"] - without, peers={})


def measure(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each step."""
    from opentelemetry import context, metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    tracers, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    tracer, meter = trace.get_tracer("by hand", tracer_provider=tracers), metrics.get_meter("x", meter_provider=meters)
    counter, histogram = meter.create_counter("attempts"), meter.create_histogram("duration", "s")
    propagator = TraceContextTextMapPropagator()

    def by_hand() -> None:
        for number in range(count):
            began = time.monotonic()
            told = {"workflow": "w", "run": "r", "task": number, "step": "nothing", "attempt": 1}
            span = tracer.start_span("nothing", attributes=told)
            headers: dict[str, str] = {}
            propagator.inject(headers, trace.set_span_in_context(span))
            token = context.attach(propagator.extract(headers))
            nothing()
            context.detach(token)
            span.set_attribute("status", "Completed")
            span.end()
            counter.add(1, {"step": "nothing", "status": "Completed"})
            histogram.record(time.monotonic() - began, {"step": "nothing", "status": "Completed"})

    def traced(given: TracerOpenTelemetry | None) -> Callable[[], object]:
        workflow = workflow_of(no_op, count, Config(log=LogDefault(output="none"), tracer=given))
        return lambda: completed(workflow)

    contenders: dict[str, Callable[[], object]] = {
        "dotflow": traced(None),
        "API only": traced(TracerOpenTelemetry()),
        "SDK": traced(TracerOpenTelemetry(tracers, meters)),
        "bare loop": lambda: loop(count),
        "by hand": by_hand,
    }
    return per_piece(contenders, count, repeats)
