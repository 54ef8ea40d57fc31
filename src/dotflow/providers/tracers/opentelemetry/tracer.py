"""TracerOpenTelemetry: runs and attempts as OpenTelemetry's spans and metrics."""

from typing import TYPE_CHECKING, Any, Final

from dotflow.abc.tracer import Tracer
from dotflow.core.call import Carrier
from dotflow.core.events import Event, RunEnded, RunStarted
from dotflow.errors import MissingExtra

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

SCOPE: Final = "dotflow"


class TracerOpenTelemetry(Tracer):
    """Makes a span of each run and, below it, of each attempt, and counts and times both.

    The span of a run belongs below the one that is current where `start()` is called. Where the step runs, be it in
    another process, the span of its attempt is the current one, so that the step's own spans belong below it. Needs
    `pip install 'dotflow[otel]'`, which is OpenTelemetry's API only: where spans and metrics go, is set up in
    OpenTelemetry's SDK, as everywhere.

    No value and no context of a step gets into a span or a metric; what an exception says does.

    Args:
        tracer_provider: Makes the spans; OpenTelemetry's global one unless given.
        meter_provider: Makes the metrics; OpenTelemetry's global one unless given.

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
        self._instruments = otel_metrics.Instruments(metrics.get_meter(SCOPE, meter_provider=meter_provider))
        self._run_spans = run_spans.RunSpans
        self._runs: dict[str, run_spans.RunSpans] = {}

    def trace(self, run_id: str, event: Event) -> None:
        """As Tracer says. Several runs may go on at once."""
        if isinstance(event, RunStarted):
            self._runs[run_id] = self._run_spans(self._tracer, self._instruments, event)
            return
        run = self._runs.pop(run_id, None) if isinstance(event, RunEnded) else self._runs.get(run_id)
        if run is not None:  # without its beginning, which was reported, there is nothing to follow
            run.follow(event)

    def carrier(self, run_id: str, task_id: int) -> Carrier | None:
        run = self._runs.get(run_id)
        return None if run is None else run.carrier(task_id)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process uses the providers of that process, unless its own can travel."""
        return TracerOpenTelemetry, self._providers
