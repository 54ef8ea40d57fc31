"""The contract Archive, as all histories have it: runs of the past, and a file that reading leaves as it is."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from dotflow import Config, Control, DotFlow, Run, action, clock
from dotflow.abc.archive import Archive
from dotflow.abc.history import History
from dotflow.abc.operations import Operations
from dotflow.core.events import AttemptFailed, AttemptOutput, Event
from dotflow.core.failure import Failure
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.engine import background
from dotflow.errors import HistoryError, InvalidArgument, NotInHistory
from dotflow.providers import HistoryPostgres, HistorySQLite, LogDefault
from dotflow.records.record import OutputKey
from tests.histories import (
    FIFTH_FORMAT,
    FOURTH_FORMAT,
    SEVENTH_FORMAT,
    SIXTH_FORMAT,
    asking,
    begin,
    crash,
    nightly,
    numbers,
    quick,
    write,
)

#: From the present format to the third one, to the second one, and to the first one.
THIRD_FORMAT = f"""{FOURTH_FORMAT} DROP VIEW note_list; DROP VIEW attempt_list; ALTER TABLE attempts DROP COLUMN asked;
    CREATE VIEW attempt_list AS SELECT run, task FROM attempts; PRAGMA user_version = 3;
ALTER TABLE questions DROP COLUMN about;
"""
SECOND_FORMAT = f"""{THIRD_FORMAT} DROP VIEW run_list; DROP VIEW attempt_list;
    DROP INDEX runs_continues; DROP INDEX runs_origin; DROP INDEX runs_base; DROP INDEX runs_running;
    DROP INDEX runs_open; DROP TABLE wanted; DROP TABLE workflows;
    DROP TABLE servers; DROP TABLE orders; DROP TABLE schedules; DROP TABLE questions; DROP TABLE grants;
    DROP TABLE task_notes;
    ALTER TABLE runs DROP COLUMN workflow; ALTER TABLE runs DROP COLUMN params; ALTER TABLE runs DROP COLUMN submitted;
    ALTER TABLE runs DROP COLUMN origin; ALTER TABLE runs DROP COLUMN continues; ALTER TABLE runs DROP COLUMN begun;
    ALTER TABLE runs DROP COLUMN superseded; ALTER TABLE runs DROP COLUMN inputs;
    ALTER TABLE attempts DROP COLUMN files; CREATE VIEW run_list AS SELECT run FROM runs;
    CREATE VIEW attempt_list AS SELECT run, task FROM attempts; PRAGMA user_version = 2;"""
FIRST_FORMAT = f"""{SECOND_FORMAT} DROP VIEW error_list;
    ALTER TABLE attempts DROP COLUMN input; ALTER TABLE errors DROP COLUMN refusal;
    CREATE VIEW error_list AS SELECT run, task FROM errors;
    PRAGMA user_version = 1"""


@dataclass
class Span:
    first: int
    last: int


@action
def describe(value: object) -> str:
    return str(value)


@action
def double(number: int, by: int) -> int:
    return number * by


AnyHistory = HistorySQLite | HistoryPostgres
#: Opens the file.
ON_FILE = pytest.mark.parametrize("history", ["sqlite"], indirect=True)


@pytest.fixture(params=["sqlite", "postgres"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyHistory]:
    """Each history that can be read."""
    made: AnyHistory
    if request.param == "sqlite":
        made = HistorySQLite(tmp_path / "history.db")
    else:
        made = HistoryPostgres(request.getfixturevalue("postgres_history"), late=0)
    with closing(made):
        yield made


# Lists


def test_runs_are_listed_newest_first(history: AnyHistory) -> None:
    """A summary has the state, the counts and what failed first."""
    quick(history).start()
    run = nightly(history).start(keep_going=True)

    newest, oldest = history.runs()

    assert (newest.run_id, newest.state, newest.tasks, newest.completed) == (run.run_id, TypeRunState.FAILED, 3, 1)
    assert newest.error.startswith("double: ItemsFailed: 1 of 3 items failed")
    assert newest.duration is not None
    assert (oldest.workflow_id, oldest.state, oldest.error) == ("quick", TypeRunState.COMPLETED, "")


def test_lists_can_be_narrowed(history: AnyHistory) -> None:
    """By state, workflow (with its parameters, or by its name), age and number."""
    nightly(history).start()
    quick(history).start()
    quick(history, name="quick@day=1").start()
    begin(history, "running", "extract")

    def ids(**conditions: object) -> list[str]:
        return [run.workflow_id for run in history.runs(**conditions)]  # type: ignore[arg-type]

    assert ids(state="failed") == ids(workflow="Nights") == ids(workflow="nightly") == ["nightly"]
    assert ids(workflow="quick") == ["quick@day=1", "quick"]
    assert ids(workflow="quick", limit=1, state=["Completed", "Failed"]) == ["quick@day=1"]
    assert ids(state=TypeRunState.RUNNING) == ["shop"]
    assert ids(state="running", workflow="quick") == []
    assert len(ids(since="1h")) == len(ids(since=timedelta(hours=1))) == len(ids(limit=None)) == 4
    assert ids(since=clock.now()) == []
    assert ids(workflow="nobody") == []


@pytest.mark.parametrize(
    "conditions", [{"state": "dead"}, {"since": "yesterday"}, {"limit": -1}, {"state": [1]}], ids=str
)
def test_a_condition_that_is_none_is_refused(history: AnyHistory, conditions: dict[str, object]) -> None:
    """An invalid argument is an error of its own, and no empty list."""
    with pytest.raises(InvalidArgument, match=next(iter(conditions))):
        history.runs(**conditions)  # type: ignore[arg-type]


def test_an_active_run_counts_ended_tasks(history: AnyHistory) -> None:
    """Before its end, a run has the counts so far."""
    begin(history, "running", "extract", "load")

    (run,) = history.runs()

    assert (run.state, run.tasks, run.completed, run.ended, run.duration) == ("Running", 2, 1, None, None)


@pytest.mark.parametrize("starts", ["start", "astart"])
def test_a_background_run_is_in_the_history_when_start_returns(history: AnyHistory, starts: str) -> None:
    """Who asks right after it finds this run, not the one before."""
    workflow = quick(history)

    def start() -> Run:
        if starts == "start":
            return workflow.start("background")
        return asyncio.run(workflow.astart("background"))

    for _ in range(20):
        run = start()
        assert history.runs(limit=1)[0].run_id == run.run_id
        run.wait()


def test_a_history_that_hangs_holds_up_no_background_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """start() returns without it."""
    monkeypatch.setattr(background, "RECORD_PATIENCE", 0.01)
    gate = threading.Event()

    class Hangs(History):
        def record(self, run_id: str, event: Event) -> None:
            gate.wait(60)

    workflow = DotFlow(Config(history=Hangs(), log=LogDefault(output="none")))
    workflow.task.add(numbers)

    run = workflow.start("background")
    assert not run.wait(0)
    gate.set()
    assert run.wait(60)


@ON_FILE
def test_a_run_whose_process_is_gone_has_crashed(history: HistorySQLite) -> None:
    """It is Crashed for readers, before anybody has written it down; with its last step and its last moment."""
    begin(history, "11111111", "extract", "load")
    crash(history, "11111111")

    (listed,) = history.runs(state="crashed")
    loaded = history.load("failed")

    assert (listed.state, listed.completed) == (loaded.state, loaded.completed) == ("Crashed", 1)
    assert listed.error == "load: the process of the run ended during this step"
    assert listed.ended is not None
    assert [task.state for task in loaded.steps] == ["Completed", "Crashed"]
    assert history.runs(state="running") == history.runs(state=["running", "failed"]) == []
    with closing(sqlite3.connect(history.path)) as database:
        assert database.execute("SELECT state FROM runs").fetchall() == [("Running",)]
    quick(history).start()
    assert [run.state for run in history.runs()] == ["Completed", "Crashed"]


def test_a_crashed_run_lasted_until_its_last_output(history: AnyHistory) -> None:
    """A step that ran for an hour before the crash was no short one."""
    begin(history, "11111111", "extract")
    later = clock.now() + timedelta(hours=1)
    history.record("11111111", AttemptOutput(0, 1, 1, b"still there", later))
    history.settle("11111111", begins=True)
    assert history.runs()[0].is_end_known
    crash(history, "11111111")

    assert history.runs()[0].ended == history.load("last").ended == later
    assert not history.runs()[0].is_end_known


def test_a_crash_between_two_steps_is_one(history: AnyHistory) -> None:
    """It has the same words before and after it was written down."""
    begin(history, "11111111")
    crash(history, "11111111")

    before = history.runs()
    quick(history).start()

    assert before == history.runs(state="crashed")
    assert before[0].error == "the process of the run ended between two steps"


def test_a_crash_between_two_attempts_is_one(history: AnyHistory) -> None:
    """The error names the step that waited, and its attempts; it is the same once it was written down."""
    begin(history, "11111111", "extract", "load")
    failure = Failure("ConnectionError", "the warehouse is away")
    history.record("11111111", AttemptFailed(1, 1, failure, 60.0))
    history.settle("11111111", begins=True)
    crash(history, "11111111")

    before = history.load("last")
    quick(history).start()

    assert before.error == "load: the process of the run ended between the attempts 1 and 2"
    assert history.load("11111111").error == before.error
    assert [task.name for task in before.failures] == ["load"]


# One run


def test_a_run_has_its_tasks_attempts_and_errors(history: AnyHistory) -> None:
    """Names, states, every attempt and item, and each error with its traceback."""
    nightly(history).start(keep_going=True)

    run = history.load()

    assert [(task.name, task.state, task.count) for task in run.steps] == [
        ("numbers", "Completed", None),
        ("double", "Failed", 3),
        ("load", "Failed", None),
    ]
    _, double, load = run.steps
    assert double.counts == {TypeAttemptState.COMPLETED: 2, TypeAttemptState.FAILED: 1}
    assert [attempt.state for attempt in load.attempts] == ["Retry", "Failed"]
    (error,) = load.attempts[1].errors
    assert (error.exception, error.message, error.retry_in) == ("ConnectionError", "the warehouse is away", None)
    assert "in load" in error.traceback
    assert load.policy == {"attempts": 2, "delay": 0.0}
    assert run.steps[0].attempts[0].glimpse == "[1, 2, 3]"
    assert {"python", "packages", "argv", "commit"} <= run.environment.keys()


def test_items_have_a_text_of_their_arguments(history: AnyHistory) -> None:
    """Plain data as it is, paths as texts, dataclasses by their fields; several arguments by name; none for a task."""
    workflow = quick(history)
    workflow.task.add(describe, each=[Path("b.txt"), Span(1, 2), {"a": "x" * 100}])
    workflow.task.add(double, each={"number": [1, 2], "by": [3, 4]}, name="both")
    workflow.start()

    _, described, both = history.load().steps
    assert [described.items[item][-1].input for item in range(2)] == ["'b.txt'", "Span(first=1, last=2)"]
    assert len(described.items[2][-1].input) == 80
    assert [both.items[item][-1].input for item in range(2)] == ["{'number': 1, 'by': 3}", "{'number': 2, 'by': 4}"]
    assert described.attempts[-1].input == ""


@ON_FILE
def test_a_history_of_the_first_format_is_read_and_upgraded(history: HistorySQLite) -> None:
    """Before a run is written to it, its items have no texts; after that, new ones have."""
    run = nightly(history).start(keep_going=True).run_id
    history.close()
    with closing(sqlite3.connect(history.path)) as database:
        database.executescript(FIRST_FORMAT)

    assert [items[-1].input for items in history.load(run).steps[1].items.values()] == ["", "", ""]
    assert history.load(run).steps[2].attempts[-1].errors[-1].refusal == ""
    nightly(history).start(keep_going=True)
    assert [items[-1].input for items in history.load("last").steps[1].items.values()] == ["1", "2", "3"]
    assert [items[-1].input for items in history.load(run).steps[1].items.values()] == ["", "", ""]
    with closing(sqlite3.connect(history.path)) as database:
        assert len(database.execute("SELECT input FROM attempt_list WHERE input IS NOT NULL").fetchall()) == 3


@pytest.mark.parametrize(
    ("step", "found"), [("load", (2, None)), ("1", (1, None)), ("double#1", (1, 1)), ("1#2", (1, 2))]
)
def test_steps_are_found_by_name_number_and_item(history: AnyHistory, step: str, found: tuple[int, int | None]) -> None:
    """`fetch`, `3` and `fetch#411`."""
    nightly(history).start(keep_going=True)

    task, item = history.load().find(step)

    assert (task.task_id, item) == found


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("lod", "it has numbers, double, load. Did you mean 'load'?"),
        ("3", "it has numbers, double, load, with the numbers 0 to 2"),
        ("load#0", "it is no map"),
        ("double#3", "it has 3 items, which count from 0"),
        ("double#x", "Can't find the step 'double#x'"),
    ],
)
def test_a_step_that_is_not_there_is_refused(history: AnyHistory, step: str, message: str) -> None:
    """The error names the steps of the run."""
    nightly(history).start(keep_going=True)

    with pytest.raises(NotInHistory) as raised:
        history.load().find(step)

    assert message in str(raised.value)


def test_a_name_of_several_steps_is_refused(history: AnyHistory) -> None:
    """The error has their numbers."""
    quick(history, numbers, numbers).start()

    with pytest.raises(NotInHistory, match="the tasks 0 and 1 have this name"):
        history.load().find("numbers")


def test_runs_are_found_by_words_and_beginnings(history: AnyHistory) -> None:
    """`last`, `failed`, an id, and a unique beginning of at least four characters."""
    for run_id in ("aaaa1111", "aaaa2222", "bbbb1111", "bbbb1111-2"):
        begin(history, run_id, "extract")
    crash(history, "aaaa2222")

    assert history.load().run_id == history.load("last").run_id == "bbbb1111-2"
    assert history.load("failed").run_id == history.load("aaaa2").run_id == history.load("AAAA2222").run_id
    assert history.load("bbbb1111").run_id == "bbbb1111"
    for run, message in [
        ("aaaa", "several ids begin with it: aaaa1111, aaaa2222. Pass more"),
        ("aaa", "needs 4 characters"),
        ("cccc", "no workflow has this name, and no id begins so"),
        ("", "its name is empty"),
        ("last:", "no workflow has this name"),
        ("failed:", "no workflow has this name"),
        ("@day=1", "no workflow has this name"),
    ]:
        with pytest.raises(NotInHistory, match=message):
            history.load(run)


def test_runs_of_steps_are_not_the_last_ones(history: AnyHistory) -> None:
    """`last` and `failed` are what was started; a run that a step has started is found by its id."""
    inner = nightly(history)

    @action
    def nests() -> str:
        return inner.start().run_id

    run = quick(history, nests, nests).start()

    last = history.load()
    assert last.run_id == run.run_id
    assert [history.load(child).parent for child in last.children] == [
        (run.run_id, 0, 1, None),
        (run.run_id, 1, 1, None),
    ]
    with pytest.raises(NotInHistory, match="has failed"):
        history.load("failed")


def test_an_empty_history_has_no_last_run(history: AnyHistory) -> None:
    """The error says what writes one."""
    begin(history, "aaaa1111", "extract")
    crash(history, "aaaa1111")
    history.forget("aaaa1111")

    assert history.runs() == []
    with pytest.raises(NotInHistory, match=r"has no runs yet\. Run `dotflow start`"):
        history.load()


# Output and values


def test_output_is_that_of_a_run_a_step_or_an_item(history: AnyHistory) -> None:
    """The bytes are exact, in the order of arrival."""
    begin(history, "aaaa1111", "extract", "load")
    write(history, "aaaa1111", 0, b"one\n")
    write(history, "aaaa1111", 1, b"two\n", item=3)
    write(history, "aaaa1111", 1, b"\xff\x00", stream=2)

    def text(*step: str, attempt: int | None = None) -> bytes:
        return b"".join(chunk.data for chunk in history.output("last", *step, attempt=attempt))

    assert text() == b"one\ntwo\n\xff\x00"
    assert text("extract") == b"one\n"
    assert text("load") == b"two\n\xff\x00"
    assert text("load", attempt=2) == b""
    assert [chunk[:3] for chunk in history.output("last", "load")] == [(1, 3, 1), (1, None, 1)]


def test_the_ends_of_outputs(history: AnyHistory) -> None:
    """Without the rest being read; the run's own output too."""
    begin(history, "aaaa1111", "extract", "load")
    for data in (b"one\n", b"two\n", b"three\n"):
        write(history, "aaaa1111", 0, data)
    write(history, "aaaa1111", 1, b"\xff\x00", item=3, stream=2)
    write(history, "aaaa1111", -1, b"a thread\n")
    extract, item, own = OutputKey(0, None, 1), OutputKey(1, 3, 1), OutputKey(-1, None, 1)

    chunks = history.output_tails("last", {extract: 8, own: 100, OutputKey(7, None, 1): 10})

    assert history.output_sizes("last") == {extract: 14, item: 2, own: 9}
    assert [(chunk.key, chunk.data) for chunk in chunks] == [
        (extract, b"o\n"),
        (extract, b"three\n"),
        (own, b"a thread\n"),
    ]


