"""The spans and metrics of each event; the tests call the tracer directly."""

import pickle
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from dotflow import Context
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptRuns,
    AttemptStarted,
    CallBegan,
    CallEnded,
    CallsCounted,
    CallWaits,
    Event,
    MapEnded,
    MapOpened,
    Planned,
    RunEnded,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskPaused,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure
from dotflow.core.types.status import TypeStatus
from dotflow.errors import MissingExtra
from dotflow.providers import TracerOpenTelemetry
from dotflow.providers.tracers.opentelemetry import propagation
from dotflow.providers.tracers.opentelemetry.run_spans import nanoseconds
from tests.spans import Telemetry, exceptions, facts, place, place_of_parent

from .conftest import FakeTime

COMPLETED, FAILED = TypeStatus.COMPLETED, TypeStatus.FAILED
NO = Failure("ValueError", "no", "Traceback: here\n")
LATE = Failure("TimeoutError", "too late")
SECOND = 1_000_000_000


class Driver:
    """Sends a tracer the events of a run, on a clock that it moves."""

    def __init__(self, telemetry: Telemetry, time: FakeTime, run_id: str = "r") -> None:
        self.tracer = telemetry.tracer
        self.time = time
        self.run_id = run_id

    def tell(self, event: Event) -> None:
        self.tracer.trace(self.run_id, event)

    def start(self, *steps: str, name: str | None = "books", workflow_id: str = "w") -> None:
        planned = tuple(Planned(step, "default") for step in steps)
        self.tell(RunStarted(workflow_id, self.run_id, len(steps), self.time.now(), name, planned))

    def begin(self, task_id: int = 0, attempt: int = 1, item: int | None = None, fallback: str | None = None) -> None:
        at = self.time.now(), self.time.monotonic()
        self.tell(AttemptStarted(task_id, attempt, Context(), *at, item, fallback))

    def runs(self, task_id: int = 0, attempt: int = 1, item: int | None = None) -> None:
        self.tell(AttemptRuns(task_id, attempt, self.time.now(), self.time.monotonic(), item))

    def complete(self, task_id: int = 0, item: int | None = None) -> None:
        self.tell(TaskCompleted(task_id, Context("value", task_id=task_id), self.time.monotonic(), item))

    def retry(
        self,
        task_id: int = 0,
        attempt: int = 1,
        delay: float = 2.5,
        failure: Failure = NO,
        item: int | None = None,
    ) -> None:
        self.tell(AttemptFailed(task_id, attempt, failure, delay, item))

    def fail(self, task_id: int = 0, attempt: int = 1, failure: Failure = NO, item: int | None = None) -> None:
        self.tell(TaskFailed(task_id, attempt, failure, self.time.now(), self.time.monotonic(), item))

    def open_map(self, items: int, task_id: int = 0) -> None:
        self.tell(MapOpened(task_id, items, self.time.now(), self.time.monotonic()))

    def end_map(self, failure: Failure | None = None, task_id: int = 0) -> None:
        self.tell(MapEnded(task_id, Context(), failure, self.time.now(), self.time.monotonic()))

    def call(self, number: int, name: str = "search", depth: int = 0, item: int | None = None) -> None:
        at = self.time.now(), self.time.monotonic()
        self.tell(CallBegan(0, 1, number, name, "'the card of Ada'", depth, "k", *at, item))

    def end_call(self, number: int, failure: Failure | None = None, item: int | None = None) -> None:
        self.tell(CallEnded(0, 1, number, "'paid by Ada'", failure, self.time.monotonic(), item))

    def end(self, status: TypeStatus = COMPLETED) -> None:
        self.tell(RunEnded("w", self.run_id, status, self.time.now()))


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def driver(telemetry: Telemetry, fake_time: FakeTime) -> Driver:
    return Driver(telemetry, fake_time)


