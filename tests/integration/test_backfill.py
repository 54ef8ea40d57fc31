"""`dotflow backfill`: a run for each day of a range, by what the last run of that day has become."""

import json
import signal
import uuid
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dotflow import Control, DotFlow, serve
from dotflow.cli.command import Exit
from dotflow.cli.commands.backfill import run_backfill
from dotflow.cli.storages import STORAGE_ARGUMENTS
from dotflow.core.steps import resolve
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import HistoryPostgres, HistorySQLite
from dotflow.records.record import RunSummary
from tests.histories import Histories
from tests.integration.children import Command, End, Scripts
from tests.integration.terminals import Terminal

AnyHistory = HistorySQLite | HistoryPostgres

pytestmark = pytest.mark.databases("sqlite", "postgres")

JOBS = """
import os, signal
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import ExecutorThread, LogDefault, SchedulerCron, StorageFile
from dotflow import Secret, Setting

def note(what):
    with Path("done").open("a") as file:
        file.write(f"{what} ")

@action
def fetch(day: date):
    note(f"fetch:{day:%d}")
    return day.day

@action
def load(fetch, day: date):
    if Path(f"broken-{fetch}").exists():
        raise ValueError("the warehouse is away")
    if Path(f"killed-{fetch}").exists():
        Path(f"killed-{fetch}").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    note(f"load:{day:%d}")

@action
def spend(fetch, budget: int):
    load(fetch, date(2026, 11, fetch))
    note(f"spend:{budget}")

def config():
    return Config(storage=StorageFile("values"), log=LogDefault(output="none"), executor=ExecutorThread())

nightly = DotFlow(config(), workflow_id="nightly", params={"day": ..., "region": "eu"})
nightly.task.add(fetch)
nightly.task.add(load)

hidden = DotFlow(config(), workflow_id="hidden", params={"key": Secret("KEY"), "day": ...})
hidden.task.add(fetch)

scheduled = config()
scheduled.scheduler = SchedulerCron("* * * * *", params={"day": date(2026, 12, 1)})
ticking = DotFlow(scheduled, workflow_id="ticking", params={"day": ...})
ticking.task.add(fetch)

class Shade(Enum):
    BLUE = "blue"

@action
def paint(shade: Shade, is_dry: bool, at: datetime): ...

painted = DotFlow(config(), workflow_id="painted", params={"shade": ..., "is_dry": ..., "at": ...})
painted.task.add(paint)

costly = DotFlow(config(), workflow_id="costly", params={"day": ..., "budget": Setting(50)})
costly.task.add([fetch, spend])

def of_day(day="today"):
    return nightly
"""


