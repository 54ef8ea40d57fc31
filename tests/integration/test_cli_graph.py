"""The graph from the command line: names, parameters, maps, branches, and cleanup after signals."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.children import Command, End, Scripts
from tests.integration.terminals import Terminal
from tests.integration.test_cli_terminal import COLOURED
from tests.marks import each_once

JOBS = """\
import time
from datetime import date
from pathlib import Path
from dotflow import DotFlow, action
from dotflow.engine import run

# A cleanup of half a second stands for one that takes longer than an interrupted run has otherwise.
run.CANCEL_GRACE = 0.1

RAN = Path("ran")

def note(text):
    with RAN.open("a") as file:
        print(text, file=file)

def until(name):
    while not Path(name).exists():
        time.sleep(0.01)

@action
def orders(day: date):
    note(f"orders {day:%d}")
    return 2

@action
def customers(limit: int = 5):
    note("customers")
    return limit

@action
def join(orders, customers):
    if Path("away").exists():
        raise ConnectionError("the database is away")
    print("joined", orders, customers)

def nightly(day: date, *, size: int = 10):
    workflow = DotFlow()
    @action
    def show():
        note(f"{day} {size}")
    workflow.task.add(show)
    return workflow

@action
def urls():
    return [f"page/{number}" for number in range(300)]

@action(retry=2, retry_delay=0)
def fetch(url: str):
    number = int(url[5:])
    if number == 150:
        until("go")
    if number % 100 == 7:
        raise ConnectionError(f"{url} is away")
    return number

@action
def good_enough(fetch):
    return len(fetch) > 1000

@action
def deploy(): ...

def crawl():
    workflow = DotFlow(name="crawl")
    workflow.task.add(urls).add(fetch, each=urls, keep_going=True).add(good_enough).add(deploy, when=good_enough)
    return workflow

def branches():
    workflow = DotFlow()
    workflow.task.add(action(lambda: False), name="good").add(deploy, when="good")
    return workflow

@action
def cluster():
    return "cluster"

@action
def work(cluster):
    print("working", flush=True)
    time.sleep(60)

@action
def teardown(cluster):
    print("tearing down", flush=True)
    until("go")
    note("torn down")

def cleanup():
    workflow = DotFlow()
    workflow.task.add(cluster).add(work).add(teardown, always=True)
    return workflow
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a user's module in it."""
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


def start(scripts: Scripts, *arguments: str) -> End:
    """Runs `dotflow start` to its end; nothing is left behind."""
    with scripts.command("start", *arguments) as command:
        end = command.end()
        assert command.left_behind() == []
        return end


STEPS = ("--step", "jobs.orders", "--step", "jobs.customers", "--step", "jobs.join", "--storage", "file")


@pytest.mark.parametrize("mode", ["sequential", "parallel", "background"])
def test_steps_are_wired_by_their_names(command: Command, folder: Path, mode: str) -> None:
    """And parameters by theirs, with the type of their annotation."""
    end = command("start", *STEPS, "--param", "day=2026-11-25", "--param", "limit=7", "--mode", mode)

    assert (end.code, end.out.splitlines()[0]) == (0, "joined 2 7")


def test_each_day_has_checkpoints_of_its_own(command: Command, folder: Path) -> None:
    """`--resume` with another day runs everything; with the same day it goes on from there."""
    (folder / "away").touch()
    failed = command("start", *STEPS, "--param", "day=2026-11-25")
    (folder / "away").unlink()
    other = command("start", *STEPS, "--param", "day=2026-11-26", "--resume")
    resumed = command("start", *STEPS, "--param", "day=2026-11-25", "--resume")

    assert (failed.code, other.code, resumed.code) == (1, 0, 0)
    assert "restored" not in other.out
    assert "(2 restored)" in resumed.out
    assert (folder / "ran").read_text().split("\n")[:-1] == ["orders 25", "customers", "orders 26", "customers"]
    workflow_id = "jobs.orders+jobs.customers+jobs.join@day=2026-11-25"
    assert f" INFO    Workflow id: {workflow_id} (derived from --step" in failed.err.splitlines()[0]