class TestSpans:
    def test_a_run_and_its_attempts(self, telemetry: Telemetry, driver: Driver) -> None:
        """The run's span is the parent of each attempt's, and each has its ids and its status."""
        driver.start("extract")
        driver.begin()
        driver.complete()
        driver.end()

        run, attempt = telemetry.run(), telemetry.attempt()
        assert (run.name, run.kind, run.parent, run.status.status_code) == (
            "dotflow.run books",
            SpanKind.INTERNAL,
            None,
            StatusCode.UNSET,
        )
        assert facts(run) == {
            "dotflow.workflow.id": "w",
            "dotflow.workflow.name": "books",
            "dotflow.run.id": "r",
            "dotflow.tasks": 1,
            "dotflow.tasks.completed": 1,
            "dotflow.tasks.failed": 0,
            "dotflow.tasks.restored": 0,
            "dotflow.tasks.skipped": 0,
            "dotflow.status": "Completed",
        }
        assert (attempt.name, place_of_parent(attempt)) == ("extract", place(run))
        assert attempt.status.status_code is StatusCode.UNSET
        assert facts(attempt) == {
            "dotflow.workflow.id": "w",
            "dotflow.workflow.name": "books",
            "dotflow.run.id": "r",
            "dotflow.task.id": 0,
            "dotflow.step.name": "extract",
            "dotflow.group": "default",
            "dotflow.attempt": 1,
            "dotflow.retry.count": 0,
            "dotflow.status": "Completed",
        }

    def test_a_call_of_a_durable_step(self, telemetry: Telemetry, driver: Driver) -> None:
        """A child of its attempt, from its beginning to its end, with its number and without a value."""
        driver.start("agent")
        driver.begin()
        driver.time.move(1)
        driver.call(13, depth=1)
        driver.time.move(2)
        driver.end_call(13)
        driver.complete()
        driver.end()

        (call,) = telemetry.calls()
        assert (call.name, place_of_parent(call)) == ("search", place(telemetry.attempt()))
        assert (call.end_time or 0) - (call.start_time or 0) == 2 * SECOND
        assert facts(call) == {
            "dotflow.workflow.id": "w",
            "dotflow.workflow.name": "books",
            "dotflow.run.id": "r",
            "dotflow.task.id": 0,
            "dotflow.step.name": "agent",
            "dotflow.group": "default",
            "dotflow.call": 13,
            "dotflow.call.depth": 1,
            "dotflow.status": "Made",
        }
        assert "Ada" not in telemetry.text()

    def test_a_call_that_waits(self, telemetry: Telemetry, driver: Driver) -> None:
        """It has how often it has asked, and not what it waits for."""
        driver.start("agent")
        driver.begin()
        driver.call(1)
        driver.tell(CallWaits(0, 1, 1, 2, "the card of Ada"))
        driver.end_call(1)
        driver.complete()
        driver.end()

        assert facts(telemetry.calls()[0])["dotflow.asked"] == 2
        assert "Ada" not in telemetry.text()

    def test_calls_that_fail_and_calls_that_are_cut_off(self, telemetry: Telemetry, driver: Driver) -> None:
        """A failed one has its exception; what runs as its attempt ends, ends with it. Each item has its numbers."""
        driver.start("agent")
        driver.open_map(2)
        for item in (0, 1):
            driver.begin(item=item)
            driver.call(1, "charge", item=item)
        driver.end_call(1, NO, item=0)
        driver.time.move(3)
        driver.fail(item=1, failure=LATE)
        driver.end_call(1, item=1)

        failed, cut_off = telemetry.calls()
        assert (facts(failed)["dotflow.status"], facts(failed)["dotflow.item"]) == ("Failed", 0)
        assert [exception["exception.message"] for exception in exceptions(failed)] == ["no"]
        assert failed.status.status_code is StatusCode.ERROR
        assert (facts(cut_off)["dotflow.status"], cut_off.status.status_code) == ("Cut off", StatusCode.UNSET)
        assert cut_off.end_time == telemetry.attempt().end_time

    @pytest.mark.parametrize("is_paused", [False, True], ids=["completed", "paused"])
    def test_calls_that_were_given_back_are_one_event(
        self, telemetry: Telemetry, driver: Driver, is_paused: bool
    ) -> None:
        """With their number in the end, and the time by which they were."""
        driver.start("agent")
        driver.begin()
        for given in (2, 12):
            driver.time.move(1)
            driver.tell(CallsCounted(0, 1, 0, given))
        driver.time.move(1)
        driver.tell(CallsCounted(0, 1, 3, 12))
        if not is_paused:
            driver.complete()
        driver.end(TypeStatus.PAUSED if is_paused else COMPLETED)

        attempt = telemetry.attempt()
        (event,) = attempt.events
        assert (event.name, event.attributes) == ("dotflow.calls.given_back", {"dotflow.calls.given_back": 12})
        assert event.timestamp - (attempt.start_time or 0) == 2 * SECOND

    def test_a_workflow_without_a_name(self, telemetry: Telemetry, driver: Driver) -> None:
        """Its id may change with each run, so it is an attribute, and not in the name that tools group by."""
        driver.start("extract", name=None, workflow_id="6e0c")
        driver.end()

        assert telemetry.run().name == "dotflow.run"
        assert facts(telemetry.run())["dotflow.workflow.id"] == "6e0c"
        assert "dotflow.workflow.name" not in facts(telemetry.run())

    def test_a_group(self, telemetry: Telemetry, driver: Driver) -> None:
        """The group of a task is an attribute."""
        driver.tell(RunStarted("w", "r", 1, driver.time.now(), None, (Planned("step", "left"),)))
        driver.begin()
        driver.complete()

        assert facts(telemetry.attempt())["dotflow.group"] == "left"

    def test_a_failure(self, telemetry: Telemetry, driver: Driver) -> None:
        """A failed attempt fails its span and the run's, and has the exception in OpenTelemetry's attributes."""
        driver.start("load")
        driver.begin()
        driver.fail()
        driver.end(FAILED)

        run, attempt = telemetry.run(), telemetry.attempt()
        assert (attempt.status.status_code, attempt.status.description) == (StatusCode.ERROR, "ValueError: no")
        assert facts(attempt)["error.type"] == "ValueError"
        assert facts(attempt)["dotflow.status"] == "Failed"
        assert exceptions(attempt) == [
            {
                "exception.type": "ValueError",
                "exception.message": "no",
                "exception.stacktrace": "Traceback: here\n",
            }
        ]
        assert (run.status.status_code, run.status.description) == (
            StatusCode.ERROR,
            "step 'load' failed: ValueError: no",
        )
        assert (facts(run)["error.type"], facts(run)["dotflow.status"]) == ("ValueError", "Failed")
        assert facts(run)["dotflow.tasks.failed"] == 1

    def test_no_traceback_is_no_empty_one(self, telemetry: Telemetry, driver: Driver) -> None:
        """A dead worker has no traceback."""
        driver.start("load")
        driver.begin()
        driver.fail(failure=LATE)

        assert exceptions(telemetry.attempt()) == [{"exception.type": "TimeoutError", "exception.message": "too late"}]

    def test_the_first_failure_is_the_runs(self, telemetry: Telemetry, driver: Driver) -> None:
        """Of several failed tasks, the run has the error of the first."""
        driver.start("a", "b")
        driver.begin(0)
        driver.begin(1)
        driver.fail(1, failure=LATE)
        driver.fail(0)
        driver.end(FAILED)

        assert facts(telemetry.run())["error.type"] == "TimeoutError"
        assert telemetry.run().status.description == "step 'b' failed: TimeoutError: too late"

    def test_a_retry(self, telemetry: Telemetry, driver: Driver) -> None:
        """A retry links to the failed attempt, which has the delay."""
        driver.start("load")
        driver.begin()
        driver.retry(delay=2.5)
        driver.begin(attempt=2)
        driver.complete()
        driver.end()

        first, second = telemetry.attempts()
        assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
        assert (facts(first)["dotflow.status"], facts(first)["dotflow.retry.delay"]) == ("Retry", 2.5)
        assert (facts(second)["dotflow.attempt"], facts(second)["dotflow.retry.count"]) == (2, 1)
        assert [(link.context.trace_id, link.context.span_id) for link in second.links] == [place(first)]
        assert telemetry.run().status.status_code is StatusCode.UNSET

    def test_an_attempt_that_waited_for_its_worker(self, telemetry: Telemetry, driver: Driver) -> None:
        """Its span has the moment from which it ran."""
        driver.start("extract")
        driver.begin()
        driver.time.move(2)
        driver.runs()
        driver.time.move(1)
        driver.complete()
        driver.end()

        attempt = telemetry.attempt()
        (event,) = attempt.events
        assert event.name == "dotflow.attempt.runs"
        start, end = attempt.start_time or 0, attempt.end_time or 0
        assert (event.timestamp - start, end - event.timestamp) == (2 * SECOND, SECOND)

    def test_a_repeated_action_of_a_class(self, telemetry: Telemetry, driver: Driver) -> None:
        """It is an event of its attempt, which may still succeed."""
        driver.start("load")
        driver.begin()
        driver.tell(AttemptRepeated(0, 1, NO))
        driver.complete()

        assert [told["exception.message"] for told in exceptions(telemetry.attempt())] == ["no"]
        assert telemetry.attempt().status.status_code is StatusCode.UNSET

    def test_a_restored_task(self, telemetry: Telemetry, driver: Driver) -> None:
        """It did not run: it is an event of the run, without an attempt."""
        driver.start("extract", "load")
        driver.time.move(1)
        driver.tell(TaskRestored(0, Context("value"), Context()))
        driver.end()

        (event,) = telemetry.run().events
        assert event.name == "dotflow.task.restored"
        assert event.attributes == {
            "dotflow.task.id": 0,
            "dotflow.step.name": "extract",
            "dotflow.group": "default",
        }
        assert event.timestamp == (telemetry.run().start_time or 0) + SECOND
        assert facts(telemetry.run())["dotflow.tasks.restored"] == 1
        assert telemetry.attempts() == []

    def test_stopped_in_an_attempt(self, telemetry: Telemetry, driver: Driver) -> None:
        """A cancelled run fails its active attempt, so no span stays open."""
        driver.start("load", "never")
        driver.begin()
        driver.fail(failure=Failure("RunCancelled", "stopped"))
        driver.end(FAILED)

        assert facts(telemetry.attempt())["error.type"] == "RunCancelled"
        assert facts(telemetry.run())["error.type"] == "RunCancelled"

    def test_stopped_between_two_attempts(self, telemetry: Telemetry, driver: Driver) -> None:
        """There is no attempt, so it is an event of the run."""
        driver.start("load")
        driver.begin()
        driver.retry()
        driver.fail(failure=Failure("RunCancelled", "stopped"))
        driver.end(FAILED)

        (event,) = telemetry.run().events
        assert event.name == "dotflow.task.failed"
        assert (event.attributes or {})["exception.type"] == "RunCancelled"
        assert len(telemetry.attempts()) == 1

    def test_stopped_before_anything(self, telemetry: Telemetry, driver: Driver) -> None:
        """A run can fail without a failed task; OpenTelemetry has a value for an error without a type."""
        driver.start("load")
        driver.end(FAILED)

        assert facts(telemetry.run())["error.type"] == "_OTHER"
        assert telemetry.run().status.description == "the run was stopped before all of its tasks had ended"

    def test_open_spans_end_with_the_run(self, telemetry: Telemetry, driver: Driver) -> None:
        """An attempt whose last event was missed still has a span."""
        driver.start("load")
        driver.begin()
        driver.end(FAILED)

        assert telemetry.attempt().end_time == telemetry.run().end_time

    def test_the_caller_is_the_parent(self, telemetry: Telemetry, driver: Driver) -> None:
        """The run is a child of the span that was current when it began."""
        tracer = telemetry.tracer_provider.get_tracer("caller")
        with tracer.start_as_current_span("caller"):
            driver.start("load")
        driver.begin()
        driver.complete()
        driver.end()

        caller = telemetry.spans[0]
        assert place_of_parent(telemetry.run()) == place(caller)
        assert place_of_parent(telemetry.attempt()) == place(telemetry.run())

    def test_a_run_is_forgotten_at_its_end(self, telemetry: Telemetry, driver: Driver) -> None:
        """A tracer keeps no ended run, and ignores late events."""
        driver.start("load")
        driver.end()
        driver.begin()

        assert driver.tracer.carrier("r", 0) is None
        assert telemetry.attempts() == []

    def test_text_that_could_not_be_exported(self, telemetry: Telemetry, driver: Driver) -> None:
        """A lone surrogate in an error would lose the whole batch, so it is escaped."""
        driver.start("load", name="a\ud800")
        driver.begin()
        driver.fail(failure=Failure("ValueError", "b\udfff", "c\ud800"))
        driver.end(FAILED)

        telemetry.text().encode()
        assert telemetry.run().name == r"dotflow.run a\ud800"
        assert exceptions(telemetry.attempt())[0]["exception.message"] == r"b\udfff"

    def test_not_sampled(self, fake_time: FakeTime) -> None:
        """A trace that is not sampled formats no traceback; the step has the context, and metrics count."""
        telemetry = Telemetry(ALWAYS_OFF)
        driver = Driver(telemetry, fake_time)

        class Untouched(Failure):
            @property
            def traceback(self) -> str:
                raise AssertionError("it was formatted for nobody")

        driver.start("load")
        driver.begin()
        carrier = driver.tracer.carrier("r", 0)
        driver.tell(AttemptRepeated(0, 1, Untouched("ValueError", "no")))
        driver.fail(failure=Untouched("ValueError", "no"))
        driver.end(FAILED)

        assert telemetry.spans == ()
        assert carrier is not None
        flags = int(carrier.headers["traceparent"].rpartition("-")[2], 16)
        assert not flags & trace.TraceFlags.SAMPLED
        assert telemetry.counts("dotflow.attempts") == {("Failed", "load", "books", "ValueError"): 1}


