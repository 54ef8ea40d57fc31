"""dotflow replay: one step of a past run again, with the inputs that it had and today's code."""

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow.cli.main import main
from dotflow.providers import HistoryPostgres, HistorySQLite
from dotflow.providers.histories.sqlite.history import DEFAULT_PATH
from dotflow.records.environment import describe_environment
from tests.histories import Histories
from tests.integration.children import Scripts
from tests.integration.terminals import Terminal
from tests.marks import on_sqlite

pytestmark = pytest.mark.databases("sqlite", "postgres", exhaustive=True)

AnyHistory = HistorySQLite | HistoryPostgres

JOBS = """\
from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite, StorageFile

@action
def extract():
    return [1, 2, 0]

@action
def load(extract):
    print("loading", extract)
    return [6 / number for number in extract]

@action
def first(previous_context):
    print("took", previous_context.storage, "of task", previous_context.task_id)
    raise LookupError("no first")

@action
def fetch(number):
    return 6 // number

@action
def count(extract_context, day="?"):
    raise ValueError(f"{extract_context.task_id} {extract_context.storage} {day}")

@action
async def wait():
    raise TimeoutError("too late")

@action(timeout=0.05)
def slow():
    import time
    time.sleep(0.3)

@action
class Report:
    def __init__(self, extract):
        self.rows = extract
    @action
    def one(self, initial_context):
        return len(self.rows)
    @action(retry=3, retry_delay=0)
    def two(self, previous_context, one):
        print("one is", one)
        raise KeyError(previous_context.storage)

class Loader:
    def __init__(self, table):
        self.table = table
    @action
    def store(self, extract):
        raise OSError(f"{self.table} is locked")
    @staticmethod
    @action
    def fixed():
        raise OSError("fixed")

@action
def rescue(extract):
    raise ConnectionError("no cache")

class Taker:
    @action
    def take(self, previous_context):
        raise KeyError(str(previous_context.storage))

def build(*steps, config=None, **options):
    workflow = DotFlow(config, workflow_id="jobs")
    workflow.task.add(extract)
    for step in steps:
        workflow.task.add(step, **options)
    return workflow

def all():
    def closed(extract):
        raise ValueError(f"closed over {size}")
    size = 3
    steps = load, first, count, wait, slow, Report, Loader("prices").store, Loader.fixed
    return build(*steps, action(lambda: 1 / 0), action(closed), action(lambda: Taker()))

@action
def pay(extract, idempotency_key):
    raise ConnectionError(f"paid {extract} with {idempotency_key}")

def paying():
    return build(pay)

def taking():
    return build(action(lambda: Taker()))

def mapped():
    return build(fetch, each="extract")

def rescued():
    return build(load, fallback=rescue)

@action
def explain(error, depth, second=None):
    raise OSError(f"{error.exception} at attempt {error.attempt}, {depth}, {second}")

def explained():
    workflow = DotFlow(workflow_id="jobs")
    workflow.task.add(extract, outputs=["first", "second", "third"])
    workflow.task.add(load, needs={"extract": "extract"}, fallback=explain, params={"depth": [3]})
    return workflow

@action
def table():
    from pathlib import Path
    Path("table.csv").write_text("1")
    return Path("table.csv")

@action
def read_table(table):
    raise LookupError(f"no row in {table}")

def with_file():
    workflow = DotFlow(workflow_id="files")
    workflow.task.add(table)
    workflow.task.add(read_table)
    return workflow

def paged():
    page = DotFlow(params={"number": ...})
    page.task.add(fetch)
    page.task.add(action(lambda fetch: fetch), name="parse")
    workflow = DotFlow(workflow_id="paged")
    workflow.task.add(extract)
    workflow.task.add(page, name="page", each="extract")
    return workflow

@action
def refine(draft):
    return draft * 2

@action
def good(refine):
    return refine >= 8

def repeated():
    inner = DotFlow(params={"draft": 1})
    inner.task.add(refine)
    inner.task.add(good)
    workflow = DotFlow(Config(storage=StorageFile(path="kept")), workflow_id="repeated")
    workflow.task.add(inner, name="round", repeat=8, until="good", carry={"draft": "refine"})
    return workflow

def nested():
    workflow = DotFlow(workflow_id="outer")
    workflow.task.add(mapped(), name="inner")
    return workflow
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, histories: Histories, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with jobs, in which commands and scripts run. A database of others would be asked about."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOTFLOW_HISTORY", str(tmp_path / DEFAULT_PATH))
    if histories.kind == "postgres":
        histories.open_default()
        monkeypatch.setattr(HistoryPostgres, "why_foreign", lambda history: "")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "argv", ["dotflow"])
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    (tmp_path / "replay_jobs.py").write_text(JOBS)
    yield tmp_path
    forget_jobs()


def forget_jobs() -> None:
    """The next import reads the file again."""
    for name in ("replay_jobs", "debugged", "shop", "shop.sizes"):
        sys.modules.pop(name, None)


Replay = Callable[..., tuple[int, str]]


@pytest.fixture
def replay(capfd: pytest.CaptureFixture[str]) -> Replay:
    """Returns the exit code of dotflow replay, and all that it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        forget_jobs()
        capfd.readouterr()
        code = main(["replay", *arguments])
        out, err = capfd.readouterr()
        return code, out + err

    return run


