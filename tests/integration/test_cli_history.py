"""`dotflow runs`, `show`, `diff` and `forget`, and the history of `dotflow start`, which is on by default."""

import importlib
import json
import os
import re
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from dotflow import Config, DotFlow, action, note
from dotflow.cli import screen
from dotflow.cli.commands.show import escape_output
from dotflow.cli.main import main
from dotflow.cli.pages import print_next
from dotflow.cli.screen import Column, Screen
from dotflow.control import Control
from dotflow.core.durations import format_duration
from dotflow.core.events import AttemptFailed, Traced
from dotflow.core.failure import Failure
from dotflow.errors import HistoryError
from dotflow.providers import HistoryPostgres, HistorySQLite, LogDefault
from tests.histories import Histories, begin, crash, files, nightly, numbers, quick, write
from tests.marks import on_sqlite

pytestmark = pytest.mark.databases("sqlite", "postgres", exhaustive=True)

JOBS = """
from dotflow import DotFlow, action

@action
def extract():
    print("reading")
    return [1, 2]

@action
def load():
    print("connecting")
    raise ConnectionError("the warehouse is away")

@action
def nests():
    workflow = DotFlow(workflow_id="inner")
    workflow.task.add(extract)
    workflow.start()

def nightly():
    workflow = DotFlow(workflow_id="nightly")
    workflow.task.add([extract, load])
    return workflow

def outer():
    workflow = DotFlow(workflow_id="outer")
    workflow.task.add(nests)
    return workflow

def unnamed():
    workflow = DotFlow()
    workflow.task.add(extract)
    return workflow
"""


@action(retry=4, retry_delay=0, retry_on=ConnectionError)
def refused() -> None:
    raise ValueError("no")