class TestMaps:
    def test_a_map_its_items_and_their_attempts(self, telemetry: Telemetry, driver: Driver) -> None:
        """A tree: the run, the mapped task, an item, its attempts."""
        driver.start("load", "last")
        driver.open_map(2)
        driver.begin(item=0)
        driver.begin(item=1)
        driver.retry(item=1)
        driver.complete(item=0)
        driver.begin(item=1, attempt=2)
        driver.complete(item=1)
        driver.end_map()
        driver.begin(1)
        driver.complete(1)
        driver.end()

        (mapped,), items = telemetry.maps(), telemetry.items()
        assert (mapped.name, place_of_parent(mapped)) == ("dotflow.map load", place(telemetry.run()))
        assert [(item.name, place_of_parent(item)) for item in items] == [("dotflow.item load", place(mapped))] * 2
        attempts = telemetry.attempts("load")
        assert [(span.name, facts(span)["dotflow.item"], facts(span)["dotflow.attempt"]) for span in attempts] == [
            ("load", 0, 1),
            ("load", 1, 1),
            ("load", 1, 2),
        ]
        assert [place_of_parent(span) for span in attempts] == [place(items[0]), place(items[1]), place(items[1])]
        assert [link.context.span_id for span in attempts for link in span.links] == [place(attempts[1])[1]]
        assert place_of_parent(telemetry.attempt("last")) == place(telemetry.run())
        assert "dotflow.item" not in facts(telemetry.attempt("last"))
        assert facts(telemetry.run())["dotflow.tasks.completed"] == 2

    def test_their_attributes(self, telemetry: Telemetry, driver: Driver) -> None:
        """A map has counts and its status; an item its index and its status; both the ids of run and task."""
        driver.start("load")
        driver.open_map(4)
        driver.begin(item=0)
        driver.complete(item=0)
        driver.begin(item=1)
        driver.fail(item=1)
        driver.tell(TaskRestored(0, Context(), Context(), 2))
        driver.tell(TaskSkipped(0, "it needs 'table[3]', which failed", 3))
        driver.end_map(Failure("ItemsFailed", "1 of 4"))
        driver.end(FAILED)

        ids = {
            "dotflow.workflow.id": "w",
            "dotflow.workflow.name": "books",
            "dotflow.run.id": "r",
            "dotflow.task.id": 0,
            "dotflow.step.name": "load",
            "dotflow.group": "default",
        }
        (mapped,) = telemetry.maps()
        assert facts(mapped) == ids | {
            "dotflow.items": 4,
            "dotflow.items.completed": 2,
            "dotflow.items.failed": 1,
            "dotflow.items.restored": 1,
            "dotflow.items.skipped": 1,
            "dotflow.status": "Failed",
            "error.type": "ItemsFailed",
        }
        (skip,) = [event for event in mapped.events if event.name == "dotflow.item.skipped"]
        assert skip.attributes == {"dotflow.item": 3, "dotflow.skip.reason": "it needs 'table[3]', which failed"}
        good, bad = telemetry.items()
        assert facts(good) == ids | {"dotflow.item": 0, "dotflow.status": "Completed"}
        assert facts(bad) == ids | {"dotflow.item": 1, "dotflow.status": "Failed", "error.type": "ValueError"}
        assert (bad.status.status_code, mapped.status.status_code) == (StatusCode.ERROR, StatusCode.ERROR)
        assert telemetry.run().status.description == "step 'load[1]' failed: ValueError: no"
        assert facts(telemetry.run())["dotflow.tasks.failed"] == 1

    def test_a_map_in_rounds_is_one_span(self, telemetry: Telemetry, driver: Driver) -> None:
        """It opens again in each round, with all items so far."""
        driver.start("load")
        for item in range(2):
            driver.open_map(item + 1)
            driver.begin(item=item)
            driver.complete(item=item)
        driver.end_map()
        driver.end()

        (mapped,), items = telemetry.maps(), telemetry.items()
        assert (facts(mapped)["dotflow.items"], facts(mapped)["dotflow.items.completed"]) == (2, 2)
        assert [place_of_parent(item) for item in items] == [place(mapped)] * 2

    def test_a_restored_map(self, telemetry: Telemetry, driver: Driver) -> None:
        """It counts as a task that has completed, and was restored."""
        driver.start("load")
        driver.open_map(1)
        driver.tell(TaskRestored(0, Context(), Context(), 0))
        driver.end_map()
        driver.end()

        assert telemetry.items() == []
        run = facts(telemetry.run())
        assert (run["dotflow.tasks.restored"], run["dotflow.tasks.completed"]) == (1, 1)

    def test_an_empty_map(self, telemetry: Telemetry, driver: Driver) -> None:
        """It has completed."""
        driver.start("load")
        driver.open_map(0)
        driver.end_map()
        driver.end()

        assert facts(telemetry.maps()[0])["dotflow.items"] == 0
        assert facts(telemetry.run())["dotflow.tasks.completed"] == 1

    def test_an_item_stopped_between_two_attempts(self, telemetry: Telemetry, driver: Driver) -> None:
        """Its span ends with the reason."""
        driver.start("load")
        driver.open_map(1)
        driver.begin(item=0)
        driver.retry(item=0)
        driver.fail(item=0, failure=Failure("RunCancelled", "the run was cancelled"))
        driver.end_map(Failure("RunCancelled", "after 0 of 1 items"))
        driver.end(FAILED)

        (item,) = telemetry.items()
        assert facts(item)["error.type"] == "RunCancelled"
        assert facts(telemetry.attempt())["dotflow.status"] == "Retry"

    def test_nothing_stays_open_after_a_failure_of_the_tracer(self, telemetry: Telemetry, driver: Driver) -> None:
        """Spans whose end it did not see end with the run."""
        driver.start("load")
        driver.open_map(1)
        driver.begin(item=0)
        driver.end(FAILED)

        assert [span.name for span in telemetry.spans] == [
            "load",
            "dotflow.item load",
            "dotflow.map load",
            "dotflow.run books",
        ]

    def test_each_item_has_its_own_carrier(self, telemetry: Telemetry, driver: Driver) -> None:
        """That of its attempt; an item that has not begun has none."""
        driver.start("load")
        driver.open_map(3)
        driver.begin(item=0)
        driver.begin(item=1)
        carriers = [driver.tracer.item_carrier("r", 0, item) for item in range(3)]
        for item in range(2):
            driver.complete(item=item)

        assert carriers[2] is driver.tracer.carrier("r", 0) is driver.tracer.item_carrier("other", 0, 0) is None
        for carrier, attempt in zip(carriers, telemetry.attempts(), strict=False):
            assert carrier is not None
            assert carrier.headers["traceparent"].split("-")[2] == f"{place(attempt)[1]:016x}"

    def test_attempts_are_counted_one_by_one(self, telemetry: Telemetry, driver: Driver) -> None:
        """The metrics count attempts of items as any attempt, without their index."""
        driver.start("load")
        driver.open_map(50)
        for item in range(50):
            driver.begin(item=item)
            driver.complete(item=item)
        driver.end_map()

        assert telemetry.counts("dotflow.attempts") == {("Completed", "load", "books"): 50}