def start(*arguments: str) -> None:
    """Runs dotflow start, as a process of its own would."""
    sys.argv = ["dotflow", "start", *arguments]
    main(sys.argv[1:])
    forget_jobs()


def run_script(source: str) -> None:
    """Runs a script, as a process of its own would."""
    path = Path("nightly.py").absolute()
    path.write_text(source)
    sys.argv = [str(path), "--full"]
    runpy.run_path(str(path), run_name="__main__")


def history() -> AnyHistory:
    """That of the test."""
    return kept()


def kept(**given: Any) -> AnyHistory:
    """The same with other arguments, in the scripts of the tests, too."""
    if os.environ["DOTFLOW_HISTORY"] == "postgres":
        return HistoryPostgres(os.environ["DOTFLOW_POSTGRES_DSN"], **given)
    return HistorySQLite(DEFAULT_PATH, **given)


FILES = """\
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite, StorageFile

@action
def make(source):
    Path("rows.csv").write_text(source.read_text())
    return Path("rows.csv")

@action
def total(make, source):
    return sum(map(int, make.read_text().split()))

def build(*steps, config=None, **options):
    workflow = DotFlow(Config(storage=StorageFile()), workflow_id="files", params={"source": Path("in.txt")})
    workflow.task.add(make).add(total)
    return workflow
"""


# What is run again, and with what


@pytest.mark.parametrize("has_failed", [True, False], ids=["failed", "completed"])
def test_files_that_are_others_now_are_named(replay: Replay, has_failed: bool) -> None:
    """Of a failed step with copies of its inputs, and of one with those of the storage, which decides without files."""
    Path("replay_jobs.py").write_text(FILES)
    Path("in.txt").write_text("1 2 x" if has_failed else "1 2 3")
    start("--workflow", "replay_jobs:build")

    assert "  file " not in replay("last", "total")[1]
    Path("in.txt").write_text("5")
    Path("rows.csv").touch()
    assert re.findall("  file +(.*)", replay("last", "total")[1]) == ["in.txt is another file now"]
    Path("rows.csv").write_text("4")
    assert "returned 4\n" in replay("last", "total")[1]
    Path("rows.csv").unlink()
    code, text = replay("last", "total")
    assert re.findall("  file +(.*)", text) == ["rows.csv is gone", "in.txt is another file now"]
    assert (code, "FileNotFoundError" in text) == (1, True)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("load", "ZeroDivisionError: division by zero"),
        ("first", "LookupError: no first"),
        ("count", "ValueError: 0 [1, 2, 0] ?"),
        ("wait", "TimeoutError: too late"),
        ("slow", "TimeoutError: Step 'slow' did not finish within its timeout"),
        ("Report", "KeyError: 3"),
        ("Loader.store", "OSError: prices is locked"),
        ("Loader.fixed", "OSError: fixed"),
        ("9", "ZeroDivisionError: division by zero"),
        ("closed", "ValueError: closed over 3"),
    ],
)
def test_every_kind_of_step_fails_again_as_it_did(replay: Replay, step: str, error: str) -> None:
    """Functions, contexts, defaults, coroutines, timeouts, classes, methods, lambdas and closures."""
    start("--workflow", "replay_jobs:all", "--keep-going")

    code, text = replay("failed", step)

    assert code == 1
    assert text.count(error) >= 2
    assert f"then: {error}" in text
    assert "code " not in text


