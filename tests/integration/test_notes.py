"""dotflow.note: numbers and short texts of an attempt are in the history, however the attempt was made."""

import asyncio
import contextvars
import fractions
import os
import sqlite3
import threading
from array import array
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import dotflow
from dotflow import Config, DotFlow, Secret, action
from dotflow.cli.main import main
from dotflow.errors import InvalidArgument
from dotflow.providers import (
    ExecutorAsync,
    ExecutorProcess,
    ExecutorThread,
    HistoryPostgres,
    HistorySQLite,
    LogDefault,
)
from dotflow.records.record import RunRecord
from dotflow.report.document import document
from dotflow.worker.notes import MAX_NOTES, NOTED

AnyHistory = HistorySQLite | HistoryPostgres

#: How a workflow runs: the mode, and the executor.
WAYS = [
    pytest.param("sequential", None, id="sequential"),
    pytest.param("parallel", lambda: ExecutorThread(2), id="threads"),
    pytest.param("parallel", ExecutorAsync, id="async"),
    pytest.param("parallel", lambda: ExecutorProcess(2, "fork"), id="fork", marks=pytest.mark.processes),
    pytest.param("parallel", lambda: ExecutorProcess(2, "forkserver"), id="forkserver", marks=pytest.mark.processes),
]


def workflow_of(history: AnyHistory, executor: Callable[[], Any] | None = None) -> DotFlow:
    more = {} if executor is None else {"executor": executor()}
    return DotFlow(Config(history=history, log=LogDefault(output="none"), **more), workflow_id="nightly")


def noted(run: RunRecord) -> list[list[dict[str, Any]]]:
    """What the attempts of each task have noted."""
    return [[dict(attempt.notes) for attempt in task.all_attempts] for task in run.steps]


def of_one(history: AnyHistory, step: Callable[..., Any]) -> dict[str, Any]:
    """Runs a step, and returns what it has noted."""
    workflow = workflow_of(history)
    workflow.task.add(action(step), name="step")
    workflow.start()
    ((notes,),) = noted(history.load())
    return notes


@pytest.mark.databases("sqlite", "postgres")
@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize(("mode", "executor"), WAYS)
def test_each_attempt_has_its_notes(history: AnyHistory, mode: str, executor: Any, tmp_path: Path) -> None:
    """Those that fail, time out or wait, coroutines, and each item of a map; all by task, item and attempt."""

    def fails_once() -> int:
        dotflow.note(rows=1, source="crm")
        if not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise ValueError("no")
        dotflow.note(rows=2)
        return 1

    async def in_a_loop() -> int:
        dotflow.note(before=1)
        await asyncio.sleep(0)
        await asyncio.to_thread(dotflow.note, after=2)
        return 1

    async def too_long() -> None:
        assert not (tmp_path / "began").exists()
        dotflow.note(began=True)
        (tmp_path / "began").touch()
        await asyncio.sleep(60)

    def waits() -> int | None:
        looks = len(list(tmp_path.glob("look*")))
        (tmp_path / f"look{looks}").touch()
        dotflow.note(**{f"look{looks}": looks})
        return looks or None

    def of_item(item: int) -> int:
        dotflow.note(value=item * 0.5)
        return item

    workflow = workflow_of(history, executor)
    workflow.task.add(action(retry=2, retry_delay=0.001)(fails_once), name="fails")
    workflow.task.add(action(in_a_loop), name="loop")
    workflow.task.add(action(poll=0.001)(waits), name="waits")
    workflow.task.add(action(of_item), name="items", each={"item": [1, 2, 3]})
    begins_in_time = action(timeout=0.05, retry=100, retry_delay=0, retry_on=TimeoutError)  # at last, on a busy machine
    workflow.task.add(begins_in_time(too_long), name="long")
    workflow.start(mode=mode, keep_going=True)

    *found, late = noted(history.load())
    assert [*found, [notes for notes in late if notes]] == [
        [{"rows": 1, "source": "crm"}, {"rows": 2, "source": "crm"}],
        [{"before": 1, "after": 2}],
        [{"look0": 0, "look1": 1}],
        [{}, {"value": 0.5}, {"value": 1.0}, {"value": 1.5}],
        [{"began": True}],
    ]
    assert not NOTED


