"""`dotflow submit`, `cancel`, `pause`, `resume` and `serve --once`, and what `runs` and `show` print of such runs."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Control, DotFlow, action, clock, serve
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault, StorageFile
from tests.histories import Histories, begin
from tests.integration.children import Command

pytestmark = pytest.mark.databases("sqlite", "postgres", exhaustive=True)

JOBS = """
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import ExecutorThread, LogDefault, StorageFile

@action
def fetch(customer: int):
    with Path("fetched").open("a") as file:
        file.write(f"{customer} ")
    return customer * 10

@action
def total(fetch):
    if not Path("mended").exists():
        raise ValueError("the warehouse is away")
    return fetch + 1

def config():
    return Config(storage=StorageFile("values"), log=LogDefault(output="none"), executor=ExecutorThread())

report = DotFlow(config(), workflow_id="report", params={"customer": ...})
report.task.add(fetch)
report.task.add(total)

def unnamed():
    workflow = DotFlow(config())
    workflow.task.add(lambda_step)
    return workflow

@action
def lambda_step():
    return 1

def of_day(day):
    return unnamed()

def of_day_or_today(day="today"):
    return unnamed()
"""


@pytest.fixture
def jobs(tmp_path: Path) -> str:
    """A module in the test's folder."""
    name = f"jobs_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(JOBS)
    return name


@pytest.fixture
def history(command: Command, histories: Histories) -> Any:
    """The history where the commands look for it."""
    return histories.open_default()


def submit(command: Command, *arguments: str) -> str:
    """Runs `dotflow submit`, and returns what it printed."""
    end = command("submit", *arguments)
    assert end.code == 0, end.err
    return end.out.rstrip("\n")