def test_a_step_has_the_values_that_it_had(replay: Replay) -> None:
    """The previous context with its task, and what the step prints goes through."""
    start("--workflow", "replay_jobs:all", "--keep-going")

    assert "loading [1, 2, 0]\n" in replay("failed", "load")[1]
    assert "took None of task None\n" in replay("failed", "first")[1]
    assert "one is 3\n" in replay("failed", "Report")[1]


def test_an_instance_that_a_step_returns_has_its_contexts(replay: Replay) -> None:
    """Its actions take them, and the step itself none."""
    start("--workflow", "replay_jobs:taking")

    assert "now: KeyError: '[1, 2, 0]'" in replay("failed", "1")[1]


def test_an_idempotency_key_is_a_new_one(replay: Replay) -> None:
    """No history has that of the run, and the output says what that means for an effect."""
    start("--workflow", "replay_jobs:paying")

    text = replay("failed", "pay")[1]
    assert "idempotency_key  a new one, so an effect takes place again" in text
    assert len({*re.findall(r"with ([-0-9a-f]{36})", text)}) == 2


def test_a_replay_decides_without_files(replay: Replay) -> None:
    """Otherwise no old run could be replayed: its files are often gone, or others by now."""
    start("--workflow", "replay_jobs:with_file")
    Path("table.csv").unlink()

    assert "now: LookupError: no row in table.csv" in replay("failed", "read_table")[1]


def test_tasks_without_an_attempt_are_not_replayed(replay: Replay) -> None:
    """A step that has not begun, that was skipped, or that is not there."""
    steps = "action(lambda: 0), name='zero').add(action(dir), name='never', when='zero').add(action(lambda: 1 / 0)"
    script = SCRIPT.replace("action({step})", f"{steps}).add(action(dir), name='rest'")
    run_script(script.format(config=""))

    assert "it has not begun in the run" in replay("failed", "rest")[1]
    assert (
        replay("failed", "nothing")[0]
        == replay("nothing", "rest")[0]
        == replay("failed", "2", "--attempt", "2")[0]
        == 2
    )
    assert "it was skipped, since zero was 0." in replay("failed", "never")[1]


def test_one_item_of_a_map(replay: Replay) -> None:
    """The map itself has none of its own."""
    start("--workflow", "replay_jobs:mapped", "--keep-going")

    assert replay("failed", "fetch#2")[0] == 1
    code, text = replay("failed", "fetch")
    assert code == 2
    assert "it is a map. Name an item: fetch#2." in text
    assert replay("failed", "fetch#9")[0] == 2


def test_a_task_of_a_workflow_in_a_workflow(replay: Replay) -> None:
    """By its whole name."""
    start("--workflow", "replay_jobs:nested", "--keep-going")

    assert "ZeroDivisionError" in replay("failed", "inner.fetch#2")[1]


@pytest.mark.parametrize("step", ["page[2].fetch", "page.fetch[2]", "page.fetch#2", "1#2"])
def test_an_item_of_a_workflow_for_each_item(replay: Replay, step: str) -> None:
    """By each of its addresses; that of the item of the whole workflow names its tasks, one of which is replayed."""
    start("--workflow", "replay_jobs:paged", "--keep-going")

    assert "ZeroDivisionError" in replay("failed", step)[1]
    code, text = replay("failed", "page[2]")
    assert code == 2
    assert "it is an added workflow. Name a task of it: page[2].fetch, page[2].parse." in text


def test_a_round(replay: Replay) -> None:
    """With what was carried into it."""
    start("--workflow", "replay_jobs:repeated")

    assert replay("last", "round[1].refine")[1].splitlines()[1] == "returned 4"
    assert "returned False\n" in replay("last", "round.good#1")[1]


def test_a_fallback_that_made_the_attempt(replay: Replay) -> None:
    """The last attempt was that of the fallback; --attempt 1 is the step itself."""
    start("--workflow", "replay_jobs:rescued")

    assert "now: ConnectionError: no cache" in replay("failed", "load")[1]
    assert "then: ZeroDivisionError: division by zero" in replay("failed", "load", "--attempt", "1")[1]
    assert "Can't find attempt 3 of 'load': it has 2." in replay("failed", "load", "--attempt", "3")[1]


def test_a_fallback_is_given_the_error_and_the_values_that_it_had(replay: Replay) -> None:
    """The error is that of the history, a part of a value comes with its task's, a written-down one from today."""
    start("--workflow", "replay_jobs:explained")

    assert "now: OSError: ZeroDivisionError at attempt 1, [3], 2" in replay("failed", "load")[1]