@pytest.mark.databases("sqlite", "postgres")
def test_notes_of_a_value_that_cannot_be_sent(history: AnyHistory) -> None:
    """The attempt fails, since its worker can't pickle the value; what it noted is there."""

    def returns_a_lock() -> Any:
        dotflow.note(rows=1)
        return threading.Lock()

    workflow = workflow_of(history, lambda: ExecutorProcess(1))
    workflow.task.add(action(returns_a_lock), name="lock")
    workflow.start(mode="parallel")

    assert noted(history.load()) == [[{"rows": 1}]]


@pytest.mark.databases("sqlite", "postgres")
def test_a_thread_of_a_step_notes_within_its_context(history: AnyHistory) -> None:
    """A copy of the step's context belongs to the attempt; a bare thread belongs to none."""

    def step() -> int:
        context = contextvars.copy_context()
        for target in (lambda: context.run(dotflow.note, copied=1), lambda: dotflow.note(bare=1)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        return 1

    assert of_one(history, step) == {"copied": 1}


def test_outside_of_a_run_nothing_is_recorded() -> None:
    """A step can be called as a plain function, and a run without a history records nothing."""

    @action
    def step() -> int:
        dotflow.note(rows=1)
        return 1

    assert step() == 1
    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add(step)
    workflow.start()

    assert workflow.result_storage() == [1]
    assert not NOTED


@pytest.mark.exhaustive
@pytest.mark.databases("sqlite", "postgres")
def test_numbers_of_any_kind(history: AnyHistory) -> None:
    """Those of NumPy become plain ones. What JSON has no number for is a text, and fails no step."""
    import numpy  # starts threads

    def step() -> int:
        dotflow.note(a=numpy.int64(7), b=numpy.float32(0.5), c=numpy.bool_(True), d=numpy.array(3.5))
        dotflow.note(e=fractions.Fraction(1, 4), f=Decimal("0.5"), g=2**70, h=10**400, i=-(10**400))
        dotflow.note(j=float("nan"), k=float("-inf"), l=True, m="\ud800é", n=-(2**62))
        return 1

    assert of_one(history, step) == {
        "a": 7, "b": 0.5, "c": True, "d": 3.5, "e": 0.25, "f": 0.5, "g": 2.0**70, "h": "inf", "i": "-inf",
        "j": "nan", "k": "-inf", "l": True, "m": r"\ud800é", "n": -(2**62),
    }  # fmt: skip


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, b"text", 1j, array("i", [1])])
def test_what_is_no_number_or_text_is_refused(value: Any) -> None:
    """Outside of a run, too, so that tests of a step find it."""
    with pytest.raises(InvalidArgument, match="rows"):
        dotflow.note(rows=value)


@pytest.mark.databases("sqlite", "postgres")
def test_of_more_names_than_an_attempt_may_have_the_first_are_kept(history: AnyHistory) -> None:
    """The step completes, a known name may change, and a note names what is left out."""

    def step() -> int:
        dotflow.note(**{f"name{number}": number for number in range(MAX_NOTES)})
        dotflow.note(one=1)
        dotflow.note(two=2, name0=-1)
        return 1

    notes = of_one(history, step)
    assert notes.pop("…") == "'one' and later names are left out: an attempt has up to 100"
    assert len(notes) == MAX_NOTES
    assert notes["name0"] == -1