class Command:
    """The command, in this process; what it printed, and its exit code."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.err = ""
        self.code = 0

    def __call__(self, *arguments: str) -> str:
        self._capfd.readouterr()
        self.code = main(arguments)
        out, self.err = self._capfd.readouterr()
        return out

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*arguments, "--json").splitlines()]


@pytest.fixture
def dotflow(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOTFLOW_HISTORY", raising=False)
    return Command(capfd)


@pytest.fixture
def history(dotflow: Command, histories: Histories) -> Any:
    """The history where the commands look for it."""
    return histories.open_default()


# What is recorded


def test_start_records_its_runs(dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default in .output/history.db; the environment is as it was, then."""
    (tmp_path / "history_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)

    out = dotflow("start", "--workflow", "history_jobs:nightly")

    (run,) = dotflow.objects("runs")
    assert f"\nDetails: dotflow show {run['run_id'][:8]}\n" in out
    assert (run["workflow_id"], run["state"], run["trigger"]) == ("nightly", "Failed", "command")
    assert "DOTFLOW_HISTORY" not in os.environ
    assert dotflow("runs", "--history", ".output/history.db") == dotflow("runs")


def test_a_run_that_is_not_in_the_history_has_no_details(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the history can't be written, no command shows the run."""
    (tmp_path / "unrecorded_jobs.py").write_text(JOBS)
    (tmp_path / "file").touch()
    monkeypatch.syspath_prepend(tmp_path)

    out = dotflow("start", "--workflow", "unrecorded_jobs:nightly", "--history", "file/history.db")

    assert "Failed" in out
    assert "Details" not in out


def test_a_workflow_without_an_id_is_known_by_its_path(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its runs has another id, which means nothing to a reader."""
    (tmp_path / "unnamed_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        dotflow("start", "--workflow", "unnamed_jobs.unnamed")

    first, second = dotflow.objects("runs", "--workflow", "unnamed_jobs:unnamed")
    assert first["name"] == second["name"] == "unnamed_jobs:unnamed"
    assert first["workflow_id"] != second["workflow_id"]
    assert dotflow("runs").count("unnamed_jobs:unnamed") == 2
    assert "unnamed_jobs:unnamed" in dotflow("show").splitlines()[0]
    assert first["workflow_id"] not in dotflow("diff", first["run_id"], second["run_id"])
    assert "\nworkflow unnamed_jobs:unnamed\n" in dotflow("show", "last", "0")


def test_a_run_with_parameters_has_no_generated_id_either(dotflow: Command, history: HistorySQLite) -> None:
    """In its place is the name of the workflow, with the parameters."""
    workflow = DotFlow(Config(history=history), name="shop", params={"day": ...})
    workflow.task.add(refused)
    workflow.start(params={"day": 3})

    assert " shop@day=3 run " in dotflow.err + dotflow("log")
    assert " shop@day=3 " in dotflow("runs")
    assert dotflow("show").startswith("✗ Failed  shop@day=3  run ")
    assert "\nworkflow shop@day=3\n" in dotflow("show", "last", "0")


def test_workflows_of_steps_are_recorded_too(dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have their parent, and `last` is what was started."""
    (tmp_path / "history_outer.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)

    out = dotflow("start", "--workflow", "history_outer:outer", "--history", "here/runs.db")

    assert "Details" not in out  # it completed
    inner, outer = dotflow.objects("runs", "--history", "here/runs.db")
    assert (inner["workflow_id"], inner["parent"]["run_id"]) == ("inner", outer["run_id"])
    assert dotflow.objects("show", "last", "--history", "here/runs.db")[0]["run"]["children"] == [inner["run_id"]]
    assert f"inside   run {inner['run_id'][:8]}" in dotflow("show", "last", "--history", "here/runs.db")


@pytest.mark.parametrize(("options", "variable"), [(("--no-history",), "x.db"), ((), "0")], ids=["option", "variable"])
def test_the_history_can_be_turned_off(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], variable: str
) -> None:
    """By --no-history, which comes before the variable, and by DOTFLOW_HISTORY=0."""
    (tmp_path / "history_off.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DOTFLOW_HISTORY", variable)

    assert "Details" not in dotflow("start", "--step", "history_off.load", *options)

    assert not any(name.endswith(".db") for folder in (tmp_path, tmp_path / ".output") for name in files(folder))
    assert os.environ["DOTFLOW_HISTORY"] == variable


def test_a_history_of_ones_own_wins(dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow that has its own writes to that."""
    own = "import dotflow.providers as p\nfrom dotflow import Config, DotFlow\n"
    own += "def build():\n    return DotFlow(Config(history=p.HistorySQLite('own.db')))\n"
    (tmp_path / "history_own.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)

    dotflow("start", "--workflow", "history_own:build")

    assert len(dotflow.objects("runs", "--history", "own.db")) == 1
    assert dotflow("runs") == ""


def test_a_schedule_records_its_runs(dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what has started them."""
    module = "from dotflow import Config, DotFlow, action\nfrom dotflow.abc.scheduler import Scheduler\n"
    module += "class Once(Scheduler):\n    def start(self, workflow, **arguments):\n        workflow.start()\n"
    module += "    def stop(self): ...\n"
    module += "@action\ndef step(): ...\n"
    module += "def build():\n    workflow = DotFlow(Config(scheduler=Once()), workflow_id='often')\n"
    module += "    workflow.task.add(step)\n    return workflow\n"
    (tmp_path / "history_often.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)

    dotflow("schedule", "--workflow", "history_often:build", "--history", "often.db")

    assert [run["workflow_id"] for run in dotflow.objects("runs", "--history", "often.db")] == ["often"]


@pytest.mark.parametrize("options", [("--history", "a", "--no-history"), ("--history", "")], ids=str)
def test_options_that_make_no_sense_are_refused(dotflow: Command, options: tuple[str, ...]) -> None:
    """Nothing is run."""
    dotflow("start", "--step", "json.dumps", *options)

    assert dotflow.code == 2
    assert "history" in dotflow.err


# runs


def test_runs_are_a_line_each(dotflow: Command, history: HistorySQLite) -> None:
    """In a pipe each line has everything, without colours and without spaces at its end."""
    run = nightly(history).start(keep_going=True)
    quick(history).start()

    head, newest, oldest = dotflow("runs").splitlines()

    assert head.split() == ["Run", "Began", "Workflow", "State", "Duration", "Tasks", "What", "failed"]
    assert "quick     ✓ Completed" in newest
    assert oldest.startswith(run.run_id[:8])
    assert "nightly   ✗ Failed" in oldest
    assert "1/3  double: ItemsFailed: 1 of 3 items failed" in oldest
    assert not any(line.endswith(" ") or "\x1b" in line for line in (head, newest, oldest))


def test_a_list_has_one_line_for_each_run(dotflow: Command, history: HistorySQLite) -> None:
    """Generated ids of workflows are cut, and of an error the first line counts."""

    @action
    def load() -> None:
        raise ValueError("first\nsecond")

    workflow = DotFlow(Config(history=history, log=LogDefault(output="none")))
    workflow.task.add(load)
    workflow.start()

    _, line = dotflow("runs").splitlines()
    assert f"  {workflow.workflow_id[:8]}…  ✗ Failed" in line
    assert line.endswith("load: ValueError: first")


def test_runs_are_narrowed_by_options(dotflow: Command, history: HistorySQLite) -> None:
    """--failed also has crashed runs; dates and ages."""
    nightly(history).start()
    quick(history).start()
    begin(history, "aaaa1111", "extract")
    begin(history, "bbbb1111", "extract")
    crash(history, "bbbb1111")

    def states(*options: str) -> list[str]:
        return [run["state"] for run in dotflow.objects("runs", *options)]

    assert states("--failed") == ["Crashed", "Failed"]
    assert states("--running") == ["Running"]
    assert states("--workflow", "quick", "--since", "2d") == ["Completed"]
    assert states("--since", "2026-01-01", "-n", "2") == ["Crashed", "Running"]
    assert states("--since", "2999-01-01") == []
    assert dotflow("runs", "--workflow", "nobody") == ""
    assert dotflow.err == "No such runs.\n"
    dotflow("runs", "--since", "yesterday")
    assert dotflow.code == 2
    assert "--since yesterday is no time. Use an age, such as 90s, 12h or 2d, or a local time, such as" in dotflow.err


RECORD = "Run `dotflow start`, or set Config(history=HistorySQLite()) in a program;"
ELSEWHERE = "for another file, use --history or $DOTFLOW_HISTORY"


def test_no_runs_yet_is_an_empty_list(dotflow: Command, tmp_path: Path) -> None:
    """Exit code 0, a line that says what records runs and how another file is named, and no file is made."""
    hint = f"{RECORD} {ELSEWHERE}.\n"
    assert (dotflow("runs"), dotflow.code) == ("", 0)
    assert dotflow.err == f"No runs yet in .output/history.db. {hint}"
    assert (dotflow("runs", "--failed", "--json", "--history", "old.db"), dotflow.code, dotflow.err) == ("", 0, "")
    assert (dotflow("runs", "--failed", "--history", "old.db"), dotflow.code) == ("", 0)
    assert dotflow.err == f"No runs yet in old.db. {hint}"
    assert (dotflow("forget", "--all", "--yes"), dotflow.code) == ("0 runs deleted.\n", 0)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "last"),
        ("show",),
        ("diff", "last", "last"),
        ("forget", "last"),
        ("report",),
        ("replay", "last", "load"),
    ],
)
def test_a_run_of_a_history_without_runs_is_not_found(
    dotflow: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Exit code 2, an error that says what records runs, and no file is made."""
    assert (dotflow(*arguments), dotflow.code) == ("", 2)
    assert dotflow.err == (
        f"dotflow: Can't find the run 'last': .output/history.db has no runs yet. {RECORD} {ELSEWHERE}.\n"
    )
    assert files(tmp_path) == []


# show


def test_rounds_are_counted_as_rounds(dotflow: Command, history: HistorySQLite) -> None:
    """In a run, in a task, in the difference of two runs, and where a round does not exist."""

    def looped(enough: int) -> str:
        workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id="essay")
        inner = DotFlow(params={"draft": "a"})
        inner.task.add(action(lambda draft: f"{draft}+"), name="refine")
        inner.task.add(action(lambda refine: len(refine) > enough), name="good")
        workflow.task.add(inner, name="round", repeat=8, until="good", carry={"draft": "refine"})
        return workflow.start().run_id

    first, second = looped(1), looped(3)

    assert dotflow("show").count(" 3 of at most 8 rounds completed\n") == 2
    assert re.search(r"\nround +'a\+'\n\nRound  Given ", dotflow("show", "last", "round[1].refine"))
    assert "\nrounds   3 of at most 8 rounds completed\n\nRound  Given " in dotflow("show", "last", "1")
    assert re.search(r"1 round: 1 completed +3 rounds: 3 completed", dotflow("diff", first, second))
    dotflow("show", "last", "round[7].good")
    assert "Can't find round 7 of 'round.good': it has 3 rounds, which count from 0." in dotflow.err


RATES = """
from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

@action
def rates():
    return {"eur": "1"}

@action
def total(rates):
    return rates["eur"] + 1

daily = DotFlow(Config(storage=StorageFile("values")), workflow_id="daily")
daily.task.add(rates).add(total)
"""


def test_a_fix_that_was_not_used_is_named(dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step before the failed one was mended, and restored: summary, `show`, its JSON and `replay` say what helps."""
    monkeypatch.syspath_prepend(tmp_path)
    start = ("start", "--workflow", "mended_jobs:daily")
    says = "The code of 'rates' has changed since: --resume-changed runs it again."

    def run(code: str, *words: str) -> str:
        (tmp_path / "mended_jobs.py").write_text(code)
        sys.modules.pop("mended_jobs", None)
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "argv", ["dotflow", *words])  # which the commands are made of
        return dotflow(*words)

    assert says not in run(RATES, *start)
    mended = RATES.replace(
        '"1"', "1_000"
    )  # of another size: within a second, Python would take its bytecode for current
    assert says in run(mended, *start, "--resume")
    assert says in (shown := dotflow("show"))
    assert "  dotflow start --workflow mended_jobs:daily --resume-changed  # " in shown
    assert says in run(mended, "replay", "last", "total")
    (document,) = dotflow.objects("show")
    assert [entry["command"] for entry in document["commands"]][-1].endswith(" --resume-changed")
    assert says not in run(mended, *start, "--resume-changed")
    assert (dotflow.code, says in dotflow("show")) == (0, False)


def test_the_first_round_shows_what_it_was_given(dotflow: Command, history: HistorySQLite) -> None:
    """A default of the workflow in rounds, as the others show what was carried to them."""
    workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id="essay")
    inner = DotFlow(params={"draft": "a", "mark": "+"})
    inner.task.add(action(lambda draft, mark: f"{draft}{mark}"), name="refine")
    workflow.task.add(inner, name="round", repeat=2, carry={"draft": "refine"})
    run = workflow.start()

    assert run.value("round") == "a++"
    assert [attempts[0].input for attempts in history.load().find("round.refine")[0].items.values()] == ["'a'", "'a+'"]
    assert re.search(r"\nround +'a'\n", dotflow("show", "last", "round[0].refine"))


def test_a_map_says_how_much_of_it_is_not_listed(dotflow: Command, history: HistorySQLite) -> None:
    """Of 34 failed items 20 have a line, of 30 good ones as many, and of 24 attempts the last ones."""

    def odd(number: int) -> int:
        if number < 34:
            raise ValueError(number)
        return number

    workflow = DotFlow(Config(history=history, log=LogDefault(output="none")))
    workflow.task.add(action(lambda: list(range(36))), name="numbers")
    workflow.task.add(action(odd), each="numbers").add(action(lambda number: number), each="numbers", name="same")
    workflow.task.add(action(retry=24, retry_delay=0)(lambda: 1 / 0), name="tries")
    workflow.start(keep_going=True)

    assert "\nand 14 more failed items; --json lists all\n" in dotflow("show", "last", "odd")
    assert "\nand 16 more items; --json lists all\n" in dotflow("show", "last", "same")
    assert "\nand 4 earlier attempts; --json lists all\n" in dotflow("show", "last", "tries")
    assert "--json lists all" not in dotflow("show", "last", "odd#3")


@on_sqlite  # of a database that others may write to, no replay is offered
def test_a_run_is_shown_with_its_failures(dotflow: Command, history: HistorySQLite) -> None:
    """Its tasks, maps by counts, the messages, the user's lines of code, and what can be done next."""
    completed = quick(history, name="nightly").start()
    run = nightly(history).start(keep_going=True)
    short = run.run_id[:8]

    out = dotflow("show", "failed")

    assert out.startswith(f"✗ Failed  nightly (Nights)  run {run.run_id}\nbegan ")
    assert re.search(r"\n0 numbers  ✓ Completed .* \[1, 2, 3\]\n", out)
    assert re.search(r"\n1 double   ✗ Failed .* 2 of 3 items completed, 1 failed\n", out)
    assert re.search(r"\n2 load     ✗ Failed +2/2 .* ConnectionError\n", out)
    assert "\n  ✗ 1 double#1 2\n    ValueError: two\\x1b[31m is refused\n" in out
    assert re.search(r"histories.py:\d+ in load: raise ConnectionError", out)
    assert f"\n  dotflow show {short} double#1 " in out
    assert f"\n  dotflow show {short} double#1 --input " in out
    assert f"\n  dotflow diff {completed.run_id[:8]} {short} " in out
    assert f"\n  dotflow replay {short} double#1 " in out
    assert "\x1b" not in out


SHOP = """
from datetime import date
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

@action
def names():
    return ["a.txt", "b.txt", "c.txt"]

@action
def size(name):
    if name == "b.txt" and not Path("mended").exists():
        raise FileNotFoundError(name)
    return len(name)

@action(retry=2, retry_delay=0)
def report(day):
    with open("days", "a") as days:
        days.write(day + " ")
    if not Path("mended").exists():
        raise ConnectionError(day)
    return day

def sizes():
    workflow = DotFlow(workflow_id="sizes")
    workflow.task.add(names)
    workflow.task.add(size, each={"name": names})
    return workflow

def daily(day: str = "2026-11-01"):
    workflow = DotFlow(Config(storage=StorageFile()), workflow_id="daily", params={"day": day})
    workflow.task.add(report)
    return workflow
"""


@pytest.mark.parametrize(
    ("start", "steps"),
    [
        ("start -w shop:sizes", ["size", "size#1"]),
        ("start -w shop:sizes --storage sqlite --history other.db", ["size", "size#1"]),
        ("start -w shop:daily --param day=2026-11-02", ["report"]),
        ("start --step shop.names --step shop.report --param day=x", ["report", "1"]),
    ],
)
def test_every_command_that_is_offered_works(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, steps: list[str]
) -> None:
    """Those of the page, of `show RUN` and of `show RUN STEP`: none is refused, and each finds what it names."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.setattr(sys, "argv", ["dotflow", *start.split()])
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    assert (dotflow(*start.split()) != "", dotflow.code) == (True, 1)
    where = ["--history", "other.db"] if "other.db" in start else []
    (page,) = dotflow.objects("show", "last", *where)
    offered = [entry["command"] for entry in page["commands"]]
    for step in ([], *([step] for step in steps)):
        offered += re.findall(r"^  (dotflow .*?)  +#", dotflow("show", "last", *step, *where), re.MULTILINE)

    kinds = {shlex.split(command)[1] for command in offered}
    assert (kinds >= {"show", "replay"}) if not where else (kinds == {"show"})  # the history is not the default one
    for command in dict.fromkeys(offered):
        dotflow(*shlex.split(command)[1:])
        assert dotflow.code in (0, 1), (command, dotflow.err)
        assert dotflow.code == 0 or " replay " in command or " start " in command, (command, dotflow.err)


def test_the_command_to_go_on_has_the_parameters_of_the_run(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finishes this run, not the one that the defaults of another day would name."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    monkeypatch.setattr(sys, "argv", ["dotflow", "start", "-w", "shop:daily", "--param", "day=2026-11-02"])
    assert (dotflow(*sys.argv[1:]) != "", dotflow.code) == (True, 1)
    (tmp_path / "mended").touch()

    out = dotflow("show", "last")
    (command,) = re.findall(r"^  (dotflow start .*?)  +# go on from here", out, re.MULTILINE)
    dotflow(*shlex.split(command)[1:])

    assert (dotflow.code, (tmp_path / "days").read_text().split()[-1]) == (0, "2026-11-02")
    assert dotflow.objects("runs")[0]["workflow_id"] == "daily@day=2026-11-02"


def test_a_run_that_was_finished_since_is_not_resumed(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its page names the run that completed, of the same parameters, and compares with that one."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.delitem(sys.modules, "shop", raising=False)

    def start(day: str, *more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dotflow", "start", "-w", "shop:daily", "--param", f"day={day}", *more])
        dotflow(*sys.argv[1:])
        return str(dotflow.objects("runs")[0]["run_id"])[:8]

    start("2026-11-01")
    (tmp_path / "mended").touch()
    earlier = start("2026-11-01", "--resume")
    (tmp_path / "mended").unlink()
    failed = start("2026-11-02")
    (tmp_path / "mended").touch()
    start("2026-11-03")

    assert " --resume  # go on from here" in dotflow("show", failed)
    assert f"  dotflow diff {earlier} {failed} " in dotflow("show", failed)
    finished = start("2026-11-02", "--resume")
    start("2026-11-02")
    out = dotflow("show", failed, "--this")
    assert "--resume" not in out
    assert re.search(rf"^  dotflow show {finished} +# the run that has completed since$", out, re.MULTILINE)
    assert re.search(rf"^  dotflow diff {failed} {finished} +# what differs from the run that", out, re.MULTILINE)


def test_output_that_is_not_there_has_a_reason(dotflow: Command, history: HistorySQLite) -> None:
    """On stderr, so that a pipe gets exactly the bytes: none."""
    run = nightly(history).start()

    assert (dotflow("show", "last", "2", "--output"), dotflow.err) == ("", "'load' (task 2) has not started.\n")
    assert (dotflow("show", "last", "numbers", "--output"), dotflow.code) == ("", 0)
    assert dotflow.err == "The history has no output of 'numbers' (task 0).\n"
    assert dotflow("show", "last", "--output") == ""
    assert dotflow.err == f"The history has no output of the run {run.run_id[:8]}.\n"


@on_sqlite
def test_the_commands_have_the_history_of_the_option(dotflow: Command, history: HistorySQLite) -> None:
    """They can be copied as they are."""
    nightly(history).start()

    out = dotflow("show", "last", "--history", ".output/history.db")

    assert " double#1 --history .output/history.db " in out


def test_a_run_of_many_tasks_shows_those_that_did_not_complete(dotflow: Command, history: HistorySQLite) -> None:
    """Of more than fifty, the others are counted."""

    @action
    def fails() -> None:
        raise ValueError

    workflow = quick(history, *[numbers] * 60, fails, numbers)
    workflow.start()

    out = dotflow("show", "last")

    assert "60 fails    ✗ Failed" in out
    assert "61 numbers  · Not started" in out
    assert "\nand 60 more tasks" in out


def test_a_step_is_shown_with_all_attempts(dotflow: Command, history: HistorySQLite) -> None:
    """Each attempt, with its traceback."""
    nightly(history).start(keep_going=True)

    out = dotflow("show", "last", "load")
    item = dotflow("show", "last", "1#1")
    mapped = dotflow("show", "last", "double")

    assert "1  ↻ Retry" in out
    assert "2  ✗ Failed" in out
    assert out.count("Traceback (most recent call last)") == 2
    assert "policy   attempts 2, delay 0.0" in out
    assert "--input  # its inputs" in out
    assert item.startswith("✗ Failed  double#1  task 1 of run ")
    assert "ValueError: two\\x1b[31m is refused" in mapped
    assert [line.split()[0] for line in mapped.split("\n\n")[1].splitlines()] == ["Item", "1"]


def test_a_step_is_shown_with_its_files(
    dotflow: Command, history: HistorySQLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their size and state then, and whether they are the same now."""
    monkeypatch.chdir(tmp_path)
    paths = [Path(name) for name in ("same.txt", "other.txt", "gone.txt")]

    @action
    def write_all() -> list[Path]:
        for path in paths:
            path.write_text("12")
        return paths

    quick(history, write_all, numbers).start()
    Path("same.txt").touch()
    Path("other.txt").write_text("13")
    Path("gone.txt").unlink()

    lines = dotflow("show", "last", "write_all").split("\n\n")[2].splitlines()

    assert lines[0].split() == ["File", "Role", "Size", "Modified", "Now"]
    assert [(line.split()[:4], line.split()[-1]) for line in lines[1:]] == [
        ([f"{name}.txt", "made", "2", "B"], name) for name in ("same", "other", "gone")
    ]
    assert "File" not in dotflow("show", "last", "numbers")
    assert [file["path"] for file in dotflow.objects("show", "last", "write_all")[0]["files"]] == list(map(str, paths))


def test_items_are_named_by_their_arguments(dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside their number, in a run, in a list of items and on the page of one."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    dotflow("start", "-w", "shop:sizes")

    assert "\n  ✗ 1 size#1 'b.txt'\n    FileNotFoundError: b.txt\n" in dotflow("show")
    assert re.search(r"\n +1  'b.txt' +1  ✗ Failed ", dotflow("show", "last", "size"))
    assert "\nitem     'b.txt'\n" in dotflow("show", "last", "size#1")
    (page,) = dotflow.objects("show", "last")
    assert page["tasks"][1]["details"][0]["attempts"][0]["input"] == "'b.txt'"


def test_a_run_that_restored_everything_says_so(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, in the summary, with what to do to run the steps anew; a run of any step has no such line."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    (tmp_path / "mended").touch()
    command = ("start", "-s", "shop.names", "-s", "shop.report", "--param", "day=x", "--storage", "file")
    nothing = "Nothing ran: all 2 tasks were restored from an earlier run. Leave out"

    assert "Nothing ran" not in dotflow(*command, "--resume-unfinished")
    out = dotflow(*command, "--resume")
    assert (out.splitlines()[-1], dotflow.code) == (
        f"{nothing} --resume to run them anew, or use --resume-unfinished, which begins anew after a completed run.",
        0,
    )
    assert "Nothing ran" not in dotflow.err + (tmp_path / ".output/flow.log").read_text()
    assert "Nothing ran" not in dotflow(*command, "--resume-unfinished")
    assert (tmp_path / "days").read_text() == "x x "
    assert "Nothing ran" not in dotflow(*command, "--rerun", "report")


def test_resume_unfinished_goes_on_after_a_failure(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As --resume does; two ways to resume at once are refused, and `plan` takes it, too."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    options = ("-s", "shop.names", "-s", "shop.report", "--param", "day=x", "--storage", "file")
    dotflow("start", *options)
    (tmp_path / "mended").touch()

    assert "restore" in dotflow("plan", *options, "--resume-unfinished")
    assert "task 0 names: Completed, restored\n" in dotflow("start", *options, "--resume-unfinished")
    assert "0 restored, 2 run" in dotflow("plan", *options, "--resume-unfinished")
    assert "resumed" in dotflow("show", "last")
    dotflow("start", *options, "--resume-unfinished")
    assert "resumed" not in dotflow("show", "last")  # it began anew
    dotflow("start", *options, "--resume-unfinished", "--resume-changed")
    assert (dotflow.code, "Can't use --resume-changed with --resume-unfinished" in dotflow.err) == (2, True)
    dotflow("start", "-s", "shop.names", "--resume-unfinished")
    assert (dotflow.code, "--resume-unfinished needs a storage that outlives" in dotflow.err) == (2, True)
    dotflow("schedule", *options, "--cron", "@daily", "--resume-unfinished")
    assert (dotflow.code, "--resume-unfinished is for one run" in dotflow.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "remove"),
    [
        (("--resume", "--resume-unfinished"), "--resume, which the other one includes"),
        (("--resume-changed", "--resume"), "--resume, which the other one includes"),
        (("--resume-changed", "--resume-unfinished"), "one of them"),
    ],
)
@pytest.mark.parametrize("command", ["start", "plan"])
def test_two_ways_to_resume_are_refused(dotflow: Command, command: str, options: tuple[str, str], remove: str) -> None:
    """With what to write."""
    dotflow(command, "-s", "shop.names", "--storage", "file", *options)

    first, second = sorted(options)
    assert (dotflow.code, f": Can't use {first} with {second}. Remove {remove}. See" in dotflow.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ((), "with --resume"),
        (("--resume",), "again"),
        (("--resume-unfinished",), "again"),
        (("--rerun", "report"), "with --resume in place of --rerun"),
    ],
)
def test_the_hint_to_go_on_is_about_the_command(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], again: str
) -> None:
    """It does not tell to add an option that is there."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.delitem(sys.modules, "shop", raising=False)

    out = dotflow("start", "-s", "shop.names", "-s", "shop.report", "--param", "day=x", "--storage", "file", *options)

    assert (dotflow.code, out.splitlines()[-1]) == (1, f"Run the same command {again} to go on from here.")


def test_an_error_that_retry_on_refuses_says_so(dotflow: Command, history: HistorySQLite, tmp_path: Path) -> None:
    """In the log, in `show`, in `dotflow log` and in the page: not only "attempt 1" of four."""
    workflow = quick(history, refused, name="shop")
    workflow.config.log = LogDefault(output="file", path=tmp_path / "flow.log")
    run = workflow.start()

    log = (tmp_path / "flow.log").read_text()
    assert "task 0 refused: Failed (attempt 1 of 4: ValueError is not in retry_on): ValueError: no\n" in log
    assert "ValueError is not in retry_on" in dotflow.objects("log", "--path", "flow.log")[-1]["message"]
    assert "\n  ValueError: no\n  not repeated: ValueError is not in retry_on\n" in dotflow("show", "last")
    assert "\nAttempt 1, not repeated: ValueError is not in retry_on\n" in dotflow("show", "last", "refused")
    (page,) = dotflow.objects("show", "last")
    assert page["tasks"][0]["attempts"][0]["errors"][0]["refusal"] == "ValueError is not in retry_on"
    assert run.tasks[0].errors[0].exception == "ValueError"


def test_a_run_that_was_killed_between_two_attempts_says_so(dotflow: Command, history: HistorySQLite) -> None:
    """In the list, and in the run with the error of the attempt before."""
    begin(history, "4f0c9a21", "extract", "load")
    history.record("4f0c9a21", AttemptFailed(1, 1, Failure("ConnectionError", "away"), 60.0))
    history.settle("4f0c9a21", begins=True)
    crash(history, "4f0c9a21")

    assert "load: the process of the run ended between the attempts 1 and 2" in dotflow("runs")
    out = dotflow("show", "failed")
    assert "\nstopped  load: the process of the run ended between the attempts 1 and 2\n" in out
    assert "↻ 1 load\n  ConnectionError: away\n  the process of the run ended before the next attempt\n" in out


def test_the_time_of_a_crash_is_unknown(dotflow: Command, history: HistorySQLite) -> None:
    """The duration of a killed run is at least that until its last event; of another run it is exact."""
    begin(history, "aaaa1111", "extract", "load")
    crash(history, "aaaa1111")
    (run,) = dotflow.objects("runs")
    seconds = format_duration(run["duration"])

    assert not run["is_end_known"]
    assert f", ran at least {seconds}\n" in dotflow("show", "aaaa")
    assert f"> {seconds}" in dotflow("runs")
    quick(history).start()
    assert dotflow.objects("runs")[0]["is_end_known"]
    assert re.search(r", took \d", dotflow("show", "last"))
    assert f"> {seconds}" in dotflow("runs")  # it is written down by now


def test_a_crashed_run_has_its_last_step_and_output(dotflow: Command, history: HistorySQLite) -> None:
    """What was running is Crashed, with the last lines that it printed; of a progress bar the last state."""
    begin(history, "aaaa1111", "extract", "load")
    write(history, "aaaa1111", 1, b"connecting\n10%\r50%\rstuck \x1b]0;title\x07\n")
    crash(history, "aaaa1111")

    out = dotflow("show", "aaaa")

    assert out.startswith("✗ Crashed  shop  run aaaa1111")
    assert "0 extract  ✓ Completed" in out
    assert "1 load     ✗ Crashed" in out
    assert "  the process of the run ended during this attempt\n  | connecting\n  | stuck \\x1b]0;title\\x07\n" in out


def test_an_active_run_can_be_followed(dotflow: Command, history: HistorySQLite) -> None:
    """Its page says how."""
    begin(history, "aaaa1111", "extract")

    out = dotflow("show", "last")

    assert "0 extract  ▸ Running" in out
    assert "  dotflow show aaaa1111 --output -f  # follow what it prints" in out


def test_output_is_exact_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Every byte, and nothing else; followed, too."""
    monkeypatch.chdir(tmp_path)
    history = HistorySQLite()
    begin(history, "aaaa1111", "extract", "load")
    data = b"\xff\x00\x1b[31mred\r\nend"
    write(history, "aaaa1111", 1, data)
    write(history, "aaaa1111", 1, b"!", stream=2)
    crash(history, "aaaa1111")
    capfdbinary.readouterr()

    for arguments in (["last", "load"], ["last"], ["aaaa", "1", "--attempt", "1", "-f"]):
        assert main(["show", *arguments, "--output"]) == 0
        assert capfdbinary.readouterr() == (data + b"!", b"")
    history.close()


def test_gaps_of_the_output_are_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """stdout has exactly what was printed and kept. How much was dropped, and why, is on stderr."""
    monkeypatch.chdir(tmp_path)
    history = HistorySQLite(output_limit=4)
    begin(history, "aaaa1111", "load")
    for data, skipped in ((b"begin", 0), (b"middle", 1000), (b"end", 7)):
        write(history, "aaaa1111", 0, data, skipped=skipped)
    crash(history, "aaaa1111")
    capfdbinary.readouterr()

    assert main(["show", "last", "load", "--output"]) == 0
    assert capfdbinary.readouterr() == (
        b"beginend",
        b"[... 1006 bytes were dropped to keep 4 B ...]\n[... 7 bytes were dropped ...]\n",
    )
    history.close()


def test_a_tail_of_the_output_says_so(dotflow: Command, history: HistorySQLite) -> None:
    """How many lines there are, and what prints all of them; a short output is whole."""
    begin(history, "aaaa1111", "first", "load")
    write(history, "aaaa1111", 0, b"one\ntwo\n")
    write(history, "aaaa1111", 1, b"".join(b"line %d\n" % number for number in range(30)))
    crash(history, "aaaa1111")

    lines = dotflow("show", "last", "load").splitlines()
    title = lines.index("The last 20 of 30 lines of its output; --output prints all:")
    assert lines[title + 1 : title + 21] == [f"| line {number}" for number in range(10, 30)]
    assert "Its output:\n| one\n| two\n" in dotflow("show", "last", "first")


def test_an_error_has_no_escapes(dotflow: Command, history: HistorySQLite) -> None:
    """In a pipe neither, whose other end may be a terminal."""
    nightly(history).start(keep_going=True)

    error = dotflow("show", "failed", "double#1", "--error")

    assert error.endswith("ValueError: two\\x1b[31m is refused\n")
    assert "\x1b" not in error


def test_bare_parts_are_nothing_else(dotflow: Command, history: HistorySQLite, histories: Histories) -> None:
    """A traceback, an input, a value; a text as it is, all else as JSON."""

    @action
    def greeting() -> str:
        return "good\tday"

    nightly(history).start(keep_going=True)
    quick(histories.open_default(values="all"), greeting).start()

    error = dotflow("show", "failed", "load", "--error")
    assert error.startswith("Traceback (most recent call last)")
    assert error.endswith("ConnectionError: the warehouse is away\n")
    assert dotflow("show", "failed", "load", "--input") == "[\n  1,\n  2,\n  3\n]\n"
    assert dotflow("show", "failed", "double#1", "--input") == "2\n"
    assert dotflow("show", "last", "greeting", "--value") == "good\tday\n"
    assert dotflow.err == ""


@pytest.mark.parametrize("storage", ["file", "sqlite"])
def test_a_value_comes_from_the_checkpoint_of_the_run(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    """Where the history has no copy, until another run has replaced it."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    arguments = ("start", "-s", "shop.names", "--storage", storage, "--path", "kept")
    dotflow(*arguments)
    first = dotflow.objects("runs")[0]["run_id"]

    assert json.loads(dotflow("show", "last", "names", "--value")) == ["a.txt", "b.txt", "c.txt"]
    dotflow(*arguments, "--resume")
    assert json.loads(dotflow("show", "last", "names", "--value")) == ["a.txt", "b.txt", "c.txt"]
    dotflow(*arguments)
    assert (dotflow("show", first, "names", "--value"), dotflow.code) == ("", 2)
    assert "of other completed tasks are also in StorageFile and StorageSQLite until the next run" in dotflow.err
    assert dotflow("show", "last", "names", "--value", "--json") != ""


@pytest.mark.parametrize("storage", ["file", "sqlite"])
def test_a_pickled_checkpoint_is_not_loaded_to_be_shown(
    dotflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    """A pickle can run any program. The error asks for no repair, since the checkpoint is right."""
    (tmp_path / "models.py").write_text(
        "from dotflow import action\n\nclass Model: ...\n\n@action\ndef fit():\n    return Model()\n"
    )
    monkeypatch.delitem(sys.modules, "models", raising=False)
    dotflow("start", "-s", "models.fit", "--storage", storage, "--path", "kept", "--pickle")

    assert (dotflow("show", "last", "fit", "--value"), dotflow.code) == ("", 2)
    assert "Can't show the value of 'fit': its checkpoint is damaged, or a pickle, which is not loaded" in dotflow.err
    assert "delete" not in dotflow.err


def test_everything_is_json_too(dotflow: Command, history: HistorySQLite) -> None:
    """One object a line."""
    run = nightly(history).start(keep_going=True)

    (shown,) = dotflow.objects("show", "last")
    attempts = dotflow.objects("show", "last", "load")
    items = dotflow.objects("show", "last", "double")
    errors = dotflow.objects("show", "last", "load", "--error")
    (copy,) = dotflow.objects("show", "last", "load", "--input")

    double = shown["tasks"][1]
    assert (shown["run"]["run_id"], double["count"]) == (run.run_id, 3)
    assert double["counts"] == {"Completed": 2, "Failed": 1}
    assert [(entry["attempt"], entry["state"]) for entry in attempts] == [(1, "Retry"), (2, "Failed")]
    assert [entry["item"] for entry in items] == [None, 0, 1, 2]
    assert [entry["exception"] for entry in errors] == ["ConnectionError"] * 2
    assert (copy["role"], copy["document"]["value"]) == ("argument:numbers", [1, 2, 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("abc",), "needs 4 characters"),
        (("last", "lod"), "Did you mean 'load'?"),
        (("last", "double#9"), "it has 3 items"),
        (("last", "load", "--attempt", "3"), "Can't find attempt 3 of 'load': it has 2."),
        (("last", "numbers", "--error"), "it has none"),
        (("last", "numbers", "--value"), "A history with values='all' keeps them, of a map by item"),
        (("last", "numbers", "--input"), "those of failed steps are kept"),
        (("last", "--error"), "--error needs a step"),
        (("last", "--attempt", "1"), "--attempt needs a step"),
        (("last", "load", "--error", "--input"), "Can't use --error with --input"),
        (("last", "load", "-f"), "--follow needs --output"),
        (("last", "--history", ""), "--history needs the path"),
    ],
)
def test_a_missing_run_or_task_is_refused(
    dotflow: Command, history: HistorySQLite, arguments: tuple[str, ...], message: str
) -> None:
    """One line on stderr, and exit code 2."""
    nightly(history).start(keep_going=True)

    assert dotflow("show", *arguments) == ""

    assert dotflow.code == 2
    assert message in dotflow.err
    assert dotflow.err.count("\n") == 1


RUNS = ("show", "report", "diff", "forget", "cancel", "pause", "resume", "approve", "reject", "replay")


@pytest.mark.parametrize("command", RUNS)
def test_commands_take_a_run_by_its_workflow(dotflow: Command, history: HistorySQLite, command: str) -> None:
    """Their help lists the forms; an unknown name gets the nearest one."""
    nightly(history).start(keep_going=True)
    more = {"diff": ("last",), "replay": ("load",)}.get(command, ())

    assert "failed:etl" in dotflow(command, "--help")
    dotflow(command, "nigthly", *more)
    assert (dotflow.code, "Did you mean 'nightly'?" in dotflow.err) == (2, True)
    dotflow(command, "nightly", *more)
    assert "Can't find the run" not in dotflow.err


def test_a_workflow_without_a_begun_run_has_that_of_the_queue(dotflow: Command, history: HistorySQLite) -> None:
    """Otherwise, what waits in the queue is not the last run."""
    queued = Control(history).submit("nightly")
    assert history.summary("nightly").run_id == queued
    begun = nightly(history).start(keep_going=True)
    Control(history).submit("nightly", key="again")

    assert history.summary("nightly").run_id == begun.run_id
    (shown,) = dotflow.objects("show", "nightly")
    assert shown["run"]["run_id"] == begun.run_id


def test_a_chain_has_one_previous_run(history: HistorySQLite) -> None:
    """A run and those that continue it are one: what is before them is `previous`."""
    first = nightly(history).start(keep_going=True)
    for resume in (False, True):
        nightly(history).start(keep_going=True, resume=resume)

    assert history.summary("previous").run_id == history.summary("previous:nightly").run_id == first.run_id


# diff


def test_only_differences_are_printed(dotflow: Command, history: HistorySQLite) -> None:
    """Tasks, code, states and values; with --exit-code, differences are 1."""

    @action(retry=1)
    def load(numbers: list[int]) -> str:
        return "loaded"

    first = nightly(history).start(keep_going=True)
    changed = quick(history, numbers, name="nightly")
    changed.task.add(load)
    second = changed.start()
    ids = (first.run_id[:8], second.run_id[:8])

    found = {(entry["kind"], entry["name"]): entry for entry in dotflow.objects("diff", *ids)}
    table = dotflow("diff", *ids, "--exit-code")

    assert dotflow.code == 1
    assert found["run", "state"]["after"] == "Completed"
    assert found["task", "double"]["after"] is None
    assert found["state", "load"]["before"] == "Failed"
    assert found["value", "load"] == {"kind": "value", "name": "load", "before": "", "after": "'loaded'"}
    assert ("code", "load") in found
    assert not {("code", "numbers"), ("value", "numbers"), ("environment", "python")} & found.keys()
    assert re.search(r"\ntask +double +tests.histories:double +–\n", table)


def test_a_changed_value_is_there_once(dotflow: Command, tmp_path: Path) -> None:
    """As what a task returned, not again as the input of each task that took it."""

    def run(numbers: list[int]) -> str:
        @action
        def first() -> list[int]:
            return numbers

        @action
        def second(first: list[int]) -> int:
            return len(first)

        @action
        def third(previous_context: Any, initial_context: Any) -> int:
            return 3

        with closing(HistorySQLite("all.db", values="all")) as history:
            workflow = quick(history, first, second, name="w")
            workflow.task.add(third, initial_context=numbers[0])
            return workflow.start().run_id

    found = dotflow.objects("diff", run([1, 2]), run([5, 2]), "--history", "all.db")

    names = [entry["name"] for entry in found if entry["kind"] == "value"]
    assert names == ["first", "third initial"]


def test_notes_of_steps_are_compared(dotflow: Command, history: HistorySQLite) -> None:
    """The score of a model, with the score before; what is the same in both is left out."""

    def run(score: float) -> str:
        @action
        def train() -> None:
            note(rows=300, score=score)

        return quick(history, train, name="model").start().run_id

    before, after = run(0.91), run(0.93)
    found = [entry for entry in dotflow.objects("diff", before, after) if entry["kind"] == "note"]
    table = dotflow("diff", before, after)

    assert found == [{"kind": "note", "name": "train score", "before": 0.91, "after": 0.93}]
    assert re.search(r"\nnote +train score +0\.91 +0\.93\n", table)


def test_equal_runs_have_no_differences(dotflow: Command, history: HistorySQLite) -> None:
    """A run and itself."""
    nightly(history).start()

    assert dotflow("diff", "last", "last", "--exit-code") == "No differences.\n"
    assert dotflow.code == 0
    assert dotflow.objects("diff", "last", "last") == []


# forget


def test_forget_deletes_runs(dotflow: Command, history: HistorySQLite | HistoryPostgres) -> None:
    """By name, by age, or all that have ended; running ones are refused."""
    for _ in range(3):
        quick(history).start()
    begin(history, "aaaa1111", "extract")
    ended = history.runs(state="completed")[0].run_id

    reuse = " The database reuses the space." if isinstance(history, HistoryPostgres) else ""
    assert dotflow("forget", ended[:8]) == f"1 run deleted.{reuse}\n"
    assert dotflow("forget", "--older-than", "1h", "--yes") == "0 runs deleted.\n"
    dotflow("forget", "--older-than", "yesterday")
    assert "--older-than yesterday is no duration. Use a number with a unit: 90s, 12h or 7d." in dotflow.err
    dotflow("forget", "aaaa")
    assert (dotflow.code, "it is still running. Stop it first." in dotflow.err) == (2, True)
    assert dotflow("forget", "--all", "--yes") == f"2 runs deleted.{reuse}\n"
    assert [run["run_id"] for run in dotflow.objects("runs")] == ["aaaa1111"]


@pytest.mark.parametrize("arguments", [(), ("last", "--all"), ("--all", "--older-than", "1d")], ids=str)
def test_forget_needs_one_selection(dotflow: Command, arguments: tuple[str, ...]) -> None:
    """Nothing, or two ways at once, is refused."""
    dotflow("forget", *arguments)

    assert (dotflow.code, "What to forget?" in dotflow.err) == (2, True)


def test_forget_asks_first(dotflow: Command, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer nothing is deleted."""
    quick(history).start()

    dotflow("forget", "--all")

    assert dotflow.code != 0
    assert len(dotflow.objects("runs")) == 1


def test_a_trace_has_a_line(dotflow: Command, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id, or its address."""
    begin(history, "aaaa1111", "extract")
    history.record("aaaa1111", Traced(-1, 0, "4bf92f35", "00f067aa"))
    history.settle("aaaa1111", begins=True)

    assert "trace    4bf92f35\n" in dotflow("show", "last")
    monkeypatch.setenv("DOTFLOW_TRACE_URL", "https://traces.example/{trace}")
    assert "trace    https://traces.example/4bf92f35\n" in dotflow("show", "last")
    assert dotflow.objects("show", "last")[0]["run"]["trace_url"] == "https://traces.example/4bf92f35"


# Reports


def data_of(page: str) -> dict[str, Any]:
    """The document in a page."""
    (data,) = re.findall('<script type="application/json" id="data">(.*)</script>', page)
    read: dict[str, Any] = json.loads(data)
    return read


def test_a_report_is_a_file(dotflow: Command, history: HistorySQLite, tmp_path: Path) -> None:
    """In the current folder by default, and the command prints its name."""
    run = nightly(history).start(keep_going=True)
    name = f"run-{run.run_id[:8]}.html"

    assert dotflow("report").startswith(f"Wrote {name}, ")
    assert dotflow("report", "failed", "-o", "reports/run.html").startswith("Wrote reports/run.html, ")

    document = data_of((tmp_path / name).read_text())
    assert document["run"]["run_id"] == run.run_id
    assert [task["state"] for task in document["tasks"]] == ["Completed", "Failed", "Failed"]
    assert [entry["item"] for entry in document["tasks"][1]["details"]] == [1]
    assert {"task_id": 1, "item": 1}.items() <= document["commands"][0].items()
    assert data_of((tmp_path / "reports/run.html").read_text())["tasks"] == document["tasks"]


def test_a_report_for_a_pipe(dotflow: Command, history: HistorySQLite) -> None:
    """It is all that stdout has. Output that no single step wrote is in it, too."""
    begin(history, "aaaa1111", "extract", "load")
    write(history, "aaaa1111", 1, b"connecting\n")
    write(history, "aaaa1111", -1, b"a thread\n")

    page = dotflow("report", "last", "-o", "-")

    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    assert [(entry["task_id"], entry["parts"][0]["text"]) for entry in data_of(page)["output"]] == [
        (-1, "a thread\n"),
        (1, "connecting\n"),
    ]
    assert data_of(page)["run"]["ended"] is None


@on_sqlite
def test_a_report_that_can_not_be_written(dotflow: Command, history: HistorySQLite, tmp_path: Path) -> None:
    """One line, and exit code 2; the same for a run that is not there."""
    quick(history).start()

    assert dotflow("report", "-o", str(tmp_path)) == ""
    assert (dotflow.code, dotflow.err) == (2, f"dotflow: Can't write the report to {tmp_path}: Is a directory.\n")
    assert dotflow("report", "failed") == dotflow("report", "-o", "") == dotflow("report", "-o", "\0") == ""
    assert dotflow.code == 2
    assert files(tmp_path) == [".output"]


# From Python


@on_sqlite
def test_a_workflow_lists_its_runs(history: HistorySQLite) -> None:
    """Those with its id; without a history that is an error."""
    workflow = quick(history)
    workflow.start()
    nightly(history).start()

    assert [run.workflow_id for run in workflow.runs()] == ["quick"]
    assert workflow.runs(state="failed") == []
    with pytest.raises(HistoryError, match=r"Write Config\(history=HistorySQLite\(\)\)"):
        DotFlow(Config()).runs()


# Text


class Narrow(Screen):
    """A terminal of some columns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


@pytest.mark.parametrize("width", [24, 40, 80])
def test_a_table_fits(width: int) -> None:
    """Columns are cut in their order, wide characters count twice, and columns without content are left out."""
    columns = (Column("A"), Column("Empty"), Column("B", fits=1), Column("C", fits=2))
    rows = [["1", "", "日本語の長い名前" * 3, "x" * 30], ["2", "", "b", "c"]]

    lines = [str(line) for line in Narrow(width).table(columns, rows)]

    assert all(cell_len(line) <= width for line in lines)
    assert "Empty" not in lines[0]
    assert "…" in lines[1]


@pytest.mark.parametrize(
    ("count", "shown"), [(None, ""), (0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (23e6, "23 MB"), (2.5e9, "2.5 GB")]
)
def test_sizes_are_short(count: int | None, shown: str) -> None:
    """At most three digits, in powers of a thousand."""
    assert screen.size(count) == shown


def test_output_in_a_terminal_is_text() -> None:
    """What a terminal would act on is escaped, but line ends and tabs; invalid UTF-8, too."""
    data = b"\x1b]0;title\x07 \xff \xc2\x9b1m \xe2\x80\xae\tdone\r\n\x00"

    assert escape_output(data) == b"\\x1b]0;title\\x07 \\xff \\x9b1m \\u202e\tdone\n\\x00"


def test_commands_to_copy_have_no_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    """A task's name may have some, which a terminal must not act on. Escaped, they would make another command."""
    print_next(
        Screen(), [("dotflow replay 4f0c9a21 '\x1b]0;title\x07'", "run it again"), ("dotflow show 4f0c9a21", "it")]
    )

    assert capfd.readouterr().out == "\n  dotflow show 4f0c9a21  # it\n"