# What differs


def test_a_mended_step_returns(replay: Replay, folder: Path) -> None:
    """It says that the code has changed; the history gets a note."""
    start("--workflow", "replay_jobs:all", "--keep-going")
    (folder / "replay_jobs.py").write_text(JOBS.replace("6 / number for", "6 / (number or 1) for"))

    code, text = replay("failed", "load")

    assert code == 0
    assert re.search(r"^  code +changed$", text, re.MULTILINE)
    assert "returned [6.0, 3.0, 6.0]\n" in text
    assert "then: ZeroDivisionError: division by zero, now: returned (" in text
    ((_, note),) = history().load("failed").notes
    assert note.startswith("Replay of load: returned (")
    assert len(history().runs()) == 1


def test_it_prints_the_differences(replay: Replay, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit, the folder, Python, and the version of a package that is imported here."""
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("0123456789" * 4)
    environment = "dotflow.records.environment"
    monkeypatch.setattr(f"{environment}.packages", lambda path: {"click": "7.0", "numpy": "1.0", "moon": "1"})
    start("--workflow", "replay_jobs:all", "--keep-going")
    monkeypatch.setattr(f"{environment}.packages", lambda path: {"click": "8.0", "nothing": "2.0", "moon": "2"})
    (folder / ".git" / "HEAD").write_text("abcdef0123" * 4)
    now = describe_environment() | {"python": "3.99.0"}
    monkeypatch.setattr("dotflow.cli.commands.replay.describe_environment", lambda: now)

    lines = replay("failed", "load")[1].splitlines()

    assert "  commit    0123456789 → abcdef0123" in lines
    assert "  click     7.0 → 8.0" in lines
    assert any(line.startswith("  python    3.") and line.endswith(" → 3.99.0") for line in lines)
    assert not any("nothing" in line or "moon" in line for line in lines)


def test_another_workflow_of_the_same_steps_is_not_the_one(replay: Replay) -> None:
    """A script may start one for each day: the first one is what a closure is of."""
    script = SCRIPT.replace('"nightly"', '"nightly-1"').format(config="", step="lambda: 1 / 0")
    run_script(script)
    Path("nightly.py").write_text(script.replace("nightly-1", "nightly-2"))

    assert "  workflow  nightly-1 → nightly-2\n" in replay("failed", "0")[1]


def test_values_are_compared_where_the_history_has_a_digest(replay: Replay) -> None:
    """With values="all", a step that returned returns the same or another value."""
    run_script(SCRIPT.format(config="history=kept(values='all')", step="lambda: [1, 2]"))
    assert "then: returned, now: returned the same (" in replay("last", "0")[1]
    Path("nightly.py").write_text(Path("nightly.py").read_text().replace("[1, 2]", "[1, 3]"))
    assert "then: returned, now: returned another value (" in replay("last", "0")[1]


# Where the step is found

SCRIPT = """\
import sys
from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile
from tests.integration.test_replay import kept

print("begins with", sys.argv[1])
workflow = DotFlow(Config({config}), workflow_id="nightly")
workflow.task.add(action({step}))
workflow.start()
print("goes on")
"""


@pytest.mark.parametrize(
    "begin",
    [
        "workflow.start()",
        "if __name__ == '__main__': workflow.start(mode='background').wait()",
        "import asyncio; asyncio.run(workflow.astart())",
        "import threading; done = threading.Event(); workflow.launch(done.set); done.wait()",
        "workflow()",
    ],
)
def test_a_script_runs_up_to_its_first_start(replay: Replay, capfd: pytest.CaptureFixture[str], begin: str) -> None:
    """With its arguments; steps that only it has are found, and nothing after it runs."""
    run_script(SCRIPT.format(config="", step="lambda: 1 / 0").replace("workflow.start()", begin))
    assert "goes on" in capfd.readouterr().out

    code, text = replay("failed", "0")

    assert code == 1
    assert "begins with --full" in text
    assert "now: ZeroDivisionError: division by zero" in text
    assert "goes on" not in text
    assert len(history().runs()) == 1
    path = Path("nightly.py")
    path.write_text(path.read_text().replace(begin, "workflow.schedule()"))
    assert replay("failed", "0")[0] == 1


def test_a_script_without_a_start_is_refused(replay: Replay) -> None:
    """Also one that raises, that is gone, or whose step has gone."""
    script = SCRIPT.format(config="", step="lambda: 1 / 0")
    run_script(script)
    path = Path("nightly.py")

    path.write_text("")
    assert replay("failed", "0")[0] == 3
    assert "nightly.py ended before a start(). Mend that, or pass --workflow." in replay("failed", "0")[1]
    path.write_text("1 / 0")
    assert "nightly.py raised ZeroDivisionError: division by zero before a start()." in replay("failed", "0")[1]
    path.write_text("1 /")
    assert "nightly.py raised SyntaxError" in replay("failed", "0")[1]
    path.write_text(script.replace("action(lambda: 1 / 0)", "action(print)"))
    code, text = replay("failed", "0")
    assert (code, "another step is in its place (task 0: then __main__:<lambda>, now builtins:print)" in text) == (
        3,
        True,
    )
    path.unlink()
    assert "Pass --workflow, the path of a function that returns the workflow." in replay("failed", "0")[1]


def test_a_module_that_starts_at_its_import_does_not_run(replay: Replay, folder: Path) -> None:
    """The step is that of the workflow that it would have started."""
    start("--workflow", "replay_jobs:all", "--keep-going")
    (folder / "replay_jobs.py").write_text(f"{JOBS}\nall().start()\n")

    assert "now: ZeroDivisionError" in replay("failed", "load")[1]
    assert "now: ValueError: closed over 3" in replay("failed", "closed")[1]
    assert "now: ValueError: closed over 3" in replay("failed", "closed", "--workflow", "replay_jobs:all")[1]
    assert len(history().runs()) == 1


def test_a_named_task_may_move(replay: Replay, folder: Path) -> None:
    """If exactly one has the name and the step."""
    start("--workflow", "replay_jobs:all", "--keep-going")
    (folder / "replay_jobs.py").write_text(JOBS.replace("return build(load, first, ", "return build(first, "))

    assert "now: ValueError: closed over 3" in replay("failed", "closed")[1]


@pytest.mark.parametrize("options", [["start"], ["schedule", "--cron", "@daily"]])
def test_the_options_of_the_command_build_the_workflow_again(
    replay: Replay, folder: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """Parameters of the factory; --workflow and --param replace them."""
    factory = "\ndef sized(size: int):\n    return build(action(lambda: 1 // size))\n"
    (folder / "replay_jobs.py").write_text(JOBS + factory)
    described = ["--workflow", "replay_jobs:sized", "--param", "size=0"]
    monkeypatch.setattr(sys, "argv", ["dotflow", *options, *described])
    main(["start", *described])
    forget_jobs()

    assert replay("failed", "1")[0] == 1
    assert replay("failed", "1", "--workflow", "replay_jobs:sized", "--param", "size=2")[0] == 0
    assert replay("failed", "1", "--param", "size=2")[0] == 2


@pytest.mark.parametrize("name", ["shop", "shop.nightly"])
def test_a_module_that_was_run_by_python_m(replay: Replay, folder: Path, name: str) -> None:
    """With its relative imports, and the classes of its values."""
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "sizes.py").write_text("zero = 0\n")
    module = "__main__" if name == "shop" else "nightly"
    (folder / "shop" / f"{module}.py").write_text(PACKAGED)
    command = [sys.executable, "-m", name]
    assert subprocess.run(command, check=False, capture_output=True, text=True).stderr.count("ZeroDivisionError")

    code, text = replay("failed", "1")

    assert (code, "now: ZeroDivisionError" in text) == (1, True), text


PACKAGED = """\
from dataclasses import dataclass
from dotflow import DotFlow, action
from . import sizes
@dataclass
class Row:
    number: int
workflow = DotFlow()
workflow.task.add(action(lambda: Row(3)))
workflow.task.add(action(lambda previous_context: previous_context.storage.number / sizes.zero))
workflow.start()
"""


# Inputs


def test_input_replaces_the_values_of_the_history(replay: Replay, folder: Path) -> None:
    """In the lines of show --input --json, whose checksums don't count."""
    start("--workflow", "replay_jobs:all", "--keep-going")
    (copy,) = history().copies("failed", "load")
    assert copy.document is not None
    document = json.loads(copy.document) | {"value": [3]}
    edited = folder / "input.json"
    edited.write_text(json.dumps(copy._asdict() | {"document": document}) + "\n")

    assert "loading [3]" in replay("failed", "load", "--input", str(edited))[1]

    for text in ("[", "[3]", "{}", '{"role": "previous", "document": {"value": {"$": "?"}}}'):
        edited.write_text(text)
        code, output = replay("failed", "load", "--input", str(edited))
        assert (code, output.startswith("dotflow: Can't read --input: ")) == (2, True)


def test_values_that_were_not_kept(replay: Replay) -> None:
    """It says why, and what would have kept them."""
    script = SCRIPT.replace("action({step})", "action(lambda: 'x' * 100)).add(action(lambda previous_context: 1 / 0)")
    run_script(script.format(config="history=kept(value_limit=10)"))
    code, text = replay("failed", "1")
    assert code == 3
    assert (
        "Can't replay '<lambda>': its 'previous_context' was not kept. It has 100 bytes, and value_limit is 10" in text
    )

    run_script(script.format(config="history=kept(values='none')"))
    assert "A history with values='failed' keeps a copy" in replay("failed", "1")[1]

    run_script(script.replace("1 / 0", "1").format(config=""))
    assert "with values='all' those of all" in replay("last", "1")[1]


def test_a_step_that_completed_has_its_values_from_the_storage(replay: Replay) -> None:
    """Until a newer run voids them, or of the storage itself."""
    script = SCRIPT.replace(
        "action({step})", "action(lambda: [7])).add(action(lambda previous_context: previous_context.storage)"
    )
    run_script(script.format(config="storage=StorageFile('values')"))
    first = history().load("last").run_id

    assert "returned [7]\n" in replay(first, "1")[1]
    run_script(script.format(config="storage=StorageFile('values')"))
    code, text = replay(first, "1")
    assert (code, "that in StorageFile is of another run" in text) == (3, True)


def test_values_of_the_definition_may_be_others_today(replay: Replay) -> None:
    """The storage has the values of tasks only."""
    run_script("""
from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

@action
def pick(number, day):
    return number, day

workflow = DotFlow(Config(storage=StorageFile("values")), params={"day": "monday"})
workflow.task.add(pick, each=[7, 8])
workflow.start()
""")
    code, text = replay("last", "pick#1")

    assert (code, "returned (8, 'monday')" in text) == (0, True), text
    assert "  day       as today's workflow has it: the history did not keep it\n" in text
    assert "  number    as today's workflow has it: the history did not keep it\n" in text


def test_values_that_the_step_may_have_changed_come_from_the_storage(replay: Replay) -> None:
    """A copy in the history has a note, if there is no such storage."""
    pops = "action(lambda: [7])).add(action(lambda previous_context: previous_context.storage.pop() / 0)"
    script = SCRIPT.replace("action({step})", pops)
    run_script(script.format(config="storage=StorageFile('values')"))
    text = replay("last", "1")[1]
    assert ("may have changed it" in text, "now: ZeroDivisionError" in text) == (False, True)

    run_script(script.format(config=""))
    text = replay("last", "1")[1]
    assert "  previous_context  copied after the attempt, which may have changed it\n" in text
    assert "now: IndexError: pop from empty list" in text


def test_a_step_can_not_have_changed_a_date_or_a_path(replay: Replay) -> None:
    """So their copies have no note."""
    values = "action(lambda: (date(2026, 11, 3), time(2), Path('x'))[{place}]"
    failing = "action(lambda previous_context: 1 / 0"
    for place in range(3):
        steps = f"{values.format(place=place)})).add({failing})"
        source = SCRIPT.replace("action({step})", steps).format(config="")
        run_script(f"from datetime import date, time\nfrom pathlib import Path\n{source}")
        text = replay("last", "1")[1]
        assert ("may have changed it" in text, "now: ZeroDivisionError" in text) == (False, True)


def test_secrets_are_found_anew(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in no line of the output."""
    script = SCRIPT.replace("action({step})", "sync").replace("workflow = ", STEP_WITH_SECRET)
    monkeypatch.setenv("REPLAY_TOKEN", "old-secret-value")
    run_script(script.format(config=""))
    monkeypatch.setenv("REPLAY_TOKEN", "new-secret-value")

    code, text = replay("failed", "sync")

    assert code == 1
    assert "16 characters" in text
    assert "then: ValueError: ***, now: ValueError: ***" in text
    monkeypatch.delenv("REPLAY_TOKEN")
    assert replay("failed", "sync")[0] == 3


STEP_WITH_SECRET = """\
from dotflow import Secret
@action
def sync(token=Secret("REPLAY_TOKEN")):
    print(len(token), "characters")
    raise ValueError(token)
workflow = """


def test_a_class_that_the_step_does_not_import(replay: Replay, folder: Path) -> None:
    """The error names its module, which --import imports."""
    (folder / "replay_orders.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Order:\n    id: int = 1\n"
    )
    make = "lambda: __import__('replay_orders').Order()"

    steps = f"action({make})).add(action(lambda previous_context: 1 / 0)"
    script = SCRIPT.replace("action({step})", steps).format(config="")
    run_script(script)
    Path("nightly.py").write_text(script.replace(make, "lambda: None"))
    sys.modules.pop("replay_orders")

    code, text = replay("failed", "1")
    assert (code, "it holds a Order of the module 'replay_orders'" in text) == (3, True)
    assert replay("failed", "1", "--import", "replay_orders")[0] == 1
    assert replay("failed", "1", "--import", "replay_orderz")[0] == 3
    sys.modules.pop("replay_orders")


def test_pickles_are_those_of_the_workflow_that_keeps_them(replay: Replay) -> None:
    """Loading one runs code, so the history of today's workflow has to have pickle=True."""
    steps = "action(lambda: Odd())).add(action(lambda previous_context: 1 / previous_context.storage.zero)"
    odd = "class Odd:\n    __slots__ = ('zero', '__dict__')\n    def __init__(self): self.zero = 0\n"
    script = odd + SCRIPT.replace("action({step})", steps)
    run_script(script.format(config="history=kept(pickle=True)"))

    assert "now: ZeroDivisionError: division by zero" in replay("failed", "1")[1]
    Path("nightly.py").write_text(script.format(config=""))
    assert replay("failed", "1")[0] == 3


def test_a_secret_of_the_command_is_asked_for(replay: Replay, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history has it masked."""
    monkeypatch.setenv("SHOP_TOKEN", "a-long-secret")
    (folder / "replay_jobs.py").write_text(
        f"{JOBS}\ndef by(token):\n    return build(action(lambda: 1 / (token == '')))\n"
    )
    start("--workflow", "replay_jobs:by", "--param", "token=a-long-secret")

    code, text = replay("failed", "1")
    assert (code, "it had a secret, which the history does not keep. Pass --workflow and --param." in text) == (2, True)
    assert replay("failed", "1", "--workflow", "replay_jobs:by", "--param", "token=x")[0] == 1


@pytest.mark.exhaustive
def test_frames_come_back(replay: Replay) -> None:
    """pandas is imported by the step's own module."""
    pytest.importorskip("pandas")
    frame = "action(lambda: pandas.DataFrame({{'n': [1, 2]}})))"
    frame += ".add(action(lambda previous_context: int(previous_context.storage.n.sum() * 'x'))"
    script = "import pandas\n" + SCRIPT.replace("action({step})", frame)
    run_script(script.format(config=""))

    assert "now: ValueError: invalid literal for int() with base 10: 'xxx'" in replay("failed", "1")[1]


# Crashes

CRASH = """\
import os
from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

@action
def rows(): return [1, 2, 3]

@action(checkpoint=False)
def unsaved(): return 7

@action
def double(number): return 2 * number

@action
def total(double, rows_context, day, previous_context=None):
    print("total", double, rows_context.storage, rows_context.task_id, day)
    if os.environ.get("CRASH"): os._exit(9)

@action
def hurt(number):
    print("hurt", number)
    if os.environ.get("CRASH") and number == 4: os._exit(9)

@action
def lost(unsaved):
    os._exit(9)

def build(end):
    config = Config(storage=StorageFile("values"))
    workflow = DotFlow(config, workflow_id="jobs", params={"day": "monday"})
    workflow.task.add(rows).add(unsaved).add(double, each=rows).add(end, **({"each": "double"} if end is hurt else {}))
    return workflow

def whole(): return build(total)
def items(): return build(hurt)
def none(): return build(lost)
"""


@on_sqlite  # a database may miss the last 0.2 s before a crash
@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize(
    ("factory", "step", "output"),
    [("whole", "total", "total [2, 4, 6] [1, 2, 3] 0 friday\n"), ("items", "hurt#1", "hurt 4\n")],
)
def test_the_step_that_crashed_has_its_inputs_from_the_storage(
    replay: Replay, scripts: Scripts, factory: str, step: str, output: str
) -> None:
    """Values of tasks, of maps and their items, contexts and parameters, until a newer run voids them."""
    command = ["start", "--workflow", f"crash_jobs:{factory}", "--param", "day=friday"]
    (scripts.folder / "crash_jobs.py").write_text(CRASH)
    with scripts.command(*command, CRASH="1") as child:
        assert child.end().code == 9

    code, text = replay("failed", step)
    assert (code, output in text) == (0, True), text
    assert "then: crashed, now: returned (" in text
    assert "as today's workflow has it" not in text

    with scripts.command(*command) as child:
        assert child.end().code == 0
    code, text = replay(history().runs(state="crashed")[0].run_id, step)
    assert (code, "is of another run" in text) == (3, True), text
    sys.modules.pop("crash_jobs")


@on_sqlite
def test_inputs_of_a_crash_that_are_in_no_storage_are_missing(replay: Replay, scripts: Scripts) -> None:
    """A value with checkpoint=False, and one that only the process had."""
    (scripts.folder / "crash_jobs.py").write_text(CRASH)
    with scripts.command("start", "--workflow", "crash_jobs:none") as child:
        assert child.end().code == 9

    code, text = replay("failed", "lost")

    assert code == 3
    assert "Can't find the value of 'unsaved': its step has checkpoint=False" in text
    sys.modules.pop("crash_jobs")


# The debugger


DEBUGGED = """\
from dotflow import action
import asyncio, json, time

@action(timeout=0.2)
def parse(initial_context):
    text = initial_context.storage
    time.sleep(0.3)
    return json.loads(text)

@action(timeout=0.2)
async def wait():
    number = 41
    await asyncio.sleep(0.3)
    raise ValueError("late")

@action
class Shop:
    @action(retry=3, retry_delay=30)
    def open(self):
        raise OSError("closed")

@action(timeout=0.2)
def stops():
    number = 6
    breakpoint()
    time.sleep(0.3)
    return number + 1
"""


@pytest.mark.parametrize(
    ("step", "error", "frame", "expression", "value"),
    [
        ("parse", "JSONDecodeError: Expecting property name", "debugged.py(8)parse()", "text", "'{no}'"),
        pytest.param(
            *("wait", "ValueError: late", "debugged.py(14)wait()", "number + 1", "42"), marks=pytest.mark.exhaustive
        ),
        pytest.param(
            *("Shop", "OSError: closed", "debugged.py(20)open()", "self.__class__.__name__", "'Shop'"),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
@on_sqlite  # another process asks before it runs what a database names
def test_the_debugger_opens_where_the_step_raised(
    scripts: Scripts, terminal: Terminal, step: str, error: str, frame: str, expression: str, value: str
) -> None:
    """In its own frame, above the library that it called; without its timeout, and without another attempt."""
    (scripts.folder / "debugged.py").write_text(DEBUGGED.replace("retry_delay=30", "retry_delay=0"))
    start("--step", f"debugged:{step}", "--initial-context", "{no}")
    (scripts.folder / "debugged.py").write_text(DEBUGGED)

    with scripts.command("replay", "last", step, "--pdb", terminal=terminal.descriptor) as child:
        lines = terminal.see(lambda lines: "(Pdb)" in lines)
        assert error in "".join(lines)
        assert frame in "".join(lines)
        terminal.type(f"p {expression}\n")
        terminal.see(lambda lines: value in lines)
        terminal.type("q\n")
        assert child.end().code == 1
    assert f"now: {error}" in "".join(terminal.all())


@on_sqlite
def test_a_breakpoint_stops_in_the_step(scripts: Scripts, terminal: Terminal) -> None:
    """It goes on from there, and q ends the step."""
    (scripts.folder / "debugged.py").write_text(DEBUGGED.replace("breakpoint()", "1 / 0"))
    start("--step", "debugged:stops")
    (scripts.folder / "debugged.py").write_text(DEBUGGED)

    with scripts.command("replay", "last", "stops", "--no-timeout", terminal=terminal.descriptor) as child:
        terminal.see(lambda lines: "(Pdb)" in lines)
        terminal.type("c\n")
        terminal.see(lambda lines: "returned 7" in lines)
        assert child.end().code == 0
    with scripts.command("replay", "last", "stops", "--pdb", terminal=terminal.descriptor) as child:
        terminal.see(lambda lines: lines.count("(Pdb)") == 1)
        terminal.type("q\n")
        assert child.end().code == 1
    assert "now: the debugger ended it" in "".join(terminal.all())