def test_output_is_followed_to_the_end_of_the_run(history: AnyHistory) -> None:
    """Each part comes once, and the end of the run ends it, a crash too."""
    begin(history, "aaaa1111", "extract", "load")
    write(history, "aaaa1111", 0, b"one\n")
    following = history.follow("last")

    def new() -> list[bytes]:
        return [chunk.data for chunk in next(following)]

    assert new() == [b"one\n"]
    assert new() == []
    write(history, "aaaa1111", 0, b"two\n")
    write(history, "aaaa1111", 1, b"three\n")
    assert new() == [b"two\n", b"three\n"]
    write(history, "aaaa1111", 1, b"four\n")
    crash(history, "aaaa1111")
    assert new() == [b"four\n"]
    assert list(following) == []


def test_values_of_a_failed_step_come_back(history: AnyHistory) -> None:
    """The last attempt's inputs; what was not kept says so."""
    nightly(history).start(keep_going=True)

    assert history.value("last", "load", "argument:numbers") == [1, 2, 3]
    assert history.value("last", "double#1", "argument:number") == 2
    assert [copy.attempt for copy in history.copies("last", "load")] == [2]
    with pytest.raises(NotInHistory, match="no values of this step"):
        history.value("last", "numbers")
    with pytest.raises(NotInHistory, match=r"has argument:numbers\. "):
        history.value("last", "load", "previous")