class TestSkipsAndFallbacks:
    def test_a_skipped_task(self, telemetry: Telemetry, driver: Driver) -> None:
        """It is an event of the run, with the reason; the run counts it."""
        driver.start("load", "deploy")
        driver.tell(TaskSkipped(1, "good was \ud800"))
        driver.end()

        (event,) = telemetry.run().events
        assert (event.name, event.attributes) == (
            "dotflow.task.skipped",
            {
                "dotflow.task.id": 1,
                "dotflow.step.name": "deploy",
                "dotflow.group": "default",
                "dotflow.status": "Skipped",
                "dotflow.skip.reason": r"good was \ud800",
            },
        )
        assert facts(telemetry.run())["dotflow.tasks.skipped"] == 1
        telemetry.text().encode()

    def test_a_paused_run(self, telemetry: Telemetry, driver: Driver) -> None:
        """It is no error. A paused task is an event of the run; the spans of a map and of its items end as Paused."""
        driver.start("load", "deploy")
        driver.open_map(3)
        driver.begin(item=0)
        driver.complete(item=0)
        driver.begin(item=1)
        driver.retry(item=1)
        driver.begin(1)
        driver.retry(1)
        for task, item in ((0, 1), (0, None), (1, None)):
            driver.tell(TaskPaused(task, "paused by \ud800", driver.time.now(), driver.time.monotonic(), item))
        driver.end(TypeStatus.PAUSED)

        run = telemetry.run()
        assert (run.status.status_code, facts(run)["dotflow.status"]) == (StatusCode.UNSET, "Paused")
        assert facts(run)["dotflow.tasks.failed"] == 0
        assert [(event.name, facts(event)["dotflow.task.id"]) for event in run.events] == [
            ("dotflow.task.paused", 0),
            ("dotflow.task.paused", 1),
        ]
        assert {facts(event)["dotflow.pause.reason"] for event in run.events} == {r"paused by \ud800"}
        (mapped,) = telemetry.maps()
        assert (facts(mapped)["dotflow.status"], facts(mapped)["dotflow.items.completed"]) == ("Paused", 1)
        assert [facts(item)["dotflow.status"] for item in telemetry.items()] == ["Completed", "Paused"]
        assert telemetry.counts("dotflow.runs") == {("Paused", "books"): 1}

    def test_a_stop_after_a_pause(self, telemetry: Telemetry, driver: Driver) -> None:
        """It fails the paused tasks. Their spans have ended, so the run's events have the failures."""
        driver.start("load", "deploy")
        driver.open_map(1)
        driver.begin(item=0)
        driver.retry(item=0)
        driver.begin(1)
        driver.retry(1)
        for task, item in ((0, 0), (0, None), (1, None)):
            driver.tell(TaskPaused(task, "paused", driver.time.now(), driver.time.monotonic(), item))
        driver.fail(item=0, failure=Failure("RunCancelled", "the run was cancelled"))
        driver.end_map(Failure("RunCancelled", "after 0 of 1 items"))
        driver.fail(1, failure=Failure("RunCancelled", "the run was cancelled"))
        driver.end(TypeStatus.FAILED)

        assert facts(telemetry.run())["dotflow.tasks.failed"] == 2
        assert [facts(span)["dotflow.status"] for span in (*telemetry.maps(), *telemetry.items())] == ["Paused"] * 2

    def test_the_attempts_of_a_fallback(self, telemetry: Telemetry, driver: Driver) -> None:
        """They have its name; the others have not."""
        driver.start("load")
        driver.begin()
        driver.retry()
        driver.begin(attempt=2, fallback="cached")
        driver.complete()

        assert [facts(span).get("dotflow.fallback") for span in telemetry.attempts()] == [None, "cached"]

    def test_an_event_that_it_does_not_know(self, telemetry: Telemetry, driver: Driver) -> None:
        """It changes nothing, so a newer engine breaks no older tracer."""
        driver.start("load")
        driver.tell(object())  # type: ignore[arg-type]
        driver.end()

        assert telemetry.run().events == ()