def test_a_factory_takes_parameters(command: Command, folder: Path) -> None:
    """They name the run: the same ones are restored, others are not."""
    arguments = ("--workflow", "jobs:nightly", "--storage", "sqlite", "--resume")
    ends = [command("start", *arguments, *more) for more in (("--param", "day=2026-11-25"),) * 2]
    ends.append(command("start", *arguments, "--param", "day=2026-11-25", "--param", "size=3"))

    assert [end.code for end in ends] == [0, 0, 0]
    assert [("restored" in end.out) for end in ends] == [False, True, False]
    assert (folder / "ran").read_text() == "2026-11-25 10\n2026-11-25 3\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workflow", "jobs:nightly"], "The run needs 'day'. Pass --param day=VALUE."),
        (["--step", "jobs.orders", "--param", "day=today"], "Can't use --param day=today: 'day' is a date"),
        (["--step", "jobs.orders", "--param", "dya=1"], "Did you mean 'day'?"),
        (["--step", "jobs.orders", "--params", "day=1"], "Did you mean '--param'?"),
        (["--step", "jobs.orders", "--parameter", "day=1"], "'--param'"),
        (["--step", "jobs.orders", "--param", "day"], "Can't use --param day: it is not NAME=VALUE."),
    ],
)
def test_wrong_parameters_run_nothing(command: Command, folder: Path, arguments: list[str], message: str) -> None:
    """One line on stderr, and exit code 2."""
    end = command("start", *arguments, "--storage", "file")

    (line,) = end.err.splitlines()
    assert (end.code, end.out) == (2, "")
    assert message in line
    assert not (folder / ".output").exists()


def test_every_run_of_a_schedule_has_the_parameters(scripts: Scripts, folder: Path) -> None:
    """A missing one is an error at once, not when the first run is due."""
    command = ("schedule", "--cron", "* * * * * *", "--workflow", "jobs:nightly")
    with scripts.command(*command) as refused:
        assert refused.end().err == "dotflow: The run needs 'day'. Pass --param day=VALUE.\n"
    with scripts.command(*command, "--param", "day=2026-11-25") as scheduled:
        assert scheduled.line().startswith("task 0 show: Completed")
        scheduled.send(signal.SIGINT)
        assert scheduled.end().code == 0

    assert (folder / "ran").read_text().startswith("2026-11-25 10\n")


def test_a_skipped_task_is_no_failure(command: Command, folder: Path) -> None:
    """The exit code is 0, and the summary has the reason."""
    end = command("start", "--workflow", "jobs:branches")

    assert end.code == 0
    assert end.out.splitlines()[1] == "task 1 deploy: Skipped, good was False"
    assert end.out.splitlines()[2].startswith("Completed: 1 of 2 tasks completed, 1 skipped, in ")