def test_a_value_that_was_too_large_is_named(tmp_path: Path) -> None:
    """The error has the size and the limit."""
    history = HistorySQLite(tmp_path / "history.db", value_limit=10)
    nightly(history).start(keep_going=True)

    with pytest.raises(NotInHistory, match=r"it was not kept: .*value_limit is 10"):
        history.value("last", "load", "argument:numbers")
    history.close()


# Forgetting


def test_a_run_gets_a_note(history: AnyHistory) -> None:
    """With its moment, in the order in which they came; an unknown run is refused."""
    quick(history).start()

    history.note("last", "one")
    history.note("last", "two")

    notes = history.load().notes
    assert [text for _, text in notes] == ["one", "two"]
    assert notes[0][0] <= notes[1][0] <= clock.now()
    with pytest.raises(NotInHistory):
        history.note("failed", "three")


@ON_FILE
def test_forgotten_runs_are_gone(history: HistorySQLite) -> None:
    """With their attempts, errors, output and values; the file is smaller."""
    for _ in range(3):
        nightly(history).start(keep_going=True)
    begin(history, "aaaa1111", "extract")
    write(history, "aaaa1111", 0, bytes(1_000_000))
    crash(history, "aaaa1111")
    history.close()
    size = history.path.stat().st_size

    assert history.forget("aaaa1111", "aaaa1", "failed") == 1
    assert history.path.stat().st_size < size / 2
    assert history.forget(older_than="1h") == 0
    assert history.forget(older_than=0) == 3
    with closing(sqlite3.connect(history.path)) as database:
        for table in ("runs", "attempts", "errors", "output", "copies", "plans", "steps", "environments"):
            assert database.execute(f"SELECT COUNT(*) FROM {table}").fetchall() == [(0,)]


