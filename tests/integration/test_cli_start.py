"""dotflow start: its output, its exit codes, and signals."""

import json
import signal
from pathlib import Path

import pytest

from tests.integration.children import Command, End, Scripts
from tests.marks import each_once

JOBS = """\
import os, sys, time
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import LogDefault

RAN = Path("ran")

def note(name):
    with RAN.open("a") as file:
        print(name, file=file)

@action
def extract(initial_context):
    note("extract")
    print("given", repr(initial_context.storage))
    return [3, 5, 8]

@action(retry=2, retry_delay=0)
def load(previous_context):
    note("load")
    if Path("away").exists():
        raise ConnectionError("the database is away")
    return sum(previous_context.storage)

@action
def wait():
    print("waiting", flush=True)
    time.sleep(60)

@action
def stubborn():
    try:
        print("waiting", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("still here", flush=True)
        time.sleep(60)

@action
def silent():
    return [3, 5, 8]

@action(resources={"GPU": 1})
def train():
    note("train")

def notify(task):
    print("notified of", task.name, task.status)

def quiet():
    workflow = DotFlow(Config(log=LogDefault(output="none")), name="quiet")
    workflow.task.add([silent, load])
    return workflow

def groups():
    workflow = DotFlow(name="groups")
    for group in ("left", "right"):
        workflow.task.add([extract, wait], group_name=group)
    return workflow

def loading():
    workflow = DotFlow()
    workflow.task.add([extract, load])
    return workflow

def nothing():
    return DotFlow()

class Hasty(DotFlow):
    def start(self, **arguments):
        super().start(**arguments)
        raise KeyboardInterrupt

def hasty():
    workflow = Hasty()
    workflow.task.add(wait)
    return workflow
"""


PAUSING = """\
from dotflow import Config, DotFlow, action, clock
from dotflow.providers import LogDefault

def workflow_of(*steps):
    global workflow
    workflow = DotFlow(Config(log=LogDefault(output="none")), workflow_id="paused")
    workflow.task.add(list(steps))
    return workflow

@action
def fails():
    raise ValueError("no rows")

@action
def pauses():
    workflow.last.pause()

@action
def last():
    return 5

def failing():
    return workflow_of(fails, pauses, last)

def pausing():
    return workflow_of(pauses, last)

@action
def waits():
    clock.sleep(0.05)  # a step in the program's own thread ends by itself, after the timeout

def waiting():
    return workflow_of(waits, last)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a user's module in it."""
    (tmp_path / "pausing.py").write_text(PAUSING)
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


def start(scripts: Scripts, *arguments: str, **environment: str) -> End:
    """Runs `dotflow start` to its end; nothing is left behind."""
    with scripts.command("start", *arguments, **environment) as command:
        end = command.end()
        assert command.left_behind() == []
        return end


