"""The metrics of runs and attempts.

Attributes have few values: the workflow's name if it has one, the step, the status. No id is among them, since each
new value is a new time series.
"""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from dotflow.core.failure import Failure
from dotflow.core.text import escape_surrogates
from dotflow.core.types.status import TypeStatus

WORKFLOW_NAME: Final = "dotflow.workflow.name"
STEP: Final = "dotflow.step.name"
STATUS: Final = "dotflow.status"
ERROR_TYPE: Final = "error.type"

#: Seconds. The SDK's own buckets are meant for milliseconds: nearly every step would be in the first.
BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0)


class Metrics:
    """The instruments of a tracer, shared by all its runs. *workflow* has the name of a run's workflow, if any.

    Args:
        meter: Makes the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        self._runs = meter.create_counter("dotflow.runs", "{run}", "Runs that have ended")
        self._attempts = meter.create_counter("dotflow.attempts", "{attempt}", "Attempts that have ended")
        self._retries = meter.create_counter("dotflow.retries", "{retry}", "Failed attempts that are repeated")
        self._run_seconds = meter.create_histogram(
            "dotflow.run.duration", "s", "How long runs take", explicit_bucket_boundaries_advisory=BUCKETS
        )
        self._attempt_seconds = meter.create_histogram(
            "dotflow.attempt.duration", "s", "How long attempts take", explicit_bucket_boundaries_advisory=BUCKETS
        )

    def run(
        self, workflow: dict[str, str], status: TypeStatus, seconds: float, error: str | None, context: Context
    ) -> None:
        """Records the end of a run. *context* has its span, for exemplars."""
        attributes = workflow | {STATUS: status.value} | ({} if error is None else {ERROR_TYPE: error})
        self._runs.add(1, attributes, context)
        self._run_seconds.record(seconds, attributes, context)

    def attempt(
        self,
        workflow: dict[str, str],
        step: str,
        status: TypeStatus,
        seconds: float,
        failure: Failure | None,
        context: Context,
    ) -> None:
        """Records the end of an attempt."""
        attributes = workflow | {STEP: step, STATUS: status.value}
        if failure is not None:
            attributes[ERROR_TYPE] = escape_surrogates(failure.exception)
        self._attempts.add(1, attributes, context)
        self._attempt_seconds.record(seconds, attributes, context)

    def retry(self, workflow: dict[str, str], step: str, context: Context) -> None:
        """Records that there will be another attempt."""
        self._retries.add(1, workflow | {STEP: step}, context)