class TestTimes:
    def test_begin_and_end(self, telemetry: Telemetry, driver: Driver) -> None:
        """Spans begin and end when the run and the attempt did, on dotflow's clock."""
        began = nanoseconds(driver.time.now())
        driver.start("load")
        driver.time.move(1)
        driver.begin()
        driver.time.move(2)
        driver.retry()
        driver.time.move(4)
        driver.begin(attempt=2)
        driver.time.move(8)
        driver.complete()
        driver.time.move(16)
        driver.end()

        spans = [telemetry.run(), *telemetry.attempts()]
        assert [((span.start_time or 0) - began, (span.end_time or 0) - began) for span in spans] == [
            (0, 31 * SECOND),
            (1 * SECOND, 3 * SECOND),
            (7 * SECOND, 15 * SECOND),
        ]

    def test_nanoseconds_are_kept(self, telemetry: Telemetry, driver: Driver) -> None:
        """A duration shorter than a microsecond of the wall clock is kept."""
        driver.time.seconds = 0.0
        driver.start("load")
        driver.begin()
        driver.tell(TaskCompleted(0, Context("value"), 0.000_000_123))

        span = telemetry.attempt()
        assert (span.end_time or 0) - (span.start_time or 0) == 123

    def test_microseconds_of_a_moment_are_exact(self) -> None:
        """A float would be off by hundreds of nanoseconds."""
        assert nanoseconds(datetime(2024, 1, 1, 0, 0, 0, 123_457, tzinfo=UTC)) == 1_704_067_200_123_457_000

    @pytest.mark.parametrize("seconds", [-3600, 3600], ids=["set back", "asleep"])
    def test_the_wall_clock_jumps(self, telemetry: Telemetry, driver: Driver, seconds: int) -> None:
        """No span ends before it begins, and the run's contains those of its attempts."""
        driver.start("load")
        driver.time.move(1)
        jump, before = timedelta(seconds=seconds), driver.time.now
        driver.time.now = lambda: before() + jump
        driver.time.move(1)
        driver.tell(TaskRestored(0, Context("value"), Context()))
        driver.begin()
        driver.time.move(1)
        driver.complete()
        driver.time.move(1)
        driver.end()

        run, attempt = telemetry.run(), telemetry.attempt()
        assert (attempt.end_time or 0) - (attempt.start_time or 0) == SECOND
        assert (run.end_time or 0) >= max((run.start_time or 0) + 4 * SECOND, attempt.end_time or 0)