class TestPlain:
    def test_a_run_is_logged_and_summed_up(self, scripts: Scripts, folder: Path) -> None:
        """Prints of steps and the summary go to stdout, the log to stderr and its file."""
        end = start(scripts, "--step", "jobs.extract", "--step", "jobs.load", "--initial-context", '{"day": 3}')

        lines = end.out.splitlines()
        assert end.code == 0
        assert lines[0] == "given {'day': 3}"
        assert lines[1].startswith("task 0 extract: Completed, ")
        assert lines[2].startswith("task 1 load: Completed, ")
        assert lines[3].startswith("Completed: 2 of 2 tasks completed, in ")
        assert end.err.splitlines()[0].endswith(" task 0 extract: In progress")
        assert (folder / ".output" / "flow.log").read_text() == end.err

    def test_text_that_is_no_json_is_text(self, command: Command, folder: Path) -> None:
        """`--initial-context abc` needs no nested quotes."""
        assert "given 'abc'\n" in command("start", "--step", "jobs.extract", "--initial-context", "abc").out

    def test_a_failure_is_1_and_has_its_error_and_line(self, command: Command, folder: Path) -> None:
        """The line of the user's code that raised it."""
        (folder / "away").touch()

        end = command("start", "--step", "jobs:extract", "--step", "jobs:load", "--callback", "jobs.notify")

        assert end.code == 1
        assert "notified of load Failed\n" in end.out
        assert "task 1 load: Failed after 2 attempts, " in end.out
        assert "    ConnectionError: the database is away\n" in end.out
        assert '    jobs.py:22 in load: raise ConnectionError("the database is away")\n' in end.out
        assert "Failed: 1 of 2 tasks completed, 1 failed, in " in end.out

    def test_a_workflow_of_a_factory_keeps_its_own_settings(self, command: Command, folder: Path) -> None:
        """A silent log stays silent; the summary is printed."""
        end = command("start", "--workflow", "jobs:quiet")

        assert (end.code, end.err) == (0, "")
        assert "Completed: 2 of 2 tasks completed" in end.out

    def test_a_paused_run_is_3_and_goes_on(self, command: Command, folder: Path) -> None:
        """The summary says so, and how to go on; the history lists and shows it."""
        start = ["start", "--workflow", "pausing:pausing", "--storage", "file"]

        end = command(*start)

        assert end.code == 3
        assert "task 1 last: Not started\n" in end.out
        assert "Paused: 1 of 2 tasks completed, 1 not started, in " in end.out
        assert "Run the same command with --resume to go on from here." in end.out
        assert " Paused " in command("runs").out
        assert "stopped  the run was paused\n" in command("show", "last").out
        (run,) = map(json.loads, command("runs", "--json").out.splitlines())
        assert (run["state"], run["reason"]) == ("Paused", "the run was paused")
        assert command("report", "last", "-o", "run.html").code == 0
        assert "Paused" in (folder / "run.html").read_text()
        end = command(*start, "--resume")
        assert end.code == 0
        assert "Completed: 2 of 2 tasks completed (1 restored)" in end.out

    def test_a_failure_in_a_paused_run_is_1(self, command: Command, folder: Path) -> None:
        """With --keep-going the run is Paused nevertheless."""
        end = command("start", "--workflow", "pausing:failing", "--keep-going")

        assert end.code == 1
        assert "Paused: 1 of 3 tasks completed, 1 failed, 1 not started, in " in end.out

    @pytest.mark.parametrize("timeout", ["20ms", "0.02"])
    def test_a_run_that_takes_too_long_fails(self, command: Command, folder: Path, timeout: str) -> None:
        """As with a number of seconds."""
        end = command("start", "--workflow", "pausing:waiting", "--timeout", timeout)

        assert end.code == 1
        assert "Failed: " in end.out
        assert "\nThe run exceeded its timeout of 0.02 s.\n" in end.out
        assert "stopped  the run exceeded its timeout of 0.02 s\n" in command("show", "last").out

    @pytest.mark.parametrize("timeout", ["0", "-1", "soon", "nan", "4 hours", ""])
    def test_a_timeout_that_is_no_time_is_refused(self, command: Command, folder: Path, timeout: str) -> None:
        """Before anything runs."""
        end = command("start", "--workflow", "pausing:waiting", "--timeout", timeout)

        assert (end.code, end.out) == (2, "")
        assert f"{timeout!r} is no time. Use a number of seconds, or a text such as" in end.err

    def test_a_workflow_without_tasks_completes(self, command: Command, folder: Path) -> None:
        """A factory may return one; the summary reports it."""
        end = command("start", "--workflow", "jobs.nothing")

        assert end.code == 0
        assert "there are no tasks" in end.out

    def test_background_waits_and_reports_it(self, command: Command, folder: Path) -> None:
        """The exit code is that of the run."""
        (folder / "away").touch()

        end = command("start", "--step", "jobs.extract", "--step", "jobs.load", "--mode", "background")

        assert end.code == 1
        assert end.err.startswith("Mode background: ")

    @pytest.mark.parametrize("storage", ["file", "sqlite"])
    def test_resume_goes_on_where_it_failed(self, command: Command, folder: Path, storage: str) -> None:
        """The finished step does not run again, and the summary shows it as restored."""
        arguments = ("--step", "jobs.extract", "--step", "jobs.load", "--workflow-id", "nightly", "--storage", storage)
        (folder / "away").touch()
        failed = command("start", *arguments)
        (folder / "away").unlink()
        resumed = command("start", *arguments, "--resume")

        assert (failed.code, resumed.code) == (1, 0)
        assert failed.out.endswith("Run the same command with --resume to go on from here.\n")
        assert "task 0 extract: Completed, restored\n" in resumed.out
        assert (folder / "ran").read_text().split() == ["extract", "load", "load", "load"]

    @pytest.mark.exhaustive(keep_every=2)
    @pytest.mark.parametrize(
        ("command", "workflow_id"),
        [
            (("--step", "jobs.extract", "--step", "jobs:load"), "jobs.extract+jobs.load"),
            (("--workflow", "jobs:loading"), "jobs:loading"),
        ],
    )
    def test_resume_needs_no_id(
        self, scripts: Scripts, folder: Path, command: tuple[str, ...], workflow_id: str
    ) -> None:
        """`--storage file --resume` is enough, the first time too, and the log names the id."""
        command = (*command, "--storage", "file", "--resume")
        (folder / "away").touch()
        failed = start(scripts, *command)
        (folder / "away").unlink()
        resumed = start(scripts, *command)

        assert (failed.code, resumed.code) == (1, 0)
        assert "task 0 extract: Completed, restored\n" in resumed.out
        assert f" INFO    Workflow id: {workflow_id} (derived from --" in resumed.err.splitlines()[0]
        assert (folder / ".output" / "flow.log").read_text() == failed.err + resumed.err

    @pytest.mark.parametrize("storage", ["file", "sqlite"])
    def test_many_steps_have_a_valid_id(self, command: Command, folder: Path, storage: str) -> None:
        """The id that is derived from their paths is not longer than a storage accepts."""
        steps = [part for _ in range(60) for part in ("--step", "jobs.silent")]

        assert command("start", *steps, "--storage", storage).code == 0
        assert "(60 restored)" in command("start", *steps, "--storage", storage, "--resume").out

    def test_the_path_is_that_of_the_values(self, command: Command, folder: Path) -> None:
        """--path is an argument of the storage."""
        command("start", "--step", "jobs.extract", "--storage", "file", "--path", ".storage", "--workflow-id", "x")

        (document,) = (folder / ".storage").rglob("0.json")
        assert json.loads(document.read_text())["value"] == [3, 5, 8]


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--step", "jobs.lod"], "Did you mean 'jobs.load'?"),
            (["--step", "job.load"], "Did you mean 'jobs'?"),
            (["--mode", "paralel"], "'paralel' is not one of 'sequential'"),
            (["--mode", "groups"], "Groups are made by add(group_name=...)"),
            (["--stp", "x"], "No such option"),
            ([], "Nothing to run. Use --step my_module.my_step"),
            (["jobs.py"], "Unexpected argument 'jobs.py'. Use --step my_module.my_step"),
            (["--workflow", "jobs:build", "more"], "Unexpected argument 'more'"),
            (["--step", "jobs.load", "--path", "x"], "Add --storage file or sqlite"),
            (["--step", "jobs.load", "--resume"], "--storage file"),
            (["--step", "jobs.train"], "step 'train' needs {'GPU': 1}, and this machine offers none"),
        ],
    )
    def test_each_is_one_line_with_a_remedy(
        self, command: Command, folder: Path, arguments: list[str], message: str
    ) -> None:
        """The exit code is 2, stdout is empty, and nothing was run."""
        end = command("start", *arguments)

        (line,) = end.err.splitlines()
        assert (end.code, end.out) == (2, "")
        assert line.startswith("dotflow")
        assert message in line
        assert not (folder / ".output").exists()

    def test_an_unknown_command(self, scripts: Scripts) -> None:
        """The error suggests the nearest one."""
        with scripts.command("strat") as command:
            end = command.end()

        assert end.code == 2
        assert end.err == "dotflow: No such command 'strat'. Did you mean 'start'? See 'dotflow --help'.\n"

    def test_a_module_that_fails_to_import(self, scripts: Scripts, folder: Path) -> None:
        """The reason is one line; --debug shows the traceback with the line in the user's module."""
        (folder / "broken.py").write_text("import nonexistent_thing\n")

        end = start(scripts, "--step", "broken.step")
        debugged = start(scripts, "--debug", "--step", "broken.step")

        assert "importing 'broken' raised ModuleNotFoundError" in end.err
        assert len(end.err.splitlines()) == 1
        assert 'broken.py", line 1' in debugged.err
        assert (end.code, debugged.code) == (2, 2)

    def test_a_workflow_that_is_busy_is_refused(self, scripts: Scripts, folder: Path) -> None:
        """One line names the process that runs it."""
        command = ("start", "--step", "jobs.wait", "--workflow-id", "mine", "--storage", "file")
        with scripts.command(*command) as first:
            assert first.line() == "waiting"
            with scripts.command(*command) as second:
                end = second.end()
            first.send(signal.SIGKILL)

        assert end.code == 2
        assert "Workflow 'mine' is being run by process" in end.err
        assert len(end.err.splitlines()) == 1

    def test_without_a_command_there_is_the_help(self, scripts: Scripts) -> None:
        """A newcomer types that first."""
        with scripts.command() as command:
            end = command.end()

        assert (end.code, end.err) == (0, "")
        assert end.out.startswith("Usage: dotflow ")
        assert "  start " in end.out

    def test_a_removed_folder_is_an_error(self, scripts: Scripts, folder: Path) -> None:
        """Nothing can be imported from it."""
        gone = folder / "gone"
        gone.mkdir()
        program = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
        with scripts.start(
            f"{program}from dotflow.cli.main import main\nraise SystemExit(main())\n", "start", "--step", "jobs.load"
        ) as script:
            end = script.end()

        assert end.code == 2
        assert end.err == "dotflow: The current folder was removed. Use cd to leave it.\n"


