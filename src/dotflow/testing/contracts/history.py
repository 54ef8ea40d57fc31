"""HistoryContract: what every history promises whose runs can be read, as tests for subclasses to inherit."""

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dotflow import clock
from dotflow.core import events
from dotflow.core.attempt_id import AttemptId
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.decorator import action
from dotflow.core.failure import Failure
from dotflow.core.outcome import Usage
from dotflow.core.policy import Policy
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.errors import NotInHistory
from dotflow.records.record import OutputKey

BEGAN: Final = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
AWAY_TEXTS: Final = ("ConnectionError", "the warehouse is away")
AWAY: Final = Failure(*AWAY_TEXTS, "Traceback (most recent call last):\n  ...\n")
STEPS: Final = (
    events.Planned("extract", "default", 0, "shop:extract", (), Policy(), "3.11:abc", ()),
    events.Planned("load", "left", 1, "shop:load", (0,), Policy(attempts=3), "", ("previous_context",)),
)
GRACE: Final = 5.0  # seconds that a busy machine may add to what a history promises
STATES: Final = ("Completed", "Failed", "Cancelled", "Interrupted", "Paused")  # in which a run may end


class Driver:
    """One run, whose events are recorded one by one, a second apart."""

    def __init__(
        self,
        history: Any,
        run_id: str = "0123456789",
        workflow_id: str = "nightly",
        *,
        steps: Sequence[events.Planned] = STEPS,
        offset: float = 0.0,
        **more: Any,
    ) -> None:
        self.history, self.run_id, self.workflow_id = history, run_id, workflow_id
        self.seconds = 0.0
        self.began = BEGAN + timedelta(seconds=offset)
        self.send(events.RunStarted(workflow_id, run_id, len(steps), self.now, "nights", steps, **more))

    @property
    def now(self) -> datetime:
        return self.began + timedelta(seconds=self.seconds)

    def send(self, event: Any) -> None:
        self.history.record(self.run_id, event)
        self.seconds += 1

    def begin(self, task: int, attempt: int = 1, item: int | None = None, **more: Any) -> None:
        previous = more.pop("previous", Context())
        arguments = more.pop("arguments", None)
        step = action(lambda: None)
        call = Call(task, 0, step, Context(), previous, self.workflow_id, number=task, arguments=arguments)
        self.send(events.AttemptStarted(task, attempt, previous, self.now, self.seconds, item, call=call, **more))
        self.history.settle(self.run_id, True)

    def complete(self, task: int, value: object = None, item: int | None = None, usage: Usage | None = None) -> None:
        self.send(events.TaskCompleted(task, Context(value, task, time=self.now), self.seconds, item, usage))

    def fail(self, task: int, attempt: int = 1, item: int | None = None, failure: Failure = AWAY) -> None:
        self.send(events.TaskFailed(task, attempt, failure, self.now, self.seconds, item))

    def end(self, state: str = "Completed", reason: str = "") -> Any:
        """Ends the run, and returns its record."""
        status = TypeStatus(state) if state in ("Completed", "Paused") else TypeStatus.FAILED
        self.send(events.RunEnded(self.workflow_id, self.run_id, status, self.now, TypeRunState(state), reason))
        return self.load()

    def call(
        self, number: int, name: str, arguments: str, *, attempt: int = 1, depth: int = 0, item: Any = None
    ) -> None:
        """Begins a call of a durable step."""
        fields = (0, attempt, number, name, arguments, depth, f"key {number}", self.now, self.seconds, item)
        self.send(events.CallBegan(*fields, f"shop:{name}"))

    def end_call(self, number: int, preview: str = "", failure: Failure | None = None, attempt: int = 1) -> None:
        text = "" if failure is None else '{"number": 1}'
        self.send(events.CallEnded(0, attempt, number, preview, failure, self.seconds, None, text))

    def calls(self, step: str, is_there: Callable[[Any], object] = bool, **options: Any) -> Any:
        """Returns the calls of a step, as `load` returns the record."""
        self.history.settle(self.run_id, True)
        until = clock.ticks() + (self.history.late and self.history.late + GRACE)
        while not is_there(page := self.history.calls(self.run_id, step, **options)) and clock.ticks() < until:
            time.sleep(self.history.late)
        return page

    def load(self, is_there: Callable[[Any], object] = bool) -> Any:
        """Returns the record, once it has what is looked for: some histories write a little later."""
        until = clock.ticks() + (self.history.late and self.history.late + GRACE)
        while not is_there(run := self.history.load(self.run_id)) and clock.ticks() < until:
            time.sleep(self.history.late)
        return run


