"""dotflow schedule: previews, runs when they are due, and signals."""

import signal
from datetime import timedelta
from pathlib import Path

import pytest

from dotflow.providers import HistorySQLite
from tests.integration.children import COMMAND, Command, End, Script, Scripts
from tests.marks import each_once

JOBS = """\
import time
from datetime import date
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import SchedulerCron

@action
def quick():
    print("ran", flush=True)

@action
def fails():
    raise ValueError("no rows today")

@action
def fails_once():
    if not Path("failed").exists():
        Path("failed").touch()
        raise ValueError("no rows yet")

@action
def long():
    print("began", flush=True)
    while not Path("go").exists():
        time.sleep(0.01)
    print("ended", flush=True)

@action
def until_it_is_due_again():
    second = int(time.time())
    while int(time.time()) == second:
        time.sleep(0.01)

@action
def of_day(day: date):
    print(f"day {day:%Y-%m-%d}", flush=True)

daily = DotFlow(workflow_id="daily", params={"day": ...})
daily.task.add(of_day)

each_second = SchedulerCron("* * * * * *", params=lambda planned: {"day": planned.date()})
lacks = DotFlow(Config(scheduler=SchedulerCron("0 7 * * 1")), workflow_id="lacks", params={"day": ...})
lacks.task.add(of_day)

dated = DotFlow(Config(scheduler=each_second), workflow_id="daily", params={"day": ...})
dated.task.add(of_day)

def own():
    workflow = DotFlow(Config(scheduler=SchedulerCron("0 7 * * 1", timezone="Europe/Berlin")))
    workflow.task.add(quick)
    return workflow
"""

EVERY_SECOND = ("--cron", "* * * * * *")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a user's module in it."""
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


def schedule(scripts: Scripts, *arguments: str) -> End:
    """Runs `dotflow schedule` to its end."""
    with scripts.command("schedule", *arguments) as command:
        return command.end()


class TestPreview:
    def test_fire_times_are_listed_and_nothing_is_run(self, command: Command, folder: Path) -> None:
        """It needs no step; each line has the day, the zone and the time until then."""
        end = command("schedule", "--cron", "30 2 * * *", "--timezone", "America/New_York", "--preview", "3")

        lines = end.out.splitlines()
        assert (end.code, end.err, len(lines)) == (0, "", 3)
        assert all(" 02:30:00 E" in line or "the clocks" in line for line in lines)
        assert " (-0" in lines[0]
        assert "  in " in lines[0]

    def test_days_with_a_dst_change_are_marked(self, command: Command, folder: Path) -> None:
        """Two in a year."""
        end = command("schedule", "--cron", "30 2 * * *", "--timezone", "America/New_York", "--preview", "365")

        marked = [line for line in end.out.splitlines() if "the clocks" in line]
        assert len(marked) == 2
        assert all(line.startswith("Sun ") for line in marked)

    def test_a_workflows_own_schedule(self, command: Command, folder: Path) -> None:
        """Without --cron, it is that of the factory's workflow."""
        end = command("schedule", "--workflow", "jobs:own", "--preview", "1")

        assert end.out.startswith("Mon ")
        assert " 07:00:00 CE" in end.out

    def test_it_ends_with_the_calendar(self, command: Command, folder: Path) -> None:
        """Sundays that are a 29th of February come every 28 or 40 years, until the year 9999."""
        end = command("schedule", "--cron", "0 0 29 2 */7", "--timezone", "UTC", "--preview", "1000")

        lines = end.out.splitlines()
        assert (end.code, end.err) == (0, "")
        assert 200 < len(lines) < 400
        assert lines[-1].startswith("Sun 99")


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--step", "jobs.quick"], "No schedule. Add --cron"),
            (
                ["--workflow", "jobs:dated", "--param", "day=2026-11-11"],
                "The workflow's schedule has params of its own. Remove --param, or add --cron.",
            ),
            (
                ["--workflow", "jobs:dated", "--param", "day={today}"],
                "The workflow's schedule has params of its own. Remove --param, or add --cron.",
            ),
            (
                ["--workflow", "jobs:daily", "--cron", "@daily", "--param", "day={hour}"],
                ": 'day' is a date, such as 2026-11-25.",
            ),
            (["--step", "jobs.quick", "--cron", "61 * * * *"], "61 * * * *"),
            (["--step", "jobs.quick", "--cron", "0 0 30 2 *"], "0 0 30 2 *"),
            (["--cron", "@daily"], "Nothing to run. Use --step"),
            (
                ["--step", "jobs.quick", "--cron", "0", "6", "*", "*", "*"],
                "Quote the cron expression: --cron '30 2 * * *'",
            ),
            (["--cron", "@daily", "--timezone", "Europe/Berlni", "--step", "jobs.quick"], "Europe/Berlin"),
            (["--overlap", "skip", "--step", "jobs.quick"], "--overlap needs --cron"),
            (["--overlap", "skp", "--cron", "@daily", "--step", "jobs.quick"], "'skip', 'queue', 'parallel'"),
            (["--preview", "3"], "Nothing to run. Use --step"),
            (["--preview", "3", "--cron", "@daily", "--workflow", "jobs:missing"], "Can't import 'jobs:missing'"),
            (["--preview", "3", "--cron", "@daily", "--step", "gone.step"], "there is no module 'gone'"),
            (["--preview", "3", "--cron", "*/61 * * * *"], "minute has the step 61"),
            (["--preview", "1001", "--cron", "@daily"], "1<=x<=1000"),
            (["--preview", "0", "--cron", "@daily"], "1<=x<=1000"),
            (
                ["--cron", "@daily", "--workflow", "jobs:daily", "--param", "day={yesteday}"],
                "Use one of {today}, {yesterday}, {planned}, {hour}, {last_hour}.",
            ),
            (["--cron", "@daily", "--workflow", "jobs:daily", "--param", "day={planned}"], "'day' is a date"),
            (["--cron", "@daily", "--workflow", "jobs:daily", "--param", "dya={today}"], "Did you mean 'day'?"),
        ],
    )
    def test_each_is_one_line_with_a_remedy(
        self, command: Command, folder: Path, arguments: list[str], message: str
    ) -> None:
        """At the start, not at the first run."""
        end = command("schedule", *arguments)

        (line,) = end.err.splitlines()
        assert (end.code, end.out) == (2, "")
        assert message in line