class TestSignals:
    @pytest.mark.exhaustive(keep_every=3)
    @pytest.mark.parametrize(
        ("mode", "signum", "code", "word"),
        each_once(["sequential", "background", "parallel"], [(2, 130, "Interrupted"), (15, 143, "Terminated")]),
    )
    def test_the_run_is_stopped_and_has_a_summary(
        self, scripts: Scripts, folder: Path, mode: str, signum: int, code: int, word: str
    ) -> None:
        """Ctrl-C is 130, SIGTERM 143: in every mode the steps end, and no process is left."""
        with scripts.command("start", "--step", "jobs.wait", "--mode", mode) as command:
            assert command.line() == "waiting"
            command.send(signum)
            end = command.end()
            assert command.left_behind() == []

        assert end.code == code
        assert "task 0 wait: Failed" in end.out
        assert f"{word}: 0 of 1 task completed, 1 failed" in end.out
        assert "Traceback" not in end.out

    def test_a_second_sigterm_ends_the_process_at_once(self, scripts: Scripts, folder: Path) -> None:
        """A step that goes on when it is interrupted holds up the first one."""
        with scripts.command("start", "--step", "jobs.stubborn") as command:
            assert command.line() == "waiting"
            command.send(signal.SIGTERM)
            assert command.line() == "still here"
            command.send(signal.SIGTERM)
            end = command.end()

        assert end.code == -signal.SIGTERM

    def test_a_background_run_ends_if_the_signal_comes_before_its_handle(self, scripts: Scripts, folder: Path) -> None:
        """Its thread runs already when `start` is interrupted; the command does not wait for it."""
        end = start(scripts, "--workflow", "jobs.hasty", "--mode", "background")

        assert end.code == 130
        assert "Interrupted: 0 of 1 task completed, 1 " in end.out  # failed, or not yet started

    def test_groups_end_too(self, scripts: Scripts, folder: Path) -> None:
        """Finished tasks are Completed."""
        with scripts.command("start", "--workflow", "jobs.groups") as command:
            for _ in ("left", "right"):
                while command.line() != "waiting":
                    pass
            command.send(signal.SIGINT)
            end = command.end()
            assert command.left_behind() == []

        assert end.code == 130
        assert "task 0 extract (left): Completed" in end.out