try:
    import pytest
except ImportError as error:
    raise ImportError("HistoryContract needs pytest: its promises are tests. Run: pip install pytest") from error


class HistoryContract:
    """The promises. A subclass has a fixture `history`: an empty History that is an Archive, too.

    It keeps all runs, at least 10,000 bytes of output of an attempt, and copies of the inputs of failed tasks.
    """

    @pytest.fixture
    def driver(self, history: Any) -> Driver:
        """A run that has begun."""
        return Driver(history)

    def test_a_run_that_has_begun_can_be_read(self, history: Any) -> None:
        """It is Running, with its tasks, their needs and policies."""
        run = Driver(history, mode="parallel", resumed=True, trigger="schedule", storage="StorageDefault").load()

        assert (run.run_id, run.workflow_id, run.name, run.state) == ("0123456789", "nightly", "nights", "Running")
        assert (run.mode, run.resumed, run.trigger, run.began) == ("parallel", True, "schedule", BEGAN)
        assert (run.ended, run.tasks, run.parent) == (None, 2, None)
        extract, load = run.steps
        assert (extract.name, extract.group, extract.identity) == ("extract", "default", "shop:extract")
        assert (extract.code, extract.state) == ("3.11:abc", None)
        assert (load.lane, list(load.needs), load.policy["attempts"]) == (1, [0], 3)

    def test_an_attempt_that_has_begun_can_be_read(self, driver: Driver) -> None:
        """After `settle`, it is Running."""
        driver.begin(0)

        attempts = driver.load(lambda run: run.steps[0].attempts).steps[0].attempts
        assert len(attempts) == 1, "settle() has to save what has begun before it returns"
        assert attempts[0][1:5] == (1, "Running", BEGAN + timedelta(seconds=1), None)

    def test_a_completed_task(self, driver: Driver) -> None:
        """It has its duration, its usage, and a preview of its value."""
        driver.begin(0)
        driver.complete(0, [1, 2, 3], usage=Usage(0.25, 4_000_000, 77))

        seconds = driver.history.settle(driver.run_id, False)
        run = driver.end()
        assert seconds is None or 0 < seconds < 60, "settle() returns when it has to be called again"
        (attempt,) = run.steps[0].attempts
        assert (attempt.state, attempt.duration, attempt.glimpse) == ("Completed", 1.0, "[1, 2, 3]")
        assert (attempt.cpu, attempt.peak, attempt.worker) == (0.25, 4_000_000, 77)
        assert (run.completed, run.failed) == (1, 0)

    def test_what_attempts_have_noted(self, driver: Driver) -> None:
        """Each attempt has the numbers and texts that its usage brings, also a failed one."""
        driver.begin(0)
        driver.send(events.AttemptFailed(0, 1, AWAY, 7.5, None, Usage(notes={"rows": 2, "source": "crm"})))
        driver.begin(0, 2)
        driver.complete(0, usage=Usage(notes={"score": 0.5, "is_good": True}))
        run = driver.end()

        first, second = (dict(attempt.notes) for attempt in run.steps[0].attempts)
        assert (first, second) == ({"rows": 2, "source": "crm"}, {"score": 0.5, "is_good": True})
        numbers = driver.history.noted_numbers([run.run_id])
        assert [sorted((one.name, one.items, one.number) for one in of_run) for of_run in numbers] == [
            [("rows", 1, 2), ("score", 1, 0.5)]
        ]

    def test_failed_attempts(self, driver: Driver) -> None:
        """Each has its error, the repeated actions of a class, too, and the delay before the next attempt."""
        driver.begin(0)
        driver.send(events.AttemptRepeated(0, 1, Failure("ValueError", "first")))
        driver.send(events.AttemptFailed(0, 1, AWAY, 7.5, None, Usage(0.5)))
        driver.begin(0, 2)
        driver.fail(0, 2)
        run = driver.end("Failed")

        first, second = run.steps[0].attempts
        assert (first.state, first.cpu, second.state) == ("Retry", 0.5, "Failed")
        assert [(error.exception, error.retry_in) for error in first.errors] == [
            ("ValueError", None),
            ("ConnectionError", 7.5),
        ]
        assert [error[:3] for error in second.errors] == [(AWAY.exception, AWAY.message, AWAY.traceback)]
        assert (run.failed, run.error) == (1, "extract: ConnectionError: the warehouse is away")

    def test_an_attempt_that_waits(self, driver: Driver) -> None:
        """It is Running, with what it waits for; at its end it has how often it was not ready."""
        driver.begin(0)
        for asked in (1, 2):
            driver.send(events.AttemptWaits(0, 1, asked, f"{asked} of 3", driver.now, driver.seconds))
        driver.history.settle(driver.run_id, True)

        run = driver.load(lambda run: run.steps[0].attempts and run.steps[0].attempts[0].asked == 2)
        (attempt,) = run.steps[0].attempts
        assert (attempt.state, attempt.asked) == ("Running", 2)
        assert attempt.glimpse == "waits: 2 of 3, asked 2 times"
        driver.complete(0, 5)
        (attempt,) = driver.end().steps[0].attempts
        assert (attempt.state, attempt.asked, attempt.glimpse) == ("Completed", 2, "5")

    def test_an_attempt_that_waited_for_its_worker(self, driver: Driver) -> None:
        """It begins when it runs, while it runs and afterwards, and its duration counts from then."""
        driver.begin(0)
        began = driver.now
        driver.send(events.AttemptWaits(0, 1, 0, "waits for a worker", began, driver.seconds))
        driver.history.settle(driver.run_id, True)
        run = driver.load(lambda run: run.steps[0].attempts and run.steps[0].attempts[0].glimpse)
        assert (run.steps[0].attempts[0].state, run.steps[0].attempts[0].glimpse) == ("Running", "waits for a worker")
        driver.send(events.AttemptRuns(0, 1, began, driver.seconds))
        driver.history.settle(driver.run_id, True)

        run = driver.load(lambda run: run.steps[0].attempts and not run.steps[0].attempts[0].glimpse)
        assert (run.steps[0].attempts[0].state, run.steps[0].attempts[0].began) == ("Running", began)
        driver.complete(0)
        driver.begin(1)
        driver.send(events.AttemptFailed(1, 1, AWAY, 60.0, tick=driver.seconds - 0.5))
        done, failed = (step.attempts[0] for step in driver.end("Failed").steps)
        assert (done.state, done.began, done.duration) == ("Completed", began, 1.0)
        assert (failed.state, failed.duration) == ("Retry", 0.5), "`tick` is the end of a failed attempt"

    def test_tasks_that_fail_between_attempts(self, driver: Driver) -> None:
        """A run that was stopped during a delay, and a map over what is no list."""
        driver.begin(0)
        driver.send(events.AttemptFailed(0, 1, AWAY, 60.0))
        driver.fail(0, failure=Failure("RunCancelled", "the run was cancelled"))
        driver.fail(1)

        for task, exceptions in zip(
            driver.end("Failed").steps, (["ConnectionError", "RunCancelled"], ["ConnectionError"]), strict=True
        ):
            (attempt,) = task.attempts
            assert (attempt.state, [error.exception for error in attempt.errors]) == ("Failed", exceptions)

    def test_items(self, driver: Driver) -> None:
        """Each item has attempts of its own; the map has their number."""
        driver.send(events.MapOpened(0, 3, driver.now, driver.seconds))
        for item in range(2):
            driver.begin(0, item=item)
        driver.complete(0, 5, item=1)
        driver.fail(0, item=0)
        driver.send(events.TaskSkipped(0, "it needs item 0", 2))
        driver.send(events.MapEnded(0, Context(), AWAY, driver.now, driver.seconds))

        run = driver.end("Failed")
        task = run.steps[0]
        assert (task.count, task.state) == (3, "Failed")
        assert [task.items[item][0].state for item in range(3)] == ["Failed", "Completed", "Skipped"]
        assert task.items[1][0].glimpse == "5"
        assert (run.completed, run.failed) == (0, 1)

    def test_rounds(self, driver: Driver) -> None:
        """A map in rounds opens in each, with all items so far, and each of them knows its round."""
        for number, total in enumerate((1, 3)):
            driver.send(events.MapOpened(0, total, driver.now, driver.seconds, round=number))
            driver.begin(0, item=total - 1)
            driver.complete(0, number, item=total - 1)
        driver.send(events.TaskSkipped(0, "it needs item 0", 1))

        task = driver.end("Failed").steps[0]
        assert (task.count, [task.items[item][0].round for item in range(3)]) == (3, [0, 1, 1])
        assert task.attempts[0].round is None

    def test_paused_tasks(self, driver: Driver) -> None:
        """The last attempt of a task, or of an item, that waited for its next one is Paused, and so is an open map."""
        driver.begin(0)
        driver.send(events.AttemptFailed(0, 1, AWAY, 60.0))
        driver.send(events.MapOpened(1, 3, driver.now, driver.seconds))
        driver.begin(1, item=0)
        driver.complete(1, 5, item=0)
        driver.begin(1, item=1)
        driver.send(events.AttemptFailed(1, 1, AWAY, 60.0, 1))
        for task, item in ((1, 1), (1, None), (0, None)):
            driver.send(events.TaskPaused(task, "the run was paused", driver.now, driver.seconds, item))

        run = driver.end("Paused", "the run was paused")
        extract, load = run.steps
        (attempt,) = extract.attempts
        assert (attempt.state, attempt.glimpse) == ("Paused", "the run was paused")
        assert [error.exception for error in attempt.errors] == ["ConnectionError"]
        assert (load.state, load.count) == ("Paused", 3)
        assert [attempts[-1].state for attempts in load.items.values()] == ["Completed", "Paused"]
        assert (run.completed, run.failed) == (0, 0)

    def test_traces(self, driver: Driver) -> None:
        """The run has the id of its trace, and each attempt that of its span."""
        driver.send(events.Traced(-1, 0, "4bf92f35", "00f067aa"))
        driver.begin(0)
        driver.send(events.Traced(0, 1, "4bf92f35", "b7ad6b71"))
        driver.complete(0)
        driver.begin(1, item=2)
        driver.send(events.Traced(1, 1, "4bf92f35", "c8be7c82", 2))
        driver.end()

        run = driver.load()
        assert (run.trace, run.steps[0].attempts[0].span, run.steps[1].items[2][0].span) == (
            "4bf92f35",
            "b7ad6b71",
            "c8be7c82",
        )

    @pytest.mark.parametrize("source", ["checkpoint", "cache"])
    def test_restored_values(self, source: str, driver: Driver) -> None:
        """A value of a checkpoint and one of the cache have different states; a skipped task has its reason."""
        driver.send(events.TaskRestored(0, Context(5, 0, time=BEGAN), Context(), None, source))
        driver.send(events.TaskSkipped(1, "good_enough was False"))

        run = driver.end()
        ((restored,), (skipped,)) = (task.attempts for task in run.steps)
        assert restored.state == {"checkpoint": "Restored", "cache": "Cached"}[source]
        assert (skipped.state, skipped.glimpse) == ("Skipped", "good_enough was False")
        assert (run.restored, run.completed, run.skipped) == (1, 1, 1)

    @pytest.mark.parametrize("state", STATES)
    def test_the_end_of_a_run(self, state: str, history: Any) -> None:
        """Each way in which it ends has its state, with the reason."""
        run = Driver(history).end(state, "the reason")

        assert (run.state, run.reason, run.ended) == (state, "the reason", BEGAN + timedelta(seconds=1))

    def test_runs_at_the_same_time(self, history: Any) -> None:
        """The events of one do not reach the other; what a step has started is found by its parent."""
        parent = AttemptId("0123456789", 1, 2, 7)
        outer, inner = Driver(history), Driver(history, "abcdefghij", parent=parent)
        outer.begin(0)
        inner.begin(0)
        outer.complete(0, "one")
        inner.fail(0)
        inner.end("Failed")
        outer.end()

        assert (outer.load().steps[0].attempts[0].glimpse, outer.load().children) == ("'one'", ["abcdefghij"])
        assert (inner.load().state, inner.load().failed, inner.load().parent) == ("Failed", 1, parent)

    def test_output(self, driver: Driver) -> None:
        """Each attempt has its own, byte for byte and in order."""
        driver.begin(0)
        driver.begin(1)
        driver.send(events.AttemptOutput(0, 1, 1, b"one\n", driver.now))
        driver.send(events.AttemptOutput(1, 1, 1, b"other", driver.now))
        driver.send(events.AttemptOutput(0, 1, 2, b"\xff\x00two", driver.now))
        driver.complete(0)
        driver.complete(1)
        driver.end()

        chunks = [(chunk.stream, chunk.data) for chunk in driver.history.output(driver.run_id, "extract")]
        assert chunks == [(1, b"one\n"), (2, b"\xff\x00two")]
        assert b"".join(chunk.data for chunk in driver.history.output(driver.run_id, "load")) == b"other"
        extract, load = OutputKey(0, None, 1), OutputKey(1, None, 1)
        assert driver.history.output_sizes(driver.run_id) == {extract: 9, load: 5}
        tails = driver.history.output_tails(driver.run_id, {extract: 7, load: 100})
        assert [(chunk.key, chunk.data) for chunk in tails] == [
            (extract, b"e\n"),
            (extract, b"\xff\x00two"),
            (load, b"other"),
        ]

    def test_a_report(self, driver: Driver, tmp_path: Path) -> None:
        """A run is one HTML file, while it goes on, too."""
        driver.begin(0)
        driver.send(events.AttemptOutput(0, 1, 1, b"one\n", driver.now))
        driver.begin(1)
        driver.load(lambda run: run.steps[1].attempts)

        path = driver.history.report(driver.run_id, tmp_path / "run.html")

        page = path.read_text("utf-8")
        assert driver.run_id in page
        assert r"one\n" in page

    def test_inputs_of_a_failed_task(self, driver: Driver) -> None:
        """They are copied as they were."""
        driver.begin(1, previous=Context({"rows": [1, (2, 3)]}, 0), arguments={"day": BEGAN})
        driver.fail(1)
        driver.end("Failed")

        assert driver.history.value(driver.run_id, "load", "previous") == {"rows": [1, (2, 3)]}
        assert driver.history.value(driver.run_id, "load", "argument:day") == BEGAN
        assert {copy.document for copy in driver.history.copies(driver.run_id, documents=False)} == {b""}

    def test_unknown_events_and_runs_are_ignored(self, driver: Driver) -> None:
        """Those of a later version, and of a run whose beginning the history has not received."""
        driver.send(object())
        driver.history.record("elsewhere", events.TaskSkipped(0, "no reason"))

        assert driver.history.settle("elsewhere", True) is None
        assert driver.end().state == "Completed"

    def test_calls_of_a_durable_step(self, driver: Driver) -> None:
        """Those that were made, failed and run can be read, also with the attempt that they are of."""
        driver.begin(0)
        driver.call(1, "search", "'weather'")
        driver.end_call(1, "['sunny']")
        driver.call(2, "charge", "'a1'", depth=1)
        driver.end_call(2, failure=AWAY)
        driver.call(3, "send", "...")

        page = driver.calls("extract", lambda page: page.total == 3)
        made, failed, running = page.calls

        assert (made.number, made.shown, made.state, made.glimpse) == (1, "search('weather')", "Made", "['sunny']")
        assert (made.began, made.duration, made.depth, made.key) == (BEGAN + timedelta(seconds=2), 1.0, 0, "key 1")
        assert (failed.state, failed.exception, failed.message, failed.depth) == ("Failed", *AWAY_TEXTS, 1)
        assert (failed.traceback, failed.input, failed.identity) == (AWAY.traceback, '{"number": 1}', "shop:charge")
        assert (made.input, made.identity) == ("", "shop:search")
        assert (running.state, running.duration, running.glimpse) == ("Running", None, "")
        assert (page.total, driver.calls("load").calls) == (3, [])

        driver.send(events.AttemptFailed(0, 1, AWAY, 5.0))
        driver.begin(0, 2)
        driver.call(4, "send", "...", attempt=2)
        driver.end_call(4, attempt=2)

        page = driver.calls("extract", lambda page: page.calls[-1].state == "Made")
        assert [call.state for call in page.calls] == ["Made", "Failed", "Cut off", "Made"]
        assert [call.number for call in driver.calls("extract", attempt=2).calls] == [4]
        assert [call.number for call in driver.calls("extract", before=4, limit=2).calls] == [2, 3]
        pages = driver.history.all_calls(driver.run_id, 1)
        assert [(key, [call.number for call in page.calls], page.total) for key, page in pages.items()] == [
            ((0, None), [4], 4)
        ]

    def test_a_call_that_waits(self, driver: Driver) -> None:
        """Its row shows what it waits for, and how often it has asked, until it has ended."""
        driver.begin(0)
        driver.call(1, "ready", "'a1'")
        driver.send(events.CallWaits(0, 1, 1, 2, "1 of 3 files"))
        waiting = driver.calls("extract", lambda page: page.calls and page.calls[0].glimpse).calls[0]
        driver.end_call(1, "3")
        ended = driver.calls("extract", lambda page: page.calls[0].state == "Made").calls[0]

        assert (waiting.state, waiting.glimpse) == ("Running", "waits: 1 of 3 files, asked 2 times")
        assert (ended.glimpse, ended.duration) == ("3", 2.0)

    def test_calls_of_items(self, driver: Driver) -> None:
        """Each has numbers of its own. Those that run are cut off by the end of the run."""
        driver.send(events.MapOpened(0, 2, driver.now, driver.seconds))
        for item in range(2):
            driver.begin(0, item=item)
            driver.call(1, "search", "''", item=item)
        driver.end("Cancelled")

        assert [call.item for call in driver.calls("extract#1").calls] == [1]
        assert [call.state for call in driver.calls("extract#0").calls] == ["Cut off"]
        assert driver.calls("extract").total == 0
        assert list(driver.history.all_calls(driver.run_id)) == [(0, 0), (0, 1)]
        assert list(driver.history.all_calls(driver.run_id, items=[(0, 1), (1, 0)])) == [(0, 1)]
        assert driver.history.all_calls(driver.run_id, items=[]) == {}

    def test_many_calls(self, driver: Driver) -> None:
        """Of an attempt the first and the last ones are kept, and the number of all."""
        driver.begin(0)
        for number in range(7, 2_507):
            driver.call(number, "search", str(number))
            driver.end_call(number, str(number))

        page = driver.calls("extract", lambda page: page.calls and page.calls[-1].state == "Made", limit=None)
        numbers = [call.number for call in page.calls]

        assert page.total == 2_500
        assert numbers == [*range(7, 507), *range(2_007, 2_507)]
        assert [(call.arguments, call.glimpse) for call in page.calls] == [(str(one), str(one)) for one in numbers]
        assert [call.number for call in driver.calls("extract", before=2_000, limit=2).calls] == [505, 506]

    @pytest.mark.parametrize("text", ["naïve ☃ 𝄞", "'; DROP TABLE runs; --", "a\nb\x00c", "\ud800"], ids=ascii)
    def test_any_text(self, text: str, history: Any) -> None:
        """Names, messages and output may hold anything; lone surrogates may come back escaped."""
        driver = Driver(history, steps=[events.Planned(text, text, 0, text)], workflow_id=text)
        driver.begin(0, fallback=text)
        driver.send(events.AttemptOutput(0, 1, 1, text.encode(errors="surrogatepass"), driver.now))
        driver.fail(0, failure=Failure(text, text, text))
        run = driver.end("Failed")

        texts = {run.workflow_id, run.steps[0].name, run.steps[0].attempts[0].errors[0].message}
        assert texts == {text.encode(errors="backslashreplace").decode()}

    def test_runs_are_listed(self, history: Any) -> None:
        """The newest first, and by state and workflow."""
        for number, state in enumerate(STATES):
            workflow = "weekly" if number == 1 else "nightly"
            Driver(history, f"run-{number}", workflow, offset=10.0 * number).end(state)

        listed: Sequence[tuple[list[int], dict[str, Any]]] = (
            ([4, 3, 2, 1, 0], {}),
            ([4, 3], {"limit": 2}),
            ([2], {"state": "Cancelled"}),
            ([1], {"workflow": "weekly"}),
            ([4, 3, 2], {"since": BEGAN + timedelta(seconds=15)}),
            ([1, 0], {"before": BEGAN + timedelta(seconds=20)}),
            ([1], {"search": "EEKL"}),
            ([2], {"search": "run-2", "state": "Cancelled"}),
            *(([], {"search": text}) for text in ("%", "_", "\\", "'")),
        )
        for wanted, options in listed:
            assert [run.run_id for run in history.runs(**options)] == [f"run-{number}" for number in wanted], options
        assert history.summary("run-3").state == "Interrupted"
        recent = history.recent(["nightly", "monthly"], limit=2)
        assert {name: [run.run_id for run in runs] for name, runs in recent.items()} == {
            "nightly": ["run-4", "run-3"],
            "monthly": [],
        }

    def test_the_states_of_tasks(self, history: Any) -> None:
        """They are those of the whole run, which may still go on."""
        ended, running = Driver(history, "ended", "weekly"), Driver(history, "running", "nightly@day=3", offset=10.0)
        for driver in (ended, running):
            driver.begin(0)
            driver.complete(0)
        running.begin(1)
        ended.begin(1)
        ended.fail(1)
        ended.end("Failed")
        running.load(lambda run: run.steps[1].attempts)

        states = history.task_states(["ended", "running"])

        assert [[(task.name, task.state) for task in tasks] for tasks in states] == [
            [("extract", "Completed"), ("load", "Failed")],
            [("extract", "Completed"), ("load", "Running")],
        ]
        assert states[0][1].duration == ended.load().steps[1].duration
        assert states[1][1].duration is None

    def test_a_run_is_found_by_its_beginning_and_by_its_end(self, history: Any) -> None:
        """Four characters of its id are enough, if no other one begins so."""
        Driver(history, "aaaa1111").end("Failed")
        Driver(history, "aaaa2222", offset=10.0).end()

        assert history.load("last").run_id == "aaaa2222"
        assert history.load("failed").run_id == "aaaa1111"
        assert history.load("aaaa1").run_id == "aaaa1111"
        for wrong in ("aaaa", "bbbb"):
            with pytest.raises(NotInHistory):
                history.load(wrong)

    def test_a_run_is_found_by_its_workflow(self, history: Any) -> None:
        """The last one that began, the one before it or the last one that failed; with parameters, that which has them.

        An id, or the beginning of one, comes first.
        """
        runs = (
            ("first", "etl@day=2026-12-01,region=eu", "Completed"),
            ("second", "etl@day=2026-12-01,region=us", "Failed"),
            ("third", "etl@day=2026-12-02", "Completed"),
            ("fourth", "jobs:weekly", "Completed"),
            ("feed0001", "first", "Completed"),
            ("feed0002", "feed", "Completed"),
        )
        for number, (run_id, workflow, state) in enumerate(runs):
            Driver(history, run_id, workflow, offset=10.0 * number).end(state)

        for text, found in {
            "previous": "feed0001",
            "etl": "third",
            "last:etl": "third",
            "previous:etl": "second",
            "failed:etl": "second",
            "failed": "second",
            "etl@day=2026-12-01": "second",
            "etl@region=eu": "first",
            "etl@day=2026-12-01,region=eu": "first",
            "previous:etl@day=2026-12-01": "first",
            "jobs:weekly": "fourth",
            "nights": "feed0002",
            "first": "first",
            "last:first": "feed0001",
            "last:feed": "feed0002",
        }.items():
            assert history.summary(text).run_id == found, text
        for wrong, words in {
            "feed": "several ids begin with it: feed0001, feed0002. Pass more characters, or `last:feed`",
            "elt": "the beginning of an id needs 4 characters. Did you mean 'etl'?",
            "Failed": "no id begins so. Did you mean 'failed'?",
            "weekly": "Did you mean 'jobs:weekly'?",
            "failed:elt": "no workflow has this name. Did you mean 'failed:etl'?",
            "faild:etl": "Did you mean 'failed:etl'?",
            "failed:jobs:weekly": "no run of 'jobs:weekly' has failed",
            "previous:jobs:weekly": "'jobs:weekly' has no earlier run",
            "etl@dya=3": "no run of 'etl' has the parameter 'dya'. Did you mean 'day'?",
            "etl@limit=3": "no run of 'etl' has the parameter 'limit'. Its parameters: day, region",
            "etl@day=2026-12-04": "no run of 'etl' has day=2026-12-04. Did you mean '2026-12-0",
            "failed:etl@region=eu": "no run of 'etl' with these parameters has failed",
        }.items():
            with pytest.raises(NotInHistory, match=re.escape(words)):
                history.load(wrong)

    def test_runs_are_forgotten(self, history: Any) -> None:
        """But none that is still running."""
        ended, running = Driver(history), Driver(history, "abcdefghij")
        ended.begin(0)
        ended.complete(0)
        ended.end()

        with pytest.raises(NotInHistory):
            history.forget(running.run_id, ended.run_id)
        assert history.forget(ended.run_id) == 1

        assert [run.run_id for run in history.runs()] == [running.run_id]
        with pytest.raises(NotInHistory):
            history.load(ended.run_id)