@pytest.mark.databases("sqlite", "postgres")
def test_a_long_text_and_a_long_name_are_cut(history: AnyHistory) -> None:
    """The step completes, and the text shows how long it was."""

    def step() -> int:
        dotflow.note(text="x\n" * 600, **{"y" * 101: 1})
        return 1

    assert of_one(history, step) == {"text": "x\n" * 500 + "… (1,200 characters)", "y" * 100 + "…": 1}


def test_secrets_are_masked(tmp_path: Path, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch) -> None:
    """In names and in texts, and nowhere in the file."""
    monkeypatch.setenv("WAREHOUSE", "s3cr3t-token")

    def step(token: str = Secret("WAREHOUSE")) -> int:  # type: ignore[assignment]
        dotflow.note(**{"url": f"https://{token}@host", token: 1, "long": "x" * 995 + token})
        return 1

    long = "x" * 995 + "***"
    assert of_one(history, step) == {"url": "https://***@host", "***": 1, "long": long}
    assert not any(b"s3cr3t" in path.read_bytes() for path in tmp_path.glob("history.db*"))


def test_show_the_document_and_sql_have_them(history: HistorySQLite, capfd: pytest.CaptureFixture[str]) -> None:
    """Of a task what it noted last, of a map the mean of its items; SQL finds each."""

    def load(item: int) -> int:
        dotflow.note(rows=item, name=f"part {item}")
        return item

    def score() -> int:
        dotflow.note(score=0.93)
        return 1

    workflow = workflow_of(history)
    workflow.task.add(action(load), name="load", each={"item": [1, 2, 6]})
    workflow.task.add(action(score), name="score")
    run = workflow.start()

    tasks = document(history.load())["tasks"]
    assert tasks[0]["notes"] == {"rows": {"items": 3, "min": 1, "mean": 3.0, "max": 6}}
    assert tasks[1]["notes"] == tasks[1]["attempts"][0]["notes"] == {"score": 0.93}
    assert [tuple(number) for number in history.noted_numbers([run.run_id])[0]] == [
        (0, "rows", 3, 3.0),
        (1, "score", 1, 0.93),
    ]
    for step, text in (("load", "rows 3 on average"), ("load#2", "name part 6, rows 6"), ("score", "score 0.93")):
        assert main(["show", "last", step, "--history", str(history.path)]) == 0
        assert f"noted    {text}" in capfd.readouterr().out
    with sqlite3.connect(history.path) as database:
        rows = database.execute("SELECT step, item, name, value, number FROM note_list ORDER BY 1, 2, 3").fetchall()
    assert rows[:2] == [("load", 0, "name", '"part 1"', None), ("load", 0, "rows", "1", 1.0)]
    assert rows[-1] == ("score", None, "score", "0.93", 0.93)
    database.close()


def test_forgotten_runs_leave_no_notes(history: HistorySQLite) -> None:
    """They go with their run."""
    of_one(history, lambda: dotflow.note(rows=1))
    history.forget("last")

    database = sqlite3.connect(history.path)
    assert database.execute("SELECT COUNT(*) FROM task_notes").fetchall() == [(0,)]
    database.close()


def test_a_forged_note_is_refused(history: HistorySQLite) -> None:
    """What the page can't draw is no note of dotflow's."""
    of_one(history, lambda: dotflow.note(rows=1))
    for value in ("NaN", "[1]", "null", "1e999", "{"):
        database = sqlite3.connect(history.path)
        with database:
            database.execute("UPDATE task_notes SET value = ?", (value,))
        database.close()
        with pytest.raises(dotflow.errors.HistoryError, match="it is damaged"):
            history.load()


@pytest.mark.databases("sqlite", "postgres")
def test_a_child_process_of_a_step_notes_nothing(history: AnyHistory) -> None:
    """Only the process that makes the attempt does, and the child goes on."""

    def step() -> int:
        child = os.fork()
        if child == 0:
            dotflow.note(child=1)
            os._exit(0)
        dotflow.note(parent=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return 1

    assert of_one(history, step) == {"parent": 0}