@pytest.mark.parametrize("code", [0, 1])
def test_a_reader_that_leaves_changes_nothing(scripts: Scripts, folder: Path, code: int) -> None:
    """`dotflow start ... | head -1`: the run goes on to its end and keeps its exit code."""
    if code:
        (folder / "away").touch()
    with scripts.command("start", "--workflow", "jobs.quiet") as command:
        assert command.process.stdout is not None
        assert command.process.stderr is not None
        command.process.stdout.close()
        assert command.process.wait(45) == code
        assert command.process.stderr.read() == ""

    assert (folder / "ran").exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("storage", ["s3", "gcs"])
def test_a_bucket_keeps_values_for_the_next_run(
    scripts: Scripts, folder: Path, storage: str, request: pytest.FixtureRequest
) -> None:
    """Credentials come from the environment; the second process goes on where the first failed."""
    bucket = request.getfixturevalue(storage)
    command = (
        *("--step", "jobs.silent", "--step", "jobs.load", "--workflow-id", f"cli-{storage}"),
        *("--storage", storage, "--bucket", bucket, "--prefix", "from-the-shell/"),
    )
    (folder / "away").touch()
    failed = start(scripts, *command)
    (folder / "away").unlink()
    resumed = start(scripts, *command, "--resume")

    assert (failed.code, resumed.code) == (1, 0), failed.err + resumed.err
    assert "task 0 silent: Completed, restored\n" in resumed.out


def test_a_full_disk_behind_stdout_changes_no_exit_code(scripts: Scripts, folder: Path) -> None:
    """It is that of the run; a line on stderr reports the missing summary."""
    with (
        Path("/dev/full").open("w") as full,
        scripts.command("start", "--workflow", "jobs.quiet", stdout=full.fileno()) as command,
    ):
        end = command.end()

    assert end.code == 0
    assert end.err == "dotflow: Can't write the output: No space left on device.\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_worker_output_comes_in_whole_lines(scripts: Scripts, folder: Path, unbuffered: str) -> None:
    """print() writes piece by piece if Python does not buffer; the lines of workers don't mix."""
    (folder / "prints.py").write_text(
        "from dotflow import DotFlow, action\n\n"
        "@action\n"
        "def talk(initial_context):\n"
        "    for number in range(500):\n"
        "        print('this', 'is', initial_context.storage, 'number', number)\n\n"
        "def build():\n"
        "    workflow = DotFlow()\n"
        "    for name in ('left', 'right', 'middle'):\n"
        "        workflow.task.add(talk, initial_context=name)\n"
        "    return workflow\n"
    )

    end = start(scripts, "--workflow", "prints:build", "--mode", "parallel", PYTHONUNBUFFERED=unbuffered)

    lines = [line for line in end.out.splitlines() if not line.startswith(("task ", "Completed"))]
    expected = [f"this is {name} number {number}" for name in ("left", "right", "middle") for number in range(500)]
    assert sorted(lines) == sorted(expected)