@pytest.fixture
def jobs(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the folder of the commands."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"jobs_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(JOBS)
    return name


@pytest.fixture
def history(jobs: str, histories: Histories) -> Any:
    """The history where the commands look for it."""
    return histories.open_default()


@pytest.fixture
def workflow(jobs: str, history: AnyHistory) -> DotFlow:
    """The workflow of the module, as a program has it."""
    found: DotFlow = resolve(f"{jobs}:nightly", list_actions=False)
    found.config.history = history
    return found


def then(end: End) -> list[tuple[str, str]]:
    """The days of the table, and what becomes of each."""
    rows = [line.split("  ") for line in end.out.splitlines() if line.startswith("2026-")]
    return [(row[0], row[-1].strip().partition(" as ")[0]) for row in rows]


def states(history: AnyHistory) -> dict[str, TypeRunState]:
    """The state of the newest run of each name."""
    return {run.workflow_id: run.state for run in reversed(history.runs(limit=None))}


def done(folder: Path) -> list[str]:
    """What the steps have noted."""
    return (folder / "done").read_text().split()


@pytest.mark.processes
@pytest.mark.databases("sqlite")  # on Postgres, one second after a kill the run is still Running
def test_of_30_days_the_same_command_runs_the_failed_and_the_killed_one(
    scripts: Scripts, command: Command, jobs: str, history: AnyHistory, tmp_path: Path
) -> None:
    """One day fails, and the process of another one is killed: exactly these two runs follow, from where they stopped.

    What --dry-run prints before is what the command then does.
    """
    arguments = ("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01..2026-11-30", "--max-runs", "1")
    (tmp_path / "broken-17").touch()
    (tmp_path / "killed-30").touch()
    assert scripts.command(*arguments, "--once").end(60).code == -signal.SIGKILL
    assert len(history.runs(limit=None)) == 30
    (tmp_path / "broken-17").unlink()
    (tmp_path / "done").unlink()

    dry = command(*arguments, "--dry-run")
    assert then(dry) == [(f"2026-11-{day:02}", "resumed" if day in (17, 30) else "skipped") for day in range(1, 31)]
    assert dry.out.endswith("30 runs: 28 skipped, 2 resumed.\n")
    end = command(*arguments, "--once")
    assert end.code == 0, end.err
    assert then(end) == then(dry)
    assert end.out.endswith("30 runs: 30 completed.\n")
    assert sorted(done(tmp_path)) == ["load:17", "load:30"]
    assert len(history.runs(limit=None)) == 32
    assert set(states(history).values()) == {TypeRunState.COMPLETED}
    assert {run.trigger for run in history.runs(limit=2)} == {"resume", "take-over"}

    again = command(*arguments, "--once")
    assert (again.code, len(history.runs(limit=None))) == (0, 32)
    assert again.out.endswith("30 runs: 30 skipped.\n30 runs: 30 completed.\n")


def test_a_dry_run_writes_nothing(command: Command, jobs: str, tmp_path: Path) -> None:
    """There is no history afterwards that was not there before."""
    end = command("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01..2026-11-03", "--dry-run")

    assert (end.code, end.err) == (0, "This was a dry run: nothing was written.\n")
    assert end.out == (
        "day         Last run  Would be\n"
        "2026-11-01  · none    queued\n"
        "2026-11-02  · none    queued\n"
        "2026-11-03  · none    queued\n"
        "3 runs: 3 queued.\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".py") in ([], ["__pycache__"])


def test_the_state_of_the_last_run_decides(
    command: Command, jobs: str, workflow: DotFlow, history: AnyHistory, tmp_path: Path
) -> None:
    """Whoever has begun it: a day by hand has the name of a day of a backfill."""
    control = Control(history)
    (tmp_path / "broken-2").touch()
    for day in (1, 2):
        assert command("start", "-w", f"{jobs}:nightly", "--param", f"day=2026-11-0{day}").code == day - 1
    control.pause(workflow.submit({"day": date(2026, 11, 3)}))
    control.cancel(workflow.submit({"day": date(2026, 11, 4)}))
    waiting = workflow.submit({"day": date(2026, 11, 5)})

    end = command("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01..2026-11-06")
    assert end.code == 0
    assert [what for _, what in then(end)] == ["skipped", *["resumed"] * 3, "left alone", "queued"]
    assert "6 runs: 1 skipped, 3 resumed, 1 left alone, 1 queued." in end.out
    assert end.err == (
        f"No process serves 'nightly': the runs wait. Start `dotflow serve {jobs}:nightly`, "
        "or run this command again with --once.\n"
    )
    assert states(history)["nightly@day=2026-11-02"] is TypeRunState.QUEUED
    assert history.runs(state="queued", workflow="nightly@day=2026-11-05")[0].run_id == waiting


def test_a_run_that_was_replaced_is_not_the_last_one(command: Command, jobs: str, history: AnyHistory) -> None:
    """It waited while another one of its day began, so its row may be newer: the other one has the values."""
    for _ in range(2):
        command("start", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01")
    newest, other = history.runs()
    values = (other.run_id, newest.run_id)
    superseded = "UPDATE runs SET state = 'Cancelled', superseded = ? WHERE run_id = ?"
    history.database.transact(lambda connection: connection.execute(superseded, values))

    end = command("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01")
    assert (end.code, then(end)) == (0, [("2026-11-01", "skipped")])


def test_submissions_come_before_a_backfill(command: Command, jobs: str, workflow: DotFlow) -> None:
    """Its priority is below that of what people and schedules submit."""
    command("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01,2026-11-02")
    command("submit", "nightly", "--param", "day=2026-11-28")

    days = [str(run.params["day"]) for run in serve(workflow, once=True, max_runs=1) if run.params]
    assert days == ["2026-11-28", "2026-11-01", "2026-11-02"]


def test_submissions_come_before_a_resumed_run(command: Command, jobs: str, workflow: DotFlow, tmp_path: Path) -> None:
    """What a backfill resumes has the priority of what it queues."""
    (tmp_path / "broken-1").touch()
    command("start", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01")
    (tmp_path / "broken-1").unlink()
    command("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01")
    command("submit", "nightly", "--param", "day=2026-11-28")

    days = [str(run.params["day"]) for run in serve(workflow, once=True, max_runs=1) if run.params]
    assert days == ["2026-11-28", "2026-11-01"]


def test_the_pause_of_the_workflow_is_named(command: Command, jobs: str, workflow: DotFlow) -> None:
    """Another server or --once would not help."""
    workflow.submit({"day": date(2026, 11, 1)})
    Control(workflow).pause_workflow("nightly", by="anna")
    arguments = ("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01..2026-11-02")

    queued, once = command(*arguments), command(*arguments, "--once")
    assert (queued.code, once.code) == (0, 3)
    for end in (queued, once):
        assert end.err.startswith("The workflow 'nightly' is paused by anna since ")
        assert "its queued runs wait. `dotflow resume --workflow nightly` ends the pause.\n" in end.err
        assert "No process serves" not in end.err


@pytest.mark.databases("sqlite")
def test_the_history_is_read_once_for_all_names(jobs: str, workflow: DotFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened anew each time, and a range may have 10,000 names."""
    read: list[int] = []
    recent = HistorySQLite.recent

    def counted(self: HistorySQLite, workflows: Sequence[str], limit: int = 20) -> dict[str, list[RunSummary]]:
        read.append(len(workflows))
        return recent(self, workflows, limit)

    monkeypatch.setattr(HistorySQLite, "recent", counted)
    options = {"workflow": f"{jobs}:nightly", "param": ("day=2026-11-01..2026-11-30",), "dry_run": True, "again": False}
    assert run_backfill({**dict.fromkeys(("storage", *STORAGE_ARGUMENTS)), **options}) is Exit.COMPLETED
    assert read == [30]


def test_values_are_shown_as_in_the_ids(command: Command, jobs: str) -> None:
    """So what is shown can be passed as --param."""
    params = ("shade=BLUE", "is_dry=false", "at=2026-11-01T00:00Z")
    end = command(
        *("backfill", "-w", f"{jobs}:painted", "--dry-run", *(part for text in params for part in ("--param", text)))
    )

    assert end.out.splitlines()[1].split()[:3] == ["blue", "false", "2026-11-01T00:00:00+00:00"]


def test_again_begins_completed_days_anew(command: Command, jobs: str, history: AnyHistory, tmp_path: Path) -> None:
    """Their finished steps run again; no checkpoint of the old run is restored."""
    arguments = ("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01", "--once")
    command(*arguments)
    end = command(*arguments, "--again")

    assert (end.code, then(end)) == (0, [("2026-11-01", "queued")])
    assert done(tmp_path) == ["fetch:01", "load:01"] * 2


def test_once_runs_its_days_and_nothing_else(command: Command, jobs: str, history: AnyHistory, tmp_path: Path) -> None:
    """Neither the workflow's own schedule, whose firing is due, nor what others have submitted."""
    assert command("serve", f"{jobs}:ticking", "--once").code == 0
    due = "UPDATE schedules SET settled = settled - 3600000000"
    history.database.transact(lambda connection: connection.execute(due))
    command("submit", "ticking", "--param", "day=2026-11-28")

    end = command("backfill", "-w", f"{jobs}:ticking", "--param", "day=2026-11-01", "--once")

    assert (end.code, done(tmp_path)) == (0, ["fetch:01"])
    assert states(history) == {
        "ticking@day=2026-11-28": TypeRunState.QUEUED,
        "ticking@day=2026-11-01": TypeRunState.COMPLETED,
    }


def test_the_exit_code_of_once(command: Command, jobs: str, workflow: DotFlow, tmp_path: Path) -> None:
    """1 if a day has failed, 3 if one waits."""
    arguments = ("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01..2026-11-02", "--once")
    workflow.submit({"day": date(2026, 11, 1)}, at="1h")
    waiting = command(*arguments)
    assert (waiting.code, waiting.out.splitlines()[-1]) == (3, "2 runs: 1 queued, 1 completed.")

    (tmp_path / "broken-3").touch()
    failed = command(*arguments[:-2], "day=2026-11-01..2026-11-03", "--once")
    assert (failed.code, failed.out.splitlines()[-1]) == (1, "3 runs: 1 queued, 1 completed, 1 failed.")


def test_all_combinations_of_several_parameters(command: Command, jobs: str, history: AnyHistory) -> None:
    """Each has a column of the table, and a name of its own."""
    end = command(
        *("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01..2026-11-02", "--param", "region=eu,us")
    )

    assert end.out.splitlines()[0].split() == ["day", "region", "Last", "run", "Now"]
    assert sorted(states(history)) == [
        f"nightly@day=2026-11-0{day}{region}" for day in (1, 2) for region in ("", ",region=us")
    ]


def test_a_setting_has_one_value(command: Command, jobs: str, history: AnyHistory) -> None:
    """All days have it; several values are refused, as they would be several runs of one name."""
    costly = ("backfill", "-w", f"{jobs}:costly", "--param", "day=2026-11-01..2026-11-02")

    several = command(*costly, "--param", "budget=70,80")
    assert several.code == 2
    assert "Can't use --param budget=70,80: 'budget' is an int" in several.err

    one = command(*costly, "--param", "budget=70")
    assert one.code == 0, one.err
    assert sorted(states(history)) == ["costly@day=2026-11-01", "costly@day=2026-11-02"]
    assert {run.params["budget"] for run in history.runs() if run.params} == {70}


@pytest.mark.processes
@pytest.mark.databases("sqlite")  # on Postgres, one second after a kill the run is still Running
def test_what_goes_on_has_the_new_setting(
    scripts: Scripts, command: Command, jobs: str, history: AnyHistory, tmp_path: Path
) -> None:
    """A failed day and a killed one continue with the given budget; without one they keep their own."""
    arguments = ("backfill", "-w", f"{jobs}:costly", "--param", "day=2026-11-01..2026-11-02", "--max-runs", "1")
    (tmp_path / "broken-1").touch()
    (tmp_path / "killed-2").touch()
    assert scripts.command(*arguments, "--param", "budget=60", "--once").end(60).code == -signal.SIGKILL

    end = command(*arguments, "--param", "budget=100")
    assert end.out.endswith("2 runs: 2 resumed.\n"), end.err
    assert {run.params["budget"] for run in history.runs(limit=2) if run.params} == {100}
    assert command(*arguments, "--once").code == Exit.FAILED
    (tmp_path / "broken-1").unlink()
    end = command(*arguments, "--once")
    assert end.code == 0, end.err
    assert done(tmp_path) == ["fetch:01", "fetch:02", "load:02", "spend:100", "load:01", "spend:100"]
    had = [(run.params["day"].day, run.params["budget"]) for run in history.runs(limit=None) if run.params]
    assert sorted(had) == [(1, 60), (1, 100), (1, 100), (2, 60), (2, 100)]


def test_a_start_that_takes_a_resumed_run_has_its_own_setting(
    command: Command, jobs: str, history: AnyHistory, tmp_path: Path
) -> None:
    """The history has the budget with which the run goes on, and not the one with which it was queued."""
    (tmp_path / "broken-1").touch()
    backfill = ("backfill", "-w", f"{jobs}:costly", "--param", "day=2026-11-01")
    assert command(*backfill, "--once").code == Exit.FAILED
    assert command(*backfill).out.endswith("1 run: 1 resumed.\n")
    (queued,) = history.runs(limit=1)
    (tmp_path / "broken-1").unlink()

    start = ("start", "-w", f"{jobs}:costly", "--param", "day=2026-11-01", "--param", "budget=100", "--resume")
    end = command(*start)
    assert end.code == 0, end.err
    (run,) = history.runs(limit=1)
    assert done(tmp_path)[-1] == "spend:100"
    assert (run.run_id, run.params) == (queued.run_id, {"day": date(2026, 11, 1), "budget": 100})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "What to backfill? Pass the values of a parameter: --param day=2026-11-01..2026-11-14."),
        (("day=2026-11-02..2026-11-01",), "it ends before it begins. Write the earlier end first."),
        (("day=2026-11-31",), "'2026-11-31' is not accepted. Write a date, such as 2026-11-25."),
        (("day=0001-01-01..9999-12-31",), "these are 3,652,059 values, of 10,000 at most. Split them up."),
        (
            ("day=2026-01-01..2026-12-31", f"region={','.join(map(str, range(100)))}"),
            "Can't use these --param together: these are 36,500 values, of 10,000 at most. Split them up.",
        ),
        (("region=eu",), "The run needs 'day'."),
        (("dya=2026-11-01",), "The workflow has no parameter 'dya'. Did you mean 'day'?"),
    ],
)
def test_what_is_refused_writes_nothing(
    command: Command, jobs: str, tmp_path: Path, arguments: Sequence[str], error: str
) -> None:
    """The error has what to write instead."""
    params = [part for text in arguments for part in ("--param", text)]
    end = command("backfill", "-w", f"{jobs}:nightly", *params)

    assert (end.code, end.out) == (2, "")
    assert error in end.err
    assert not (tmp_path / ".output").exists()


def test_a_secret_is_refused_before_it_is_shown(command: Command, jobs: str) -> None:
    """Neither the table nor the queue has it."""
    end = command("backfill", "-w", f"{jobs}:hidden", "--param", "key=hunter2hunter2", "--param", "day=2026-11-01")

    assert end.code == 2
    assert "hunter2" not in end.out + end.err
    assert "no secret" in end.err


def test_a_function_that_takes_the_day_is_refused(command: Command, jobs: str) -> None:
    """Its runs could be found by no server."""
    end = command("backfill", "-w", f"{jobs}:of_day", "--param", "zone=1")

    assert end.code == 2
    assert "The workflow has no parameter 'zone'. Declare it: DotFlow(params={...})." in end.err


class TestRunsBy:
    def test_missing_and_failed_days_are_seen(
        self, command: Command, jobs: str, history: AnyHistory, tmp_path: Path
    ) -> None:
        """Each day has a sign; below, each state has its days, as a backfill takes them."""
        (tmp_path / "broken-3").touch()
        days = "day=2020-11-01..2020-11-05,2020-11-08,2020-11-10"
        command("backfill", "-w", f"{jobs}:nightly", "--param", days, "--once")
        command("submit", "nightly", "--param", "day=2020-11-11")

        end = command("runs", "--workflow", "nightly", "--by", "day")
        assert end.out == (
            "nightly by day: 2020-11-01 to 2020-11-11\n"
            "\n"
            "         Mo   Tu   We   Th   Fr   Sa   Su\n"
            "Nov 2020                                1 ✓\n"
            "          2 ✓  3 ✗  4 ✓  5 ✓  6 ○  7 ○  8 ✓\n"
            "          9 ○ 10 ✓ 11 …\n"
            "\n"
            "✓ Completed      6\n"
            "… Queued         1  2020-11-11\n"
            "✗ Failed         1  2020-11-03\n"
            "○ Missing        3  2020-11-06..2020-11-07, 2020-11-09\n"
        )
        lines = command("runs", "--workflow", "nightly", "--by", "day", "--json").out.splitlines()
        missing = [value["value"] for value in map(json.loads, lines) if value["state"] is None]
        assert missing == ["2020-11-06", "2020-11-07", "2020-11-09"]

    def test_a_legend_fits_the_terminal(
        self, scripts: Scripts, command: Command, jobs: str, history: AnyHistory, terminal: Terminal
    ) -> None:
        """Its lines go on below their beginning."""
        command("backfill", "-w", f"{jobs}:nightly", "--param", "day=2020-11-01..2020-11-29/2d")

        with scripts.command("runs", "--workflow", "nightly", "--by", "day", terminal=terminal.descriptor) as script:
            assert script.end().code == 0
        lines = terminal.see(lambda lines: any("2020-11-28" in line for line in lines))
        queued = next(index for index, line in enumerate(lines) if line.startswith("… Queued"))
        assert lines[queued].endswith("2020-11-07, 2020-11-09,")
        assert lines[queued + 1] == " " * 20 + "2020-11-11, 2020-11-13, 2020-11-15, 2020-11-17, 2020-11-19,"

    def test_another_parameter_is_a_list(self, command: Command, jobs: str, history: AnyHistory) -> None:
        """Each value is a line, with the run to look at."""
        command("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01", "--param", "region=eu,us", "--once")

        head, *lines = command("runs", "--workflow", "nightly", "--by", "region").out.splitlines()
        assert head.split() == ["region", "Run", "Began", "State"]
        assert [(line.split()[0], line.split()[-1]) for line in lines] == [("eu", "Completed"), ("us", "Completed")]

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (("--by", "day"), "--by day needs a workflow. Add --workflow ID."),
            (
                ("--by", "day", "--workflow", "nightly", "--failed"),
                "Can't use --failed with --by, which shows all states. Remove --failed.",
            ),
            (
                ("--by", "day", "--workflow", "nightly", "-n", "3"),
                "Can't use -n with --by, which counts all runs. Remove -n.",
            ),
            (
                ("--by", "dya", "--workflow", "nightly"),
                "No run of 'nightly' has the parameter 'dya'. Their parameters: day, region.",
            ),
        ],
    )
    def test_what_it_can_not_show_is_in_a_line(
        self, command: Command, jobs: str, history: AnyHistory, arguments: Sequence[str], error: str
    ) -> None:
        """The names of the parameters are in it."""
        command("backfill", "-w", f"{jobs}:nightly", "--param", "day=2026-11-01")

        end = command("runs", *arguments)
        assert (end.code, end.out) == (2, "")
        assert error in end.err