class TestMetrics:
    def drive(self, driver: Driver) -> None:
        """Drives a run with a step that succeeds, and one that fails twice."""
        driver.start("extract", "load")
        driver.begin(0)
        driver.time.move(2)
        driver.complete(0)
        driver.begin(1)
        driver.retry(1)
        driver.begin(1, attempt=2)
        driver.tell(AttemptRepeated(1, 2, NO))
        driver.time.move(3)
        driver.fail(1, attempt=2, failure=LATE)
        driver.end(FAILED)

    def test_counters(self, telemetry: Telemetry, driver: Driver) -> None:
        """Runs, attempts and retries are counted by workflow, step and status."""
        self.drive(driver)

        assert telemetry.counts("dotflow.runs") == {("Failed", "books", "TimeoutError"): 1}
        assert telemetry.counts("dotflow.attempts") == {
            ("Completed", "extract", "books"): 1,
            ("Retry", "load", "books", "ValueError"): 1,
            ("Failed", "load", "books", "TimeoutError"): 1,
        }
        assert telemetry.counts("dotflow.retries") == {("load", "books"): 2}

    def test_durations(self, telemetry: Telemetry, driver: Driver) -> None:
        """Seconds, in buckets for seconds."""
        self.drive(driver)

        (run,) = telemetry.points("dotflow.run.duration")
        attempts = {
            point.attributes["dotflow.step.name"]: point.sum
            for point in telemetry.points("dotflow.attempt.duration")
            if point.attributes["dotflow.status"] != "Retry"
        }
        assert run.sum == pytest.approx(5)
        assert attempts == {"extract": pytest.approx(2), "load": pytest.approx(3)}
        assert run.explicit_bounds[0] < 0.01
        assert run.explicit_bounds[-1] > 3_600

    def test_no_id_is_an_attribute(self, telemetry: Telemetry, driver: Driver) -> None:
        """Each value of an attribute is a time series for ever: a workflow without a name has no name there."""
        driver.start("load", name=None, workflow_id="6e0c")
        driver.begin()
        driver.complete()
        driver.end()

        assert telemetry.counts("dotflow.runs") == {("Completed",): 1}
        assert telemetry.counts("dotflow.attempts") == {("Completed", "load"): 1}

    def test_runs_share_the_instruments(self, telemetry: Telemetry, fake_time: FakeTime) -> None:
        """Many runs of a workflow have no more time series than one."""
        for number in range(5):
            driver = Driver(telemetry, fake_time, str(number))
            driver.start("load", workflow_id=str(number))
            driver.begin()
            driver.complete()
            driver.end()

        assert telemetry.counts("dotflow.runs") == {("Completed", "books"): 5}
        assert telemetry.counts("dotflow.attempt.duration") == {("Completed", "load", "books"): 5}