def test_a_failed_item_is_a_failure(command: Command, folder: Path) -> None:
    """The exit code is 1, though the others go on; the summary has the first failed items, and few lines in all."""
    (folder / "go").touch()
    end = command("start", "--workflow", "jobs:crawl", "--mode", "parallel")

    assert end.code == 1
    lines = end.out.splitlines()
    assert lines[1].startswith("task 1 fetch: Failed, 297 of 300 items, 3 failed, 3 retries, ")
    assert lines[2] == "    [7] 'page/7': ConnectionError: page/7 is away"
    assert lines[3].startswith("        jobs.py:")
    assert lines[-2].startswith("Failed: 2 of 4 tasks completed, 1 failed, 1 skipped, in ")
    assert lines[-1].startswith("Details: dotflow show ")


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("terminal", [(80, 24), (140, 24)], indirect=True)
def test_a_map_is_one_row_with_a_bar(scripts: Scripts, folder: Path, terminal: Terminal) -> None:
    """With counts while it runs; afterwards there is the table, whose notes stay in the terminal's width."""
    with scripts.command("start", "--workflow", "jobs:crawl", terminal=terminal.descriptor, **COLOURED) as command:
        lines = terminal.see(lambda lines: any("2 failed, 2 retries  150/300" in line for line in lines))
        (folder / "go").touch()
        assert command.process.wait(45) == 1
        end = terminal.see(lambda lines: any(line.startswith("Failed: 2 of 4") for line in lines))

    assert sum("fetch" in line for line in lines) == 1
    assert any("fetch" in line and "━━━━━━" in line for line in lines)
    text = " ".join(" ".join(end).split())
    assert "[7] 'page/7': ConnectionError: page/7 is away" in text
    assert "good_enough was False" in text
    assert any("1 fetch" in line and "Failed" in line and "297 of 300" in line for line in end)


def test_items_that_an_interrupt_stopped_are_not_listed(scripts: Scripts, folder: Path) -> None:
    """Only those that failed by themselves."""
    with scripts.command("start", "--workflow", "jobs:crawl") as command:
        while "fetch[107]: Failed" not in command.error_line():
            pass
        command.send(signal.SIGINT)
        end = command.end()

    lines = [line.strip() for line in end.out.splitlines() if line.startswith("    [")]
    assert end.code == 130
    assert [line.partition(":")[0] for line in lines] == ["[7] 'page/7'", "[107] 'page/107'"]


MODES = ["sequential", "background", "parallel"]


class TestCleanup:
    """Tasks with always=True run after a signal, in every mode."""

    @pytest.mark.exhaustive(keep_every=3)
    @pytest.mark.parametrize(
        ("mode", "signum", "code"), each_once(MODES, [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    )
    def test_it_has_all_the_time_it_takes(
        self, scripts: Scripts, folder: Path, mode: str, signum: signal.Signals, code: int
    ) -> None:
        """The command waits for its end, and keeps the exit code of the signal."""
        with scripts.command("start", "--workflow", "jobs:cleanup", "--mode", mode) as command:
            assert command.line() == "working"
            command.send(signum)
            assert command.line() == "tearing down"
            with pytest.raises(subprocess.TimeoutExpired):
                command.process.wait(0.4)
            (folder / "go").touch()
            end = command.end()
            assert command.left_behind() == []

        assert end.code == code
        assert (folder / "ran").read_text() == "torn down\n"
        assert "task 2 teardown: Completed" in end.out

    @pytest.mark.exhaustive(keep_every=3)
    @pytest.mark.parametrize(("mode", "second"), each_once(MODES, [signal.SIGINT, signal.SIGTERM]))
    def test_a_second_signal_ends_it(self, scripts: Scripts, folder: Path, mode: str, second: signal.Signals) -> None:
        """It fails, the summary reports it, and nothing is left behind."""
        with scripts.command("start", "--workflow", "jobs:cleanup", "--mode", mode) as command:
            assert command.line() == "working"
            command.send(signal.SIGINT)
            assert command.line() == "tearing down"
            command.send(second)
            end = command.end()
            assert command.left_behind() == []

        assert end.code == (130 if second is signal.SIGINT else 143)
        assert "task 2 teardown: Failed" in end.out
        assert not (folder / "ran").exists()

    def test_a_script_waits_for_it_too(self, scripts: Scripts, folder: Path) -> None:
        """After its last line, where a background run goes on."""
        with scripts.start("import jobs\nworkflow = jobs.cleanup()\nworkflow.start(mode='background')\n") as script:
            assert script.line() == "working"
            script.send(signal.SIGINT)
            assert script.line() == "tearing down"
            (folder / "go").touch()
            end = script.end()

        assert end.code == -signal.SIGINT
        assert (folder / "ran").read_text() == "torn down\n"