class TestSubmit:
    def test_the_id_is_alone_on_stdout(self, command: Command, history: HistorySQLite) -> None:
        """A script can use it. Where no process serves the workflow, stderr has that, and what to start."""
        end = command("submit", "report", "--param", "customer=17")

        (run,) = history.runs()
        assert end.out == f"{run.run_id}\n"
        assert end.err == "No process serves 'report': the run waits. Start `dotflow serve MODULE:WORKFLOW`.\n"
        assert (run.state, run.params, run.base) == (TypeRunState.QUEUED, {"customer": "17"}, "report")

    def test_the_path_of_a_workflow_as_its_name(self, command: Command, history: HistorySQLite) -> None:
        """A path is a name like any other, which no server of that path would take: stderr says what to type."""
        end = command("submit", "jobs:report")

        assert "), and use `dotflow submit -w jobs:report`." in end.err
        assert [run.base for run in history.runs()] == ["jobs:report"]

    def test_a_path_knows_the_types_of_its_parameters(
        self, command: Command, jobs: str, history: HistorySQLite
    ) -> None:
        """The run has its name at once, and later submissions by the id have the same types."""
        submit(command, "-w", f"{jobs}:report", "--param", "customer=17")
        submit(command, "report", "--param", "customer=18")

        assert {run.workflow_id: run.params for run in history.runs()} == {
            "report@customer=17": {"customer": 17},
            "report@customer=18": {"customer": 18},
        }

    def test_a_key_prints_the_same_id(self, command: Command, history: HistorySQLite) -> None:
        """With other parameters it is refused, in a line."""
        first = submit(command, "report", "--param", "customer=1", "--key", "click-17")

        assert submit(command, "report", "--param", "customer=1", "--key", "click-17") == first
        end = command("submit", "report", "--param", "customer=2", "--key", "click-17")
        assert (end.code, end.out) == (2, "")
        assert end.err == (
            f"dotflow: Can't submit the run {first}: the key 'click-17' was used with other parameters.\n"
        )

    def test_a_run_that_is_due_later(self, command: Command, history: HistorySQLite) -> None:
        """After a time from now, or at a local time; the list says when."""
        submit(command, "soon", "--at", "15m")
        submit(command, "later", "--at", "2100-01-02 03:04", "--priority", "10")

        later, soon = history.runs()
        assert soon.due is not None
        assert timedelta(minutes=14) < soon.due - datetime.now(UTC) < timedelta(minutes=16)
        assert later.due == datetime(2100, 1, 2, 3, 4).astimezone()
        listed = command("runs", "--queued").out
        assert "Queued, due 2100-01-02 03:04:00, no process serves it" in listed

    def test_a_debounced_run_and_what_replaces_it(self, command: Command, jobs: str, history: HistorySQLite) -> None:
        """The same id with the newest parameters; the list and `show` say when it is due, and what has replaced it."""
        of_key = ("-w", f"{jobs}:report", "--key", "page")
        debounced = (*of_key, "--debounce", "2h", "--within", "3h")
        first = submit(command, *debounced, "--param", "customer=17")
        assert submit(command, *debounced, "--param", "customer=18") == first

        (run,) = history.runs()
        assert run.due is not None
        assert timedelta(minutes=119) < run.due - datetime.now(UTC) < timedelta(minutes=121)
        due = f"{run.due.astimezone():%Y-%m-%d %H:%M:%S}"
        assert f"Queued, due {due}" in command("runs", "--queued").out
        assert f"Queued, due {due}" in command("show", first).out
        newer = submit(command, *of_key, "--param", "customer=19", "--replace")
        shown = command("show", first).out
        assert "Cancelled" in shown
        assert f"the run {newer[:8]} replaces it" in shown

    def test_a_run_that_waits_for_long_says_so(
        self, command: Command, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After ten minutes, whether it is served or not."""
        submit(command, "report")
        now = clock.now()
        monkeypatch.setattr(clock, "now", lambda: now + timedelta(minutes=12))

        assert "Queued, for 12 min, no process serves it" in command("runs", "--queued").out

    def test_wait_ends_with_the_exit_code_of_the_run(self, command: Command, jobs: str, history: HistorySQLite) -> None:
        """0 completed, 1 failed; stdout has the id alone."""
        with serve(_report(history), wait=False):
            completed = command("submit", "report", "--wait")
            failed = command("submit", "report", "--param", "is_bad=1", "--wait")

        assert (completed.code, completed.err) == (0, "Completed.\n")
        assert re.fullmatch(r"[0-9a-f-]{36}\n", completed.out)
        assert (failed.code, failed.err) == (1, "Failed: step: ValueError: no\n")

    def test_wait_for_a_paused_run_ends_with_3(self, command: Command, history: HistorySQLite) -> None:
        """It has ended, and waits for `dotflow resume`."""
        run = submit(command, "report", "--key", "k")
        command("pause", run)

        assert command("submit", "report", "--key", "k", "--wait").code == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "What to submit? Pass the id of a workflow, or --workflow PATH."),
            (("report", "-w", "a:b"), "What to submit? Pass the id of a workflow, or --workflow PATH."),
            (("report", "--at", "soon"), "--at soon is no time. Use a time from now"),
            (("report", "--debounce", "soon"), "'--debounce': 'soon' is no time. Use a number of seconds"),
            (("report", "--within", "10m"), "within=600.0 is not accepted. Pass it with debounce="),
            (("report", "--debounce", "2m", "--replace"), "Pass either debounce= or replace="),
            (("report", "--param", "customer"), "Can't use --param customer: it is not NAME=VALUE."),
        ],
    )
    def test_wrong_usage_is_a_line(self, command: Command, arguments: tuple[str, ...], message: str) -> None:
        """Exit code 2, and nothing is queued."""
        end = command("submit", *arguments)

        assert (end.code, end.out) == (2, "")
        assert message in end.err
        assert end.err.count("\n") == 1


@action
def step(is_bad: bool = False) -> int:
    if is_bad:
        raise ValueError("no")
    return 1


def _report(history: HistorySQLite) -> DotFlow:
    config = Config(history=history, log=LogDefault(output="none"), executor=ExecutorThread())
    workflow = DotFlow(config, workflow_id="report", params={"is_bad": False})
    workflow.task.add(step)
    return workflow


class TestServe:
    def test_once_runs_what_is_due_and_lists_it(self, command: Command, jobs: str, tmp_path: Path) -> None:
        """1 where a run failed. What is due later stays in the queue."""
        (tmp_path / "mended").touch()
        submit(command, "-w", f"{jobs}:report", "--param", "customer=1")
        submit(command, "-w", f"{jobs}:report", "--param", "customer=2", "--at", "1h")

        end = command("serve", f"{jobs}:report", "--once")

        assert (end.code, end.err) == (0, "")
        assert re.search(r"report@customer=1 +✓ Completed", end.out)
        assert "customer=2" not in end.out
        (tmp_path / "mended").unlink()
        submit(command, "-w", f"{jobs}:report", "--param", "customer=3")
        assert command("serve", f"{jobs}:report", "--once").code == 1
        assert command("serve", f"{jobs}:report", "--once").err == "No run is due.\n"

    def test_once_says_what_it_leaves(self, command: Command, jobs: str, history: HistorySQLite) -> None:
        """With the reason, and exit code 3: it waits."""
        run = submit(command, "-w", f"{jobs}:report", "--param", "customer=1")
        Control(history).pause_workflow("report", by="anna")

        end = command("serve", f"{jobs}:report", "--once")

        assert (end.code, end.out) == (3, "")
        waits = f"The run {run[:8]} of 'report@customer=1' is due, and waits: its workflow is paused by anna since "
        assert end.err.startswith(waits)

    def test_several_workflows_and_one_without_an_id(self, command: Command, jobs: str, tmp_path: Path) -> None:
        """It has the id that `dotflow start` derives from its path, in `submit` and `serve` alike."""
        (tmp_path / "mended").touch()
        submit(command, "-w", f"{jobs}:report", "--param", "customer=1")
        submit(command, "-w", f"{jobs}:unnamed")

        end = command("serve", f"{jobs}:report", f"{jobs}:unnamed", "--once", "--keep-going", "--timeout", "1h")

        assert end.code == 0
        assert re.search(rf"{jobs}:unnamed +✓ Completed", end.out)
        assert re.search(r"report@customer=1 +✓ Completed", end.out)

    def test_a_function_whose_arguments_name_its_runs_is_refused(self, command: Command, jobs: str) -> None:
        """The queue knows a workflow by its id alone; arguments with defaults are no obstacle."""
        end = command("serve", f"{jobs}:of_day", "--once")

        assert (end.code, end.err) == (
            2,
            f"dotflow: {jobs}:of_day can't be queued or served: the arguments of the function that made it name its "
            "runs. Declare them: DotFlow(params={...}).\n",
        )
        assert command("submit", "-w", f"{jobs}:of_day_or_today", "--param", "day=monday").code == 2
        assert command("serve", f"{jobs}:of_day_or_today", "--once").code == 0

    def test_two_workflows_of_one_id_are_refused(self, command: Command, jobs: str) -> None:
        """The queue could not tell whose runs are whose."""
        end = command("serve", f"{jobs}:unnamed", f"{jobs}.unnamed", "--once")

        assert (end.code, end.err) == (
            2,
            f"dotflow: The workflows can't be served together: two of them have the workflow_id '{jobs}:unnamed'. "
            "Give each its own.\n",
        )

    @pytest.mark.parametrize("arguments", [(), ("nowhere:report",), ("{jobs}:report", "--timeout", "soon")])
    def test_wrong_usage_is_a_line(self, command: Command, jobs: str, arguments: tuple[str, ...]) -> None:
        """Exit code 2."""
        end = command("serve", *(argument.format(jobs=jobs) for argument in arguments))

        assert (end.code, end.err.count("\n")) == (2, 1)


def test_start_ends_a_run_at_its_timeout(command: Command, tmp_path: Path) -> None:
    """It has failed, and the history says why."""
    (tmp_path / "slow_jobs.py").write_text(
        "import time\nfrom dotflow import action\n\n@action\ndef slow():\n    time.sleep(0.1)\n"
    )

    end = command("start", *["--step", "slow_jobs.slow"] * 2, "--timeout", "0.05s")

    assert end.code == 1
    assert "timeout" in HistorySQLite().load("last").reason


class TestOrders:
    def test_a_queued_run_is_cancelled_at_once(self, command: Command, history: HistorySQLite) -> None:
        """By whom and why is kept. A second time it is refused, in words."""
        run = submit(command, "report")

        end = command("cancel", run[:8], "--by", "anna", "--comment", "wrong day")

        assert (end.code, end.out) == (0, f"The run {run[:8]} of report is cancelled.\n")
        (found,) = history.runs()
        assert (found.state, found.reason) == (TypeRunState.CANCELLED, "cancelled by anna: wrong day")
        assert (found.duration, found.has_begun) == (None, False)
        end = command("cancel", run[:8])
        assert end.code == 2
        assert re.fullmatch(rf"dotflow: Can't cancel the run {run}: it was cancelled .+ ago\.\n", end.err)

    def test_a_queued_run_is_paused_and_resumed(self, command: Command, history: HistorySQLite) -> None:
        """A new run continues it; where no process serves it, stderr has that."""
        run = submit(command, "report")

        assert command("pause", run).out == (
            f"The run {run[:8]} of report is paused.\n`dotflow resume {run[:8]}` goes on with it.\n"
        )
        assert "Paused" in command("runs", "--paused").out
        end = command("resume", run)
        newest, _ = history.runs()
        assert end.out == f"The run {newest.run_id[:8]} of report is queued, and continues {run[:8]}.\n"
        assert end.err == "No process serves 'report': the run waits. Start `dotflow serve MODULE:WORKFLOW`.\n"

    def test_a_paused_run_after_one_that_completed_can_be_resumed(
        self, command: Command, jobs: str, history: HistorySQLite, tmp_path: Path
    ) -> None:
        """Its page compares the two, and has the command to go on as well."""
        (tmp_path / "mended").touch()
        submit(command, "-w", f"{jobs}:report", "--param", "customer=4")
        command("serve", f"{jobs}:report", "--once")
        run = submit(command, "-w", f"{jobs}:report", "--param", "customer=4")
        command("pause", run)

        page = command("show", run).out

        assert f"dotflow diff {history.runs()[1].run_id[:8]} {run[:8]} " in page
        assert f"dotflow resume {run[:8]} " in page

    def test_what_failed_is_resumed_behind_its_finished_steps(
        self, command: Command, jobs: str, history: HistorySQLite, tmp_path: Path
    ) -> None:
        """`failed` names it; no finished step runs again, and a completed run needs --rerun."""
        submit(command, "-w", f"{jobs}:report", "--param", "customer=4")
        command("serve", f"{jobs}:report", "--once")
        (tmp_path / "mended").touch()

        assert command("resume", "failed").code == 0
        assert command("serve", f"{jobs}:report", "--once").code == 0
        newest, first = history.runs()
        assert (newest.state, newest.continues, first.state) == ("Completed", first.run_id, "Failed")
        assert (tmp_path / "fetched").read_text() == "4 "
        end = command("resume", "last")
        assert (end.code, end.err.count("\n")) == (2, 1)
        assert "Name the steps that run again: --rerun STEP" in end.err
        assert command("resume", "last", "--rerun", "fetch").code == 0
        assert command("serve", f"{jobs}:report", "--once").code == 0
        assert (tmp_path / "fetched").read_text() == "4 4 "

    def test_a_running_run_is_ordered(self, command: Command, history: HistorySQLite) -> None:
        """What happens next is in words; the list and the page of the run have the order."""
        begin(history, "4f0c9a21-0000", "fetch")

        end = command("cancel", "4f0c9a21")

        assert end.out == (
            "The run 4f0c9a21 of shop ends within about a second. "
            "A step in the program's own thread ends by itself first.\n"
        )
        assert "Running, cancel ordered" in command("runs").out
        assert "Running, cancel ordered" in command("show", "last").out
        assert json.loads(command("show", "last", "--json").out)["run"]["ordered"] == "cancel"

    @pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
    def test_a_run_that_is_not_there_is_refused(self, command: Command, verb: str) -> None:
        """In a line, with exit code 2; no history is made."""
        end = command(verb, "last")

        assert (end.code, end.out, end.err.count("\n")) == (2, "", 1)
        assert "has no runs yet" in end.err
        assert not Path(".output").exists()


ASKS = """
from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite, StorageFile

@action(approve="Publish?")
def publish():
    return 1

release = DotFlow(Config(storage=StorageFile("values"), history=HistorySQLite("own.db")), workflow_id="release")
release.task.add(publish)

both = DotFlow(Config(storage=StorageFile("values"), history=HistorySQLite("own.db")), workflow_id="both")
both.task.add(action(lambda: 1 / 0), name="broken", needs=[]).add(publish, needs=[])
"""


def test_the_command_that_answers_names_the_history(command: Command, tmp_path: Path) -> None:
    """As it is printed, it finds the run, though the workflow has a history of its own."""
    name = f"asks_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(ASKS)

    end = command("start", "--workflow", f"{name}:release")
    assert end.code == 3
    (line,) = re.findall("`dotflow (approve .*?)`", end.out)
    assert line.endswith(" --history own.db")

    assert command(*line.split()).code == 0


def test_the_command_after_an_answer_is_not_refused(command: Command, tmp_path: Path) -> None:
    """Of a run that failed, too: what `approve` prints names the history, and finds the run."""
    name = f"asks_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(ASKS)
    assert command("start", "--workflow", f"{name}:both", "--keep-going").code == 1

    end = command("approve", "last", "--history", "own.db")

    assert end.code == 0
    (line,) = re.findall("is failed: `dotflow (.*?)` goes on with it", end.out)
    assert re.fullmatch(r"resume \w{8} --history own\.db", line)
    assert command(*line.split()).code == 0


class TestAChain:
    """A run and those that continue it are one run to people."""

    def test_is_one_line(self, command: Command, tmp_path: Path) -> None:
        """A run that was approved and completed is not in the list once more, as a paused one."""
        name = f"asks_{uuid.uuid4().hex[:8]}"
        (tmp_path / f"{name}.py").write_text(ASKS)
        command("start", "--workflow", f"{name}:release")
        history = HistorySQLite("own.db")
        command("approve", "last", "--history", "own.db")
        assert command("serve", f"{name}:release", "--once", "--history", "own.db").code == 0

        head, line = command("runs", "--history", "own.db").out.splitlines()

        assert (len(history.runs()), len(history.runs(newest=True))) == (2, 1)
        assert re.search("release +✓ Completed", line)
        assert command("runs", "--paused", "--history", "own.db").err == "No such runs.\n"
        assert "What failed" not in head

    def test_shows_what_it_asks_and_since_when(self, command: Command, tmp_path: Path) -> None:
        """In the list, in `show`, and as JSON."""
        name = f"asks_{uuid.uuid4().hex[:8]}"
        (tmp_path / f"{name}.py").write_text(ASKS)
        command("start", "--workflow", f"{name}:release")
        (asked,) = Control(HistorySQLite("own.db")).questions()
        since = f"{asked.asked.astimezone():%Y-%m-%d %H:%M:%S}"

        (listed,) = map(json.loads, command("runs", "--paused", "--json", "--history", "own.db").out.splitlines())

        assert f"publish asks since {since}: Publish?" in command("runs", "--paused", "--history", "own.db").out
        assert f"\nasks     publish, since {since}: Publish?\n" in command("show", "--history", "own.db").out
        assert [(one["step"], one["text"]) for one in listed["questions"]] == [("publish", "Publish?")]
        assert datetime.fromisoformat(listed["questions"][0]["asked"]) == asked.asked

    def test_has_completed_what_was_restored(self, command: Command, jobs: str, history: HistorySQLite) -> None:
        """Two of two tasks have completed, and one of these was restored: in the summary and as JSON."""
        start = ("start", "--workflow", f"{jobs}:report", "--param", "customer=1")
        command(*start)
        Path("mended").touch()
        command(*start, "--resume")

        (listed,) = map(json.loads, command("runs", "--json").out.splitlines())

        assert {name: listed[name] for name in ("tasks", "completed", "restored")} == {
            "tasks": 2,
            "completed": 2,
            "restored": 1,
        }
        assert (history.load("last").completed, history.summary("last").restored) == (2, 1)


class TestWhatUsersRead:
    def test_a_run_that_could_not_begin_says_why(self, command: Command, jobs: str, history: HistorySQLite) -> None:
        """No step failed, so `show` has the error of the run."""
        submit(command, "report", "--param", "costumer=1")
        command("serve", f"{jobs}:report", "--once")

        end = command("show", "failed")

        assert "UnknownParam: The workflow has no parameter 'costumer'. Did you mean 'customer'?" in end.out

    def test_a_queued_run_has_no_duration(self, command: Command, history: HistorySQLite) -> None:
        """`show` and the list say that it waits, and offer to cancel it."""
        run = submit(command, "report", "--param", "customer=1")

        end = command("show", run)

        assert f"… Queued, no process serves it  report  run {run}\n" in end.out
        assert "params   customer=1\n" in end.out
        assert f"  dotflow cancel {run[:8]}  # take it out of the queue\n" in end.out
        assert "began" not in end.out
        assert re.search(r"report +… Queued, no process serves it$", command("runs").out, re.MULTILINE)

    def test_json_has_all_of_it(self, command: Command, history: HistorySQLite) -> None:
        """`runs --json` and `show --json` alike."""
        run = submit(command, "report", "--param", "customer=1", "--at", "1h")

        listed = json.loads(command("runs", "--json").out)
        shown = json.loads(command("show", run, "--json").out)["run"]

        assert {name: listed[name] for name in ("state", "duration", "origin", "continues", "superseded")} == {
            "state": "Queued",
            "duration": None,
            "origin": run,
            "continues": "",
            "superseded": "",
        }
        assert (listed["params"], listed["has_begun"], listed["is_served"]) == ({"customer": "1"}, False, False)
        assert listed["submitted"] == listed["began"] < listed["due"]
        assert listed.items() <= shown.items()

    def test_last_is_the_last_run_that_began(self, command: Command, history: HistorySQLite) -> None:
        """What waits in the queue, or was cancelled there, is not."""
        begin(history, "4f0c9a21-0000", "fetch")
        submit(command, "report")
        command("cancel", submit(command, "other"))

        assert history.load("last").run_id == "4f0c9a21-0000"

    def test_only_queued_runs_are_no_last_run(self, command: Command) -> None:
        """The error says so."""
        submit(command, "report")

        assert "or that wait in the queue. Pass an id" in command("show").err

    def test_since_hides_no_queued_run(self, command: Command, history: HistorySQLite) -> None:
        """It is not past, however long ago it was submitted."""
        run = submit(command, "report")

        assert [found.run_id for found in history.runs(since=datetime(2100, 1, 1, tzinfo=UTC))] == [run]
        assert history.runs(since=datetime(2100, 1, 1, tzinfo=UTC), state="completed") == []
        assert history.runs(since=datetime(2100, 1, 1, tzinfo=UTC), limit=0) == []

    def test_the_newest_run_of_a_chain_is_shown(self, command: Command, history: HistorySQLite) -> None:
        """With the others; --this shows the run itself."""
        run = submit(command, "report")
        command("pause", run)
        command("resume", run)
        newest = history.runs()[0].run_id

        assert f"chain    continues {run[:8]}\n" in command("show", run).out
        assert newest in command("show", run).out
        this = command("show", run, "--this").out
        assert f"Paused  report  run {run}\n" in this
        assert f"chain    goes on as {newest[:8]}\n" in this
        assert json.loads(command("show", run, "--json").out)["run"]["chain"] == [run, newest]

    def test_a_replaced_run_names_the_newer_one(self, command: Command, history: HistorySQLite) -> None:
        """It was cancelled: a newer run of its name has the values."""
        report = _report(history)
        Control(report).pause(report.submit(params={"is_bad": True}))
        serve(report, once=True)
        failed = report.submit(params={"is_bad": True})
        serve(report, once=True)
        again = report.start(params={"is_bad": True})

        assert f"chain    replaced by {again.run_id[:8]}\n" in command("show", failed).out
        assert "dotflow resume" not in command("show", failed).out

    def test_a_failed_run_that_was_submitted_offers_to_resume(self, command: Command, history: HistorySQLite) -> None:
        """By `dotflow resume`, since a process that serves it goes on."""
        config = Config(history=history, log=LogDefault(output="none"), storage=StorageFile("values"))
        workflow = DotFlow(config, workflow_id="report", params={"is_bad": True})
        workflow.task.add(step)
        run = workflow.submit()
        serve(workflow, once=True)

        assert re.search(rf"  dotflow resume {run[:8]} +# go on from here\n", command("show", run).out)


class TestForget:
    def test_a_chain_is_forgotten_as_one(self, command: Command, history: HistorySQLite) -> None:
        """By any of its runs, once the last one has ended."""
        run = submit(command, "report")
        command("pause", run)
        command("resume", run)

        end = command("forget", run)
        newest = history.runs()[0].run_id
        assert (end.code, end.err) == (
            2,
            f"dotflow: Can't forget the run {newest[:8]}: it is queued. Cancel it first.\n",
        )
        assert command("forget", "--all", "--yes").out.startswith("0 runs deleted.")
        command("cancel", run)
        assert command("forget", run).out.startswith("2 runs deleted.")
        assert history.runs() == []

    def test_a_paused_run_is_not_forgotten(self, command: Command, history: HistorySQLite) -> None:
        """It waits to be resumed."""
        run = submit(command, "report")
        command("pause", run)

        assert "it is paused. Cancel it first" in command("forget", run).err
        assert command("forget", "--older-than", "0s", "--yes").out.startswith("0 runs deleted.")
        command("cancel", run)
        assert command("forget", "--older-than", "0s", "--yes").out.startswith("1 run deleted.")