class TestCarrier:
    def test_it_names_the_attempt(self, telemetry: Telemetry, driver: Driver) -> None:
        """After it is entered, the attempt is the current span; after it is left, the earlier one."""
        driver.start("load")
        driver.begin()
        carrier = driver.tracer.carrier("r", 0)
        driver.complete()

        assert carrier is not None
        assert carrier.entry == f"{propagation.__name__}:enter"
        leave = propagation.enter(carrier.headers)
        inside = trace.get_current_span().get_span_context()
        leave()
        assert (inside.trace_id, inside.span_id) == place(telemetry.attempt())
        assert not trace.get_current_span().get_span_context().is_valid

    def test_each_attempt_has_its_own(self, telemetry: Telemetry, driver: Driver) -> None:
        """A retry has another span of the same trace; between two attempts there is none."""
        driver.start("load")
        driver.begin()
        first = driver.tracer.carrier("r", 0)
        driver.retry()
        between = driver.tracer.carrier("r", 0)
        driver.begin(attempt=2)
        second = driver.tracer.carrier("r", 0)

        assert between is None
        assert first is not None
        assert second is not None
        assert first.headers["traceparent"].split("-")[1] == second.headers["traceparent"].split("-")[1]
        assert first != second

    def test_without_an_sdk_nothing_travels(self, fake_time: FakeTime) -> None:
        """The API alone makes no spans, so there is no context."""
        telemetry = Telemetry()
        telemetry.tracer = TracerOpenTelemetry(trace.NoOpTracerProvider())
        driver = Driver(telemetry, fake_time)
        driver.start("load")
        driver.begin()
        carrier = driver.tracer.carrier("r", 0)
        driver.retry()
        driver.begin(attempt=2)
        driver.fail()
        driver.end(FAILED)

        assert carrier is None


class TestConstruction:
    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error has the command to install it, and `from dotflow.providers import` still works."""
        for name in list(sys.modules):
            if name.partition(".")[0] == "opentelemetry":
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "opentelemetry", None)

        with pytest.raises(MissingExtra, match=r"pip install 'dotflow\[otel\]'") as caught:
            TracerOpenTelemetry()

        assert caught.value.extra == "otel"

    def test_with_the_global_providers_it_travels(self) -> None:
        """A step with a workflow of its own can be sent to a worker."""
        assert isinstance(pickle.loads(pickle.dumps(TracerOpenTelemetry())), TracerOpenTelemetry)

    def test_a_copy_keeps_its_providers(self) -> None:
        """It is given the same providers, not the global ones."""
        provider: Any = trace.NoOpTracerProvider()

        _, given = TracerOpenTelemetry(provider).__reduce__()

        assert given == (provider, None)
