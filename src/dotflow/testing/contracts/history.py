"""HistoryContract: what every history promises whose runs can be read, as tests for subclasses to inherit."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from dotflow.core.attempt_id import AttemptId
from dotflow.core.context import Context
from dotflow.core.events import (
    AttemptFailed,
    AttemptOutput,
    AttemptRepeated,
    MapEnded,
    MapOpened,
    Planned,
    TaskRestored,
    TaskSkipped,
    Traced,
)
from dotflow.core.failure import Failure
from dotflow.core.outcome import Usage
from dotflow.core.record import OutputKey
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.testing.contracts.archive import ArchiveContract
from dotflow.testing.contracts.history_driver import AWAY, BEGAN, ENDS, Driver, UnknownEvent

try:
    import pytest
except ImportError as error:
    raise ImportError("HistoryContract needs pytest: its promises are tests. Run: pip install pytest") from error


class HistoryContract(ArchiveContract):
    """The promises. A subclass has a fixture `history`: an empty History that is an Archive, too.

    It keeps all runs, at least 10,000 bytes of output of an attempt, and copies of the inputs of failed tasks.
    """

    def test_a_run_that_has_begun_can_be_read(self, history: Any) -> None:
        """It is Running, with its tasks, their needs and policies."""
        run = Driver(history, mode="parallel", resumed=True, trigger="schedule", storage="StorageDefault").load()

        assert (run.run_id, run.workflow_id, run.name, run.state) == ("0123456789", "nightly", "nights", "Running")
        assert (run.mode, run.resumed, run.trigger, run.began) == ("parallel", True, "schedule", BEGAN)
        assert (run.ended, run.tasks, run.parent) == (None, 2, None)
        extract, load = run.steps
        assert (extract.name, extract.group, extract.identity) == ("extract", "default", "shop:extract")
        assert extract.code == "3.11:abc"
        assert (load.lane, list(load.needs), dict(load.policy)["attempts"]) == (1, [0], 3)
        assert extract.state is None

    def test_an_attempt_that_has_begun_can_be_read(self, history: Any) -> None:
        """After `settle`, it is Running."""
        driver = Driver(history)
        driver.begin(0)

        attempts = driver.load().steps[0].attempts
        assert len(attempts) == 1, "settle() has to save what has begun before it returns"
        attempt = attempts[0]
        assert (attempt.attempt, attempt.state, attempt.began, attempt.duration) == (
            1,
            TypeAttemptState.RUNNING,
            BEGAN + timedelta(seconds=1),
            None,
        )

    def test_settle_says_when_it_has_to_be_called_again(self, history: Any) -> None:
        """It returns seconds, or None."""
        driver = Driver(history)
        driver.begin(0)
        driver.complete(0)

        seconds = history.settle(driver.run_id, False)

        assert seconds is None or 0 < seconds < 60

    def test_a_completed_task(self, history: Any) -> None:
        """It has its duration, its usage, and a glimpse of its value."""
        driver = Driver(history)
        driver.begin(0)
        driver.complete(0, [1, 2, 3], usage=Usage(0.25, 4_000_000, 77))
        driver.end()

        run = driver.load()
        (attempt,) = run.steps[0].attempts
        assert (attempt.state, attempt.duration) == (TypeAttemptState.COMPLETED, 1.0)
        assert (attempt.cpu, attempt.peak, attempt.worker) == (0.25, 4_000_000, 77)
        assert attempt.glimpse == "[1, 2, 3]"
        assert (run.completed, run.failed) == (1, 0)

    def test_failed_attempts(self, history: Any) -> None:
        """Each has its error, the repeated actions of a class, too, and the delay before the next attempt."""
        driver = Driver(history)
        driver.begin(0)
        driver.send(AttemptRepeated(0, 1, Failure("ValueError", "first")))
        driver.send(AttemptFailed(0, 1, AWAY, 7.5, None, Usage(0.5)))
        driver.begin(0, 2)
        driver.fail(0, 2)
        driver.end(TypeRunState.FAILED)

        run = driver.load()
        first, second = run.steps[0].attempts
        assert (first.state, first.cpu, second.state) == (TypeAttemptState.RETRY, 0.5, TypeAttemptState.FAILED)
        assert [(error.exception, error.retry_in) for error in first.errors] == [
            ("ValueError", None),
            ("ConnectionError", 7.5),
        ]
        (error,) = second.errors
        assert (error.message, error.traceback) == (AWAY.message, AWAY.traceback)
        assert (run.failed, run.error) == (1, "extract: ConnectionError: the warehouse is away")

    def test_items(self, history: Any) -> None:
        """Each item has attempts of its own; the map has their number."""
        driver = Driver(history)
        driver.send(MapOpened(0, 3, driver.now, driver.seconds))
        for item in range(2):
            driver.begin(0, item=item)
        driver.complete(0, 5, item=1)
        driver.fail(0, item=0)
        driver.send(TaskSkipped(0, "it needs item 0", 2))
        driver.send(MapEnded(0, Context(), AWAY, driver.now, driver.seconds))

        driver.end(TypeRunState.FAILED)
        run = driver.load()
        task = run.steps[0]
        assert (task.count, task.state) == (3, TypeAttemptState.FAILED)
        assert [task.items[item][0].state for item in range(3)] == ["Failed", "Completed", "Skipped"]
        assert task.items[1][0].glimpse == "5"
        assert (run.completed, run.failed) == (0, 1)

    def test_traces(self, history: Any) -> None:
        """The run has the id of its trace, and each attempt that of its span."""
        driver = Driver(history)
        driver.send(Traced(-1, 0, "4bf92f35", "00f067aa"))
        driver.begin(0)
        driver.send(Traced(0, 1, "4bf92f35", "b7ad6b71"))
        driver.complete(0)
        driver.begin(1, item=2)
        driver.send(Traced(1, 1, "4bf92f35", "c8be7c82", 2))
        driver.end()

        run = driver.load()
        assert (run.trace, run.steps[0].attempts[0].span, run.steps[1].items[2][0].span) == (
            "4bf92f35",
            "b7ad6b71",
            "c8be7c82",
        )

    @pytest.mark.parametrize("source", ["checkpoint", "cache"])
    def test_restored_values(self, source: str, history: Any) -> None:
        """A value of a checkpoint and one of the cache are told apart."""
        driver = Driver(history)
        driver.send(TaskRestored(0, Context(5, 0, time=BEGAN), Context(), None, source))
        driver.end()

        run = driver.load()
        (attempt,) = run.steps[0].attempts
        assert attempt.state == {"checkpoint": "Restored", "cache": "Cached"}[source]
        assert (run.restored, run.completed) == (1, 0)

    def test_skipped_tasks(self, history: Any) -> None:
        """They have their reason."""
        driver = Driver(history)
        driver.send(TaskSkipped(1, "good_enough was False"))
        driver.end()

        run = driver.load()
        (attempt,) = run.steps[1].attempts
        assert (attempt.state, attempt.glimpse, run.skipped) == ("Skipped", "good_enough was False", 1)

    @pytest.mark.parametrize("state", ENDS)
    def test_the_end_of_a_run(self, state: TypeRunState, history: Any) -> None:
        """Each way in which it ends has its state, with the reason."""
        reason = "" if state in ("Completed", "Failed") else "the run was stopped"
        driver = Driver(history)
        driver.end(state, reason)

        run = driver.load()
        assert (run.state, run.reason, run.ended) == (state, reason, BEGAN + timedelta(seconds=1))

    def test_a_run_that_was_stopped_during_a_retry(self, history: Any) -> None:
        """The failed attempt keeps its duration, and has both errors."""
        driver = Driver(history)
        driver.begin(0)
        driver.send(AttemptFailed(0, 1, AWAY, 60.0))
        driver.fail(0, failure=Failure("RunCancelled", "the run was cancelled"))
        driver.end(TypeRunState.CANCELLED)

        (attempt,) = driver.load().steps[0].attempts
        assert attempt.state == "Failed"
        assert [error.exception for error in attempt.errors] == ["ConnectionError", "RunCancelled"]

    def test_a_task_that_fails_without_an_attempt(self, history: Any) -> None:
        """Such as a map over what is no list."""
        driver = Driver(history)
        driver.fail(0)
        driver.end(TypeRunState.FAILED)

        (attempt,) = driver.load().steps[0].attempts
        assert (attempt.state, [error.exception for error in attempt.errors]) == ("Failed", ["ConnectionError"])

    def test_the_parent_of_a_run(self, history: Any) -> None:
        """Both find each other."""
        parent = AttemptId("0123456789", 1, 2, 7)
        outer = Driver(history)
        inner = Driver(history, "abcdefghij", parent=parent)

        assert inner.load().parent == parent
        assert outer.load().children == ["abcdefghij"]

    def test_runs_at_the_same_time(self, history: Any) -> None:
        """The events of one do not reach the other."""
        one, two = Driver(history), Driver(history, "abcdefghij")
        for driver in (one, two):
            driver.begin(0)
        one.complete(0, "one")
        two.fail(0)
        one.end()
        two.end(TypeRunState.FAILED)

        assert (one.load().state, one.load().steps[0].attempts[0].glimpse) == ("Completed", "'one'")
        assert (two.load().state, two.load().failed) == ("Failed", 1)

    def test_output(self, history: Any) -> None:
        """Each attempt has its own, byte for byte and in order, during the run, too."""
        driver = Driver(history)
        driver.begin(0)
        driver.send(AttemptOutput(0, 1, 1, b"one\n", driver.now))
        driver.send(AttemptOutput(0, 1, 2, b"\xff\x00two", driver.now))
        driver.begin(1)
        driver.send(AttemptOutput(1, 1, 1, b"other", driver.now))
        driver.complete(0)
        driver.complete(1)
        driver.end()

        chunks = [(chunk.stream, chunk.data) for chunk in history.output(driver.run_id, "extract")]
        assert chunks == [(1, b"one\n"), (2, b"\xff\x00two")]
        assert b"".join(chunk.data for chunk in history.output(driver.run_id, "load")) == b"other"
        extract, load = OutputKey(0, None, 1), OutputKey(1, None, 1)
        assert history.output_sizes(driver.run_id) == {extract: 9, load: 5}
        tails = history.output_tails(driver.run_id, {extract: 7, load: 100})
        assert [(chunk.key, chunk.data) for chunk in tails] == [
            (extract, b"e\n"),
            (extract, b"\xff\x00two"),
            (load, b"other"),
        ]

    def test_a_report(self, history: Any, tmp_path: Path) -> None:
        """A run is one HTML file, while it goes on, too."""
        driver = Driver(history)
        driver.begin(0)
        driver.send(AttemptOutput(0, 1, 1, b"one\n", driver.now))
        driver.begin(1)

        path = history.report(driver.run_id, tmp_path / "run.html")

        page = path.read_text("utf-8")
        assert driver.run_id in page
        assert r"one\n" in page

    def test_inputs_of_a_failed_task(self, history: Any) -> None:
        """They are copied as they were."""
        driver = Driver(history)
        driver.begin(1, previous=Context({"rows": [1, (2, 3)]}, 0), arguments={"day": BEGAN})
        driver.fail(1)
        driver.end(TypeRunState.FAILED)

        assert history.value(driver.run_id, "load", "previous") == {"rows": [1, (2, 3)]}
        assert history.value(driver.run_id, "load", "argument:day") == BEGAN

    def test_unknown_events_are_passed_over(self, history: Any) -> None:
        """Those of a later version."""
        driver = Driver(history)
        driver.send(UnknownEvent(0))
        driver.end()

        assert driver.load().state == "Completed"

    def test_events_of_an_unknown_run_are_passed_over(self, history: Any) -> None:
        """A history that is told of a run from the middle on."""
        history.record("elsewhere", TaskSkipped(0, "no reason"))
        assert history.settle("elsewhere", True) is None

    @pytest.mark.parametrize("text", ["naïve ☃ 𝄞", "'; DROP TABLE runs; --", "a\nb\x00c", "\ud800"], ids=ascii)
    def test_any_text(self, text: str, history: Any) -> None:
        """Names, messages and output may hold anything; lone surrogates may come back escaped."""
        driver = Driver(history, steps=[Planned(text, text, 0, text)], workflow_id=text)
        driver.begin(0, fallback=text)
        driver.send(AttemptOutput(0, 1, 1, text.encode(errors="surrogatepass"), driver.now))
        driver.fail(0, failure=Failure(text, text, text))
        driver.end(TypeRunState.FAILED)

        expected = text.encode(errors="backslashreplace").decode()
        run = driver.load()
        assert (run.workflow_id, run.steps[0].name) == (expected, expected)
        assert run.steps[0].attempts[0].errors[0].message == expected