def test_a_served_schedule_without_params_names_what_gives_them(command: Command, folder: Path) -> None:
    """`dotflow serve` has no --param."""
    end = command("serve", "jobs:lacks", "--once")

    assert (end.code, end.out) == (2, "")
    assert end.err == (
        "dotflow: The scheduled run needs 'day'. Pass its scheduler params=lambda planned: {'day': ...}.\n"
    )


class TestRuns:
    @pytest.mark.exhaustive(keep_every=2)
    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_it_runs_again_and_again_until_a_signal(self, scripts: Scripts, folder: Path, signum: int) -> None:
        """Each run has a summary as that of `start`; the exit code is 0."""
        with scripts.command("schedule", "--step", "jobs.quick", *EVERY_SECOND) as command:
            lines = [command.line() for _ in range(6)]
            command.send(signum)
            end = command.end()
            assert command.left_behind() == []

        assert end.code == 0
        assert lines[0] == lines[3] == "ran"
        assert lines[1].startswith("task 0 quick: Completed, ")
        assert lines[2].startswith("Completed: 1 of 1 task completed, in ")
        assert "Next: " in end.err
        assert end.err.splitlines()[-1] == "The schedule has ended."

    @pytest.mark.exhaustive(keep_every=2)
    @pytest.mark.parametrize("of", [("--workflow", "jobs:daily"), ("--step", "jobs.of_day", "--workflow-id", "daily")])
    def test_a_word_is_the_day_of_each_firing(
        self, scripts: Scripts, folder: Path, command: Command, of: tuple[str, ...]
    ) -> None:
        """It names the run as by hand, so the days of a schedule are in the same calendar."""
        with scripts.command("schedule", *of, *EVERY_SECOND, "--param", "day={yesterday}") as scheduled:
            line = scheduled.line()
            scheduled.send(signal.SIGINT)
            assert scheduled.end().code == 0

        (*_, run) = HistorySQLite(folder / ".output" / "history.db").runs()
        yesterday = f"{run.began.astimezone() - timedelta(days=1):%Y-%m-%d}"
        assert (line, run.workflow_id) == (f"day {yesterday}", f"daily@day={yesterday}")
        assert f"daily by day: {yesterday}" in command("runs", "--workflow", "daily", "--by", "day").out

    def test_the_schedule_of_a_workflow_gives_each_firing_its_day(self, scripts: Scripts, folder: Path) -> None:
        """Its own params do: no --param is needed for a day that has no default."""
        with scripts.command("schedule", "--workflow", "jobs:dated") as scheduled:
            line = scheduled.line()
            scheduled.send(signal.SIGINT)
            assert scheduled.end().code == 0

        (*_, run) = HistorySQLite(folder / ".output" / "history.db").runs()
        assert line == f"day {run.workflow_id.removeprefix('daily@day=')}"

    def test_resume_needs_no_id(self, scripts: Scripts, folder: Path) -> None:
        """`--storage file --resume` is enough; the log names the derived id."""
        step = ("--step", "jobs.quick", "--storage", "file", "--resume")
        with scripts.command("schedule", *step, "--cron", "0 */6 * * *") as command:
            note, next_run, hint = (command.error_line() for _ in range(3))

        assert hint.startswith("Ctrl-C ends the schedule")
        assert note.endswith("Workflow id: jobs.quick (derived from --step; --workflow-id sets another one).")
        assert next_run.startswith("Next: ")

    def test_a_run_goes_on_where_the_last_one_failed(self, scripts: Scripts, folder: Path) -> None:
        """A finished step is not repeated."""
        steps = ("--step", "jobs.quick", "--step", "jobs.fails_once", "--storage", "file", "--resume")
        with scripts.command("schedule", *steps, *EVERY_SECOND) as command:
            lines = [command.line()]
            while not lines[-1].startswith("Completed: "):
                lines.append(command.line())
            command.send(signal.SIGTERM)
            end = command.end()

        assert end.code == 0
        assert lines.count("ran") == 1
        assert "task 0 quick: Completed, restored" in lines

    def test_a_run_that_fails_does_not_end_it(self, scripts: Scripts, folder: Path) -> None:
        """Each has its summary, and the exit code is that of the schedule."""
        with scripts.command("schedule", "--step", "jobs.fails", *EVERY_SECOND) as command:
            lines = [command.line() for _ in range(8)]
            command.send(signal.SIGTERM)
            end = command.end()

        assert end.code == 0
        assert [line for line in lines if line.startswith("Failed: ")] == [lines[3], lines[7]]
        assert lines[1] == "    ValueError: no rows today"

    def test_the_first_signal_waits_for_the_run(self, scripts: Scripts, folder: Path) -> None:
        """It does not interrupt the step."""
        with scripts.command("schedule", "--step", "jobs.long", *EVERY_SECOND) as command:
            assert command.line() == "began"
            command.send(signal.SIGTERM)
            while "Press Ctrl-C again" not in command.error_line():
                pass
            (folder / "go").touch()
            end = command.end()

        assert end.code == 0
        assert end.out.startswith("ended\n")
        assert end.out.count("Completed: ") == 1
        assert "Next: " not in end.err  # there is none

    def test_the_queued_run_comes_next(self, scripts: Scripts, folder: Path) -> None:
        """It begins at once; the log counts the one that a signal drops."""
        step = ("--step", "jobs.until_it_is_due_again", "--overlap", "queue")
        with scripts.command("schedule", *step, *EVERY_SECOND) as command:
            assert command.error_line().startswith("Next: ")
            while not (line := command.error_line()).startswith("Next: "):
                pass
            while "In progress" not in command.error_line():
                pass
            command.send(signal.SIGTERM)
            end = command.end()

        assert line == "Next: now (queued)"
        assert end.code == 0
        assert end.err.count(": the schedule ends.") == 1
        assert "Next: " not in end.err

    @pytest.mark.exhaustive(keep_every=2)
    @pytest.mark.parametrize("overlap", ["skip", "parallel"])
    def test_without_a_stdout_it_goes_on(self, scripts: Scripts, folder: Path, overlap: str) -> None:
        """A closed stdout is no error."""
        program = f"import sys; sys.stdout = None; {COMMAND}"  # as after >&-
        arguments = ("--step", "jobs.quick", "--overlap", overlap, *EVERY_SECOND)
        with Script(["-c", program, "schedule", *arguments], folder) as command:
            for _ in range(2):  # at the start, and after a run
                while not command.error_line().startswith("Next: "):
                    pass
            command.send(signal.SIGTERM)
            end = command.end()

        assert end.code == 0
        assert "Error" not in end.err

    @pytest.mark.exhaustive(keep_every=4)
    @pytest.mark.parametrize(
        ("overlap", "signum", "code"),
        each_once(["skip", "queue", "parallel"], [(signal.SIGINT, 130), (signal.SIGTERM, 143)]),
    )
    def test_the_second_signal_stops_it(
        self, scripts: Scripts, folder: Path, overlap: str, signum: int, code: int
    ) -> None:
        """In the middle of the step; no process is left behind."""
        with scripts.command("schedule", "--step", "jobs.long", "--overlap", overlap, *EVERY_SECOND) as command:
            assert command.line() == "began"
            command.send(signum)
            while "Press Ctrl-C again" not in command.error_line():
                pass
            command.send(signum)
            end = command.end()
            assert command.left_behind() == []

        assert end.code == code
        assert "ended" not in end.out
        assert "Failed: 0 of 1 task completed, 1 failed" in end.out
        assert "Next: " not in end.err
