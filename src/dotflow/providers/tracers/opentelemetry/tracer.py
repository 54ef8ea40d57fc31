"""TracerOpenTelemetry: runs and attempts as OpenTelemetry spans and metrics."""

from typing import TYPE_CHECKING, Any, Final

from dotflow.abc.tracer import Tracer
from dotflow.core.call import Carrier, TraceIds
from dotflow.core.events import Event, RunEnded, RunStarted
from dotflow.errors import MissingExtra

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

SCOPE: Final = "dotflow"


class TracerOpenTelemetry(Tracer):
    """Makes a span of each run and a child span of each attempt; counts and times both.

    The span of a run is a child of the span that is current in `start()`. Where a step runs, in another process too,
    the span of its attempt is current, so the step's own spans are children of it. Needs `pip install 'dotflow[otel]'`,
    which is OpenTelemetry's API only; the program configures OpenTelemetry's SDK.

    A mapped task has a span in its run's, each item that runs has one in its task's, and attempts are in their item's.

    A call that a durable step makes has a span in its attempt's; those that were given back are counted in an event.

    Spans and metrics hold no value and no context of a step, but the messages of its exceptions, and why tasks were
    skipped.

    Args:
        tracer_provider: Makes the spans; OpenTelemetry's global one by default.
        meter_provider: Makes the metrics; OpenTelemetry's global one by default.

    Raises:
        MissingExtra: OpenTelemetry's API is not installed.
    """

    def __init__(
        self, tracer_provider: "TracerProvider | None" = None, meter_provider: "MeterProvider | None" = None
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as missing:
            raise MissingExtra("TracerOpenTelemetry", "opentelemetry-api", "otel") from missing
        from dotflow.providers.tracers.opentelemetry import metrics as otel_metrics
        from dotflow.providers.tracers.opentelemetry import run_spans

        self._providers = tracer_provider, meter_provider
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._metrics = otel_metrics.Metrics(metrics.get_meter(SCOPE, meter_provider=meter_provider))
        self._run_spans = run_spans.RunSpans
        self._runs: dict[str, run_spans.RunSpans] = {}

    def trace(self, run_id: str, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._runs[run_id] = self._run_spans(self._tracer, self._metrics, event)
            return
        run = self._runs.pop(run_id, None) if isinstance(event, RunEnded) else self._runs.get(run_id)
        if run is not None:  # without its RunStarted, whose failure was reported, there is no run
            run.follow(event)

    def carrier(self, run_id: str, task_id: int) -> Carrier | None:
        run = self._runs.get(run_id)
        return None if run is None else run.carrier(task_id, None)

    def item_carrier(self, run_id: str, task_id: int, item: int) -> Carrier | None:
        run = self._runs.get(run_id)
        return None if run is None else run.carrier(task_id, item)

    def trace_ids(self, run_id: str, task_id: int | None = None, item: int | None = None) -> TraceIds | None:
        run = self._runs.get(run_id)
        return None if run is None else run.ids(task_id, item)

    def __reduce__(self) -> tuple[Any, ...]:
        """Makes a copy in another process use the providers of that process, unless its own can be pickled."""
        return TracerOpenTelemetry, self._providers