def test_an_active_run_is_not_forgotten(history: AnyHistory) -> None:
    """Named, it is refused with all others; by age, it is left out."""
    quick(history).start()
    begin(history, "aaaa1111", "extract")

    with pytest.raises(NotInHistory, match="Can't forget the run aaaa1111: it is still running"):
        history.forget("aaaa1111", history.runs(state="completed")[0].run_id)
    assert len(history.runs()) == 2
    assert history.forget(older_than=0) == 1
    assert [run.run_id for run in history.runs()] == ["aaaa1111"]


# The file


@ON_FILE
def test_reading_leaves_the_file_as_it_is(history: HistorySQLite) -> None:
    """Neither its bytes nor its time change, and no transaction is left open."""
    nightly(history).start()
    history.close()
    before = history.path.read_bytes(), history.path.stat().st_mtime_ns

    history.runs()
    history.load()
    history.output("last")

    assert before == (history.path.read_bytes(), history.path.stat().st_mtime_ns)
    with closing(sqlite3.connect(history.path)) as database:
        assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0] == 0


@ON_FILE
def test_a_read_only_folder_can_be_read(history: HistorySQLite) -> None:
    """SQLite can't make its files beside it, and needs none."""
    quick(history).start()
    history.close()
    folder = history.path.parent
    folder.chmod(0o500)
    subprocess.run(["chattr", "+i", folder], capture_output=True)  # root may write in spite of the mode
    try:
        assert len(history.runs()) == 1
    finally:
        subprocess.run(["chattr", "-i", folder], capture_output=True)
        folder.chmod(0o700)


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
@ON_FILE
def test_a_history_without_a_file_has_no_runs(history: HistorySQLite, content: bytes | None) -> None:
    """A program may ask at its first start. Reading makes no file and changes none."""
    if content is not None:
        history.path.write_bytes(content)

    assert history.runs() == history.runs(state="failed", workflow="nightly", since="2d") == []
    assert history.workflows() == []
    assert history.recent(["nightly"]) == {"nightly": []}
    assert history.forget(older_than=0) == 0
    for read in (history.load, history.summary, history.output, history.forget):
        with pytest.raises(NotInHistory, match=r"has no runs yet\. Run `dotflow start`"):
            read("last")
    assert [path.read_bytes() for path in history.path.parent.iterdir()] == ([] if content is None else [content])


@ON_FILE
def test_a_file_that_is_no_history_is_refused(history: HistorySQLite) -> None:
    """The error says what it is, and the file stays as it is."""
    content = b"garbage" * 999
    history.path.write_bytes(content)

    with pytest.raises(HistoryError, match="it is not a SQLite database"):
        history.runs()
    assert history.path.read_bytes() == content


@ON_FILE
def test_a_database_of_another_program_is_refused(history: HistorySQLite) -> None:
    """The error has its tables."""
    with closing(sqlite3.connect(history.path)) as database:
        database.execute("CREATE TABLE orders (id)")

    with pytest.raises(HistoryError, match="another program, with the tables orders"):
        history.runs()


def test_a_folder_is_no_history(tmp_path: Path) -> None:
    """The error has the cause."""
    with pytest.raises(HistoryError, match="can't be read: "):
        HistorySQLite(tmp_path).runs()


def test_others_who_may_write_to_its_folder_make_a_history_foreign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group is taken for others, whoever its members are."""
    monkeypatch.chdir(tmp_path)
    history = HistorySQLite()
    quick(history).start()

    for mode in (0o775, 0o757):
        history.path.parent.chmod(mode)
        assert "other users can write to .output" in history.why_foreign()
    history.path.parent.chmod(0o755)
    assert history.why_foreign() == ""
    history.close()


START_QUICK = """
import sys
from dotflow.providers import HistorySQLite
from tests.histories import quick
quick(HistorySQLite(sys.argv[1])).start()
"""


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize(
    "older",
    [FIFTH_FORMAT, FOURTH_FORMAT, THIRD_FORMAT, SECOND_FORMAT, FIRST_FORMAT],
    ids=["fifth", "fourth", "third", "second", "first"],
)
@ON_FILE
def test_processes_upgrade_a_file_once(history: HistorySQLite, older: str, request: pytest.FixtureRequest) -> None:
    """Whoever is first; the runs of all of them are in it, and the older ones, too."""
    run = nightly(history).start(keep_going=True).run_id
    history.close()
    with closing(sqlite3.connect(history.path)) as database:
        database.executescript(older)
    root = str(request.config.rootpath)
    command = [sys.executable, "-c", START_QUICK, str(history.path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path])}
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(4)]

    assert [process.communicate()[1] for process in processes] == [b""] * 4
    assert [found.state for found in history.runs()] == ["Completed"] * 4 + ["Failed"]
    assert (
        older in (THIRD_FORMAT, FOURTH_FORMAT, FIFTH_FORMAT, SIXTH_FORMAT, SEVENTH_FORMAT)
        or history.load(run).params is None
    )
    with closing(sqlite3.connect(history.path)) as database:
        assert database.execute("PRAGMA user_version").fetchall() == [(8,)]
        assert set(database.execute("SELECT asked, round FROM attempt_list")) == {(None, None)}
        assert database.execute("SELECT sent FROM questions").fetchall() == []


@ON_FILE
def test_a_file_has_all_tables_of_its_format(history: HistorySQLite) -> None:
    """An earlier dotflow of the same format refuses a file that lacks one. Another list needs another format."""
    quick(history).start()
    with closing(sqlite3.connect(history.path)) as database:
        assert database.execute("PRAGMA user_version").fetchall() == [(8,)]
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    of_runs = {"runs", "plans", "steps", "environments", "attempts", "errors", "output", "copies", "notes", "meta"}
    of_queue = {"wanted", "workflows", "servers", "orders", "schedules", "questions", "grants", "task_notes", "calls"}
    of_limits = {"slots", "holds", "waits", "closed", "texts", "told"}
    assert tables == of_runs | of_queue | of_limits


@pytest.mark.parametrize(
    ("older", "has_queue"),
    [
        *((SEVENTH_FORMAT, True), (SIXTH_FORMAT, True), (FIFTH_FORMAT, True), (FOURTH_FORMAT, True)),
        *((THIRD_FORMAT, False), (SECOND_FORMAT, False), (FIRST_FORMAT, False)),
    ],
    ids=["seventh", "sixth", "fifth", "fourth", "third", "second", "first"],
)
@ON_FILE
def test_a_file_of_an_earlier_format_is_read_as_it_is(
    history: HistorySQLite, older: str, has_queue: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With runs in all states; the queue of the third one was another one, and looks empty."""
    monkeypatch.chdir(tmp_path)
    Path("mended").touch()
    nightly(history).start(keep_going=True)
    asking(history).start()
    begin(history, "crashed", "extract", "load")
    crash(history, "crashed")
    Control(history).submit("etl")
    runs = [(run.run_id, run.state) for run in history.runs()]
    history.close()
    with closing(sqlite3.connect(history.path)) as database:
        database.executescript(older)

    assert [(run.run_id, run.state) for run in history.runs()] == runs
    assert [history.load(run).state for run, _ in runs] == ["Queued", "Crashed", "Paused", "Failed"]
    control, ids = Control(history), [run for run, _ in runs]
    assert ([run.run_id for run in history.queue()[0]], len(control.questions())) == ([ids[0]] * has_queue, has_queue)
    assert (history.noted_numbers(ids), control.schedules(), control.long_queued()) == ([[]] * 4, [], [])
    assert ([history.all_calls(run) for run in ids], history.calls("crashed", "load").total) == ([{}] * 4, 0)
    with closing(sqlite3.connect(history.path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() < (8,)


@ON_FILE
def test_the_queue_of_the_fourth_format_is_read(
    history: HistorySQLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its questions wait for an answer, also before a run has upgraded the file, and after it they have it."""
    monkeypatch.chdir(tmp_path)
    Path("mended").touch()
    run = asking(history).start()
    history.close()
    with closing(sqlite3.connect(history.path)) as database:
        database.executescript(FOURTH_FORMAT)

    assert [(one.text, one.sent) for one in history.load().open_questions] == [("Publish [0, 1, 2] rows?", None)]
    control = Control(history)
    assert [question.run_id for question in control.questions()] == [run.run_id]
    control.approve(run.run_id, by="anna")
    assert asking(history).start(resume=True).status == "Completed"


@ON_FILE
def test_a_file_of_the_fifth_format_gets_what_its_runs_wait_for(
    history: HistorySQLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that a person has paused wait for nothing."""
    monkeypatch.chdir(tmp_path)
    Path("mended").touch()
    asking(history).start()
    paused = quick(history).start()
    history.close()
    with closing(sqlite3.connect(history.path)) as database:
        change = "UPDATE runs SET state = 'Paused', reason = 'paused by anna: it waits for spring' WHERE run_id = ?"
        database.execute(change, (paused.run_id,))
        database.commit()
        database.executescript(FIFTH_FORMAT)

    quick(history).start()
    history.close()
    with closing(sqlite3.connect(history.path)) as database:
        assert database.execute("PRAGMA user_version").fetchall() == [(8,)]
        waits = database.execute("SELECT waits FROM runs ORDER BY run").fetchall()
    assert waits == [("Answer",), (None,), (None,)]


def test_what_an_archive_need_not_have_is_made_of_the_rest(
    history: HistorySQLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results are those of the faster ways of HistorySQLite."""
    monkeypatch.chdir(tmp_path)
    Path("mended").touch()
    run = nightly(history).start(keep_going=True).run_id
    asked = asking(history).start()
    begin(history, "running", "extract", "load")
    for data in (b"one", b"two"):
        write(history, "running", 1, data)

    assert Archive.recent(history, ["nightly", "shop", "none"]) == history.recent(["nightly", "shop", "none"])
    assert Archive.task_states(history, [run, "running"]) == history.task_states([run, "running"])
    assert Archive.output_sizes(history, "running") == history.output_sizes("running") == {OutputKey(1, None, 1): 6}
    queue = history.operations()
    for name in (asked.workflow_id, "nightly"):
        assert Operations.waiting(queue, name) == queue.waiting(name)
