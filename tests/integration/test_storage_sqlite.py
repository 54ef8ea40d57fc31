"""StorageSQLite: many writers, killed ones, forks, threads, and files that are not what they should be."""

import contextlib
import copy
import json
import os
import pickle
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow import Context, DotFlow, action
from dotflow.errors import CheckpointUnreadable, InvalidArgument, WorkflowBusy
from dotflow.providers import StorageSQLite
from dotflow.providers import sqlite_file as sqlite_database
from tests.integration.children import Scripts

MakeWorkflow = Callable[..., DotFlow]

#: Begins each script: a storage, and children that begin their work at the same moment.
CHILDREN = """
from dotflow.providers import StorageSQLite

PATH = HERE / "kept" / "flow.db"


def fork(work, *given):
    pid = os.fork()
    if not pid:
        try:
            work(*given)
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def together(works):
    wait, go = os.pipe()

    def begin(work):
        os.close(go)
        os.read(wait, 1)
        work()

    pids = [fork(begin, work) for work in works]
    os.close(wait)
    os.close(go)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where nothing is yet, in a folder that isn't there either."""
    return tmp_path / "kept" / "flow.db"


@pytest.fixture
def storage(path: Path) -> StorageSQLite:
    return StorageSQLite(path)


def connection_of(storage: StorageSQLite) -> sqlite3.Connection:
    """What a storage that is in use has open."""
    connection = storage._file._connection
    assert connection is not None
    return connection


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, as any other program opens it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


def integrity_of(path: Path) -> str:
    """SQLite's own check of the file."""
    with opened(path) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def fill(storage: StorageSQLite, count: int, size: int = 10) -> None:
    for number in range(count):
        storage.post(f"w/{number}", Context([number, "x" * size], number, "w"))


# Arguments


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"path": ":memory:"}, "StorageDefault"),
        ({"path": ""}, "the path of a file"),
        ({"path": "a\0b"}, "the path of a file"),
        ({"path": 3}, "the path of a file"),
        ({"durability": "full"}, "'power' or 'process'"),
        ({"durability": []}, "'power' or 'process'"),
        ({"pickle": "yes"}, "True or False"),
    ],
    ids=repr,
)
def test_meaningless_arguments_are_refused(given: dict[str, Any], words: str) -> None:
    """At once, and with what is accepted."""
    with pytest.raises(InvalidArgument, match=re.escape(words)):
        StorageSQLite(**given)


def test_nothing_is_written_before_the_first_checkpoint(storage: StorageSQLite, tmp_path: Path) -> None:
    """Neither by making a storage, nor by reading."""
    assert storage.get("w/0").task_id is None
    assert not storage.contains("w/0")
    assert list(storage.list_keys()) == []
    assert storage.clear("w")
    storage.delete("w/0")
    storage.close()

    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_begins_at_the_folder_of_its_creation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that goes to another folder doesn't take the file along."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    storage = StorageSQLite("flow.db")
    monkeypatch.chdir(tmp_path / "elsewhere")

    storage.post("w/0", Context(1, 0))

    assert (tmp_path / "flow.db").exists()


@pytest.mark.parametrize("name", ["file:flow.db?mode=memory", "a?b#c%41 d.db", "file::memory:", "ü 😀.db"])
def test_a_name_is_a_name(name: str, tmp_path: Path) -> None:
    """Nothing in it means anything to SQLite."""
    StorageSQLite(tmp_path / name).post("w/0", Context(1, 0))

    assert [found.name for found in tmp_path.iterdir() if not found.name.endswith(("-wal", "-shm"))] == [name]


@pytest.mark.parametrize(("durability", "synchronous"), [("power", 2), ("process", 1)])
def test_each_durability_has_its_setting_of_sqlite(durability: str, synchronous: int, path: Path) -> None:
    """FULL syncs the log at each commit, NORMAL before it is copied only. Both need WAL to be what they are."""
    storage = StorageSQLite(path, durability=durability)
    storage.post("w/0", Context(1, 0))

    assert connection_of(storage).execute("PRAGMA synchronous").fetchone() == (synchronous,)
    with opened(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# Keys and documents


@pytest.mark.parametrize(
    "key",
    [
        "",
        "../x",
        "a\0b",
        "x" * 5_000,
        "😀",
        "a\ud800b",
        "\udfff",
        "\uffff",
        "\uffff0000",
        "CON",
        "%s",
        "'\";--",
        "A",
        "a",
    ],
    ids=lambda key: ascii(key)[:20],
)
def test_any_text_is_a_key(key: str, storage: StorageSQLite) -> None:
    """It leads to its own value and no other, and is listed unchanged."""
    for other in ("x", "a", "A", "a\uffff0000b", "\0"):
        storage.post(other, Context("other", 1))
    storage.post(key, Context("its own", 0))

    assert storage.contains(key)
    assert storage.get(key).storage == "its own"
    assert key in storage.list_keys()
    assert key in storage.list_keys(key[:1])
    storage.delete(key)
    assert not storage.contains(key)
    assert set(storage.list_keys()) == {"x", "a", "A", "a\uffff0000b", "\0"} - {key}


def test_ordinary_keys_and_all_documents_can_be_read_by_others(storage: StorageSQLite, path: Path) -> None:
    """`sqlite3 flow.db "SELECT document FROM checkpoints"` shows JSON."""
    storage.post("nightly/0", Context({"rows": ["ü", 2]}, 0, "nightly"))

    with opened(path) as connection:
        rows = connection.execute("SELECT key, document, typeof(document) FROM checkpoints").fetchall()

    ((key, document, kind),) = rows
    assert (key, kind, json.loads(document)["value"]) == ("nightly/0", "text", {"rows": ["ü", 2]})


def test_keys_are_listed_in_order(storage: StorageSQLite) -> None:
    """All of them, or those that begin with a text, whatever is in it."""
    keys = ["w/1", "w/10", "w/2", "w", "w0", "v/1", "w\0", "w\ud800/1", "w/a/b", "😀", "\uffff", "%/1", "_/1"]
    for key in keys:
        storage.post(key, Context(1, 0))

    assert list(storage.list_keys()) == sorted(keys)
    for prefix in ("w/", "w", "w\0", "w\ud800", "%", "_", "\uffff", "nothing"):
        assert list(storage.list_keys(prefix)) == sorted(key for key in keys if key.startswith(prefix))


def test_clear_takes_one_workflow_only(storage: StorageSQLite) -> None:
    """Whatever the ids have in common, and whatever is in them."""
    ids = ["a", "a/b", "a/0", "a0", "ab", "A", "", "/", "a\ud800", "a\0", "%", "_", "a/"]
    for name in ids:
        for number in range(3):
            storage.post(f"{name}/{number}", Context(number, number, name))
    for key in ("a", "a1", "ab", "a:b", "plain"):  # of a storage's own user
        storage.post(key, Context(0, 0))
    left = sorted(storage.list_keys())

    for name in ids:
        assert storage.clear(name)
        left = [key for key in left if "/" not in key or key.rpartition("/")[0] != name]
        assert list(storage.list_keys()) == left
    assert left == ["a", "a1", "a:b", "ab", "plain"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_value_of_50_mb_is_kept(storage: StorageSQLite) -> None:
    """What isn't plain ASCII too."""
    value = "xü" * 17_000_000

    storage.post("w/0", Context(value, 0))

    assert storage.get("w/0").storage == value


def test_a_value_beyond_the_limit_of_sqlite_is_refused(storage: StorageSQLite) -> None:
    """Its limit is lowered here. The error names the limit and an alternative; other values stay."""
    fill(storage, 1)
    connection_of(storage).setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)

    with pytest.raises(sqlite3.DataError, match=r"flow\.db: the value is larger than.*1 GB.*StorageFile"):
        storage.post("w/1", Context("x" * 20_000, 1))
    assert list(storage.list_keys()) == ["w/0"]


# Many at once


def test_nothing_is_lost_among_many_writers(scripts: Scripts, path: Path, stride: int) -> None:
    """Eight processes write many keys each into one file that none of them finds there: all are there, and right."""
    count = 200 // stride
    end = scripts.run(
        CHILDREN
        + f"COUNT = {count}"
        + """
def write(name):
    storage = StorageSQLite(PATH)
    for number in range(COUNT):
        storage.post(f"{name}/{number}", Context([name, number], number, str(name)))

say(codes=together([functools.partial(write, name) for name in range(8)]))
"""
    )

    assert end.facts == {"codes": [0] * 8}
    storage = StorageSQLite(path)
    assert len(list(storage.list_keys())) == 8 * count
    for name in range(8):
        for number in range(count):
            assert storage.get(f"{name}/{number}").storage == [name, number]
    storage.close()
    assert integrity_of(path) == "ok"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_new_file_can_be_made_by_many_at_once(scripts: Scripts, stride: int) -> None:
    """Where SQLite itself fails at once, since it doesn't wait while a file is turned to WAL."""
    rounds = 40 // stride
    end = scripts.run(
        CHILDREN
        + f"ROUNDS = {rounds}"
        + """
def write(path, name):
    StorageSQLite(path).post(f"w/{name}", Context(name, name))

found = []
for round in range(ROUNDS):
    path = HERE / f"kept {round}" / "flow.db"
    codes = together([functools.partial(write, path, name) for name in range(8)])
    found.append([codes, len(StorageSQLite(path).list_keys())])
say(found=found)
"""
    )

    assert end.facts["found"] == [[[0] * 8, 8]] * rounds


HOLDER = """
import sqlite3

connection = sqlite3.connect(HERE / "kept" / "flow.db", isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM checkpoints WHERE key = 'w/0'")
say(held=True)
time.sleep(float(sys.argv[1]))
connection.execute("COMMIT")
"""


def test_a_writer_waits_for_another_process(scripts: Scripts, storage: StorageSQLite) -> None:
    """Then both have written."""
    fill(storage, 2)
    with scripts.start(HOLDER, "0.3") as holder:
        assert holder.line()
        storage.post("w/2", Context(2, 2))
        holder.end()

    assert list(storage.list_keys()) == ["w/1", "w/2"]


def test_waiting_too_long_is_an_error(
    scripts: Scripts, path: Path, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task fails and names the cause; reading works meanwhile, and writing works later."""
    monkeypatch.setattr(sqlite_database, "BUSY_TIMEOUT", 0.1)
    storage = StorageSQLite(path)
    fill(storage, 2)
    workflow = make_workflow(storage=storage)
    workflow.task.add(action(lambda: 1))
    with scripts.start(HOLDER, "60") as holder:
        assert holder.line()
        with pytest.raises(sqlite3.OperationalError, match=r"flow\.db: another process keeps a transaction open on it"):
            storage.post("w/2", Context(2, 2))
        assert storage.get("w/0").storage == [0, "x" * 10]
        run = workflow.start(resume=True)

    assert "another process keeps a transaction open on it" in run.tasks[0].errors[0].message
    storage.post("w/2", Context(2, 2))
    assert list(storage.list_keys("w/")) == ["w/0", "w/1", "w/2"]


def test_ctrl_c_ends_the_waiting(scripts: Scripts, storage: StorageSQLite, path: Path) -> None:
    """At once, however long it would go on."""
    fill(storage, 1)
    with opened(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        patient = "from dotflow.providers import sqlite_file\nsqlite_file.BUSY_TIMEOUT = 60\nsay(waiting=True)\n"
        with scripts.start(f"{CHILDREN}{patient}StorageSQLite(PATH).post('w/1', Context(1, 1))") as waiting:
            assert waiting.line()
            waiting.send(signal.SIGINT)
            end = waiting.end()

    assert "KeyboardInterrupt" in end.err


def test_threads_share_a_storage(storage: StorageSQLite) -> None:
    """Eight of them write and read at the same time; nothing is lost or mixed up."""
    failed: list[BaseException] = []

    def write(name: int) -> None:
        try:
            for number in range(50):
                storage.post(f"{name}/{number}", Context([name, number], number))
                assert storage.get(f"{name}/{number}").storage == [name, number]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert len(list(storage.list_keys())) == 400


# Killed, interrupted


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.slow
@pytest.mark.parametrize("durability", ["power", "process"])
def test_kill_9_loses_nothing(durability: str, scripts: Scripts, path: Path) -> None:
    """Thirty writers in turn are killed in the middle of writing. What each wrote down as posted is there and exact,
    and the file is whole."""
    end = scripts.run(
        CHILDREN
        + """
def value_of(number):
    return [number, "x" * (number * 7919 % 30_000)]

def write(first, journal, told):
    storage = StorageSQLite(PATH, durability=sys.argv[1])
    for number in range(first, first + 10_000):
        storage.post(f"w/{number % 50}/{number}", Context(value_of(number), number))
        os.write(journal, b"%d\\n" % number)
        os.write(told, b".")

def posted():
    return [int(line) for line in (HERE / "journal").read_text().splitlines()]

journal = os.open(HERE / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for round in range(30):
    told, tell = os.pipe()
    pid = fork(write, round * 10_000, journal, tell)
    os.close(tell)
    seen = 0
    while seen < 1 + 3 * round:
        seen += len(os.read(told, 65536))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(told)

storage = StorageSQLite(PATH)
wrong = [number for number in posted() if storage.get(f"w/{number % 50}/{number}").storage != value_of(number)]
whole = [storage.get(key).storage == value_of(int(key.split("/")[2])) for key in storage.list_keys()]
say(posted=len(posted()), wrong=wrong, torn=whole.count(False), more=len(whole) - len(posted()))
""",
        durability,
    )

    facts = end.facts
    assert facts["posted"] >= 30 + 3 * sum(range(30))
    assert (facts["wrong"], facts["torn"]) == ([], 0)
    assert 0 <= facts["more"] <= 30  # the one in the middle of which each of them was killed
    assert integrity_of(path) == "ok"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_clear_takes_all_or_nothing(scripts: Scripts, path: Path) -> None:
    """Whatever moment kill -9 comes at."""
    end = scripts.run(
        CHILDREN
        + """
import random, sqlite3

for number in range(300):
    StorageSQLite(PATH, durability="process").post(f"w/{number}", Context("x" * 3_000, number))
with sqlite3.connect(PATH) as connection:
    connection.execute("CREATE TABLE saved AS SELECT * FROM checkpoints")
connection.close()

def clear_again_and_again(tell):
    storage = StorageSQLite(PATH)
    connection = sqlite3.connect(PATH, isolation_level=None)
    os.write(tell, b".")
    while True:
        connection.execute("INSERT OR REPLACE INTO checkpoints SELECT * FROM saved")
        storage.clear("w")

found = []
for round in range(30):
    told, tell = os.pipe()
    pid = fork(clear_again_and_again, tell)
    os.read(told, 1)
    time.sleep(random.Random(round).uniform(0, 0.02))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(told)
    os.close(tell)
    found.append(len(StorageSQLite(PATH).list_keys()))
say(found=found)
"""
    )

    assert set(end.facts["found"]) <= {0, 300}
    assert integrity_of(path) == "ok"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_an_interrupt_leaves_nothing_open(scripts: Scripts, path: Path) -> None:
    """Wherever it lands: what was posted is there, and the next post works as if nothing had been."""
    script = scripts.start(
        CHILDREN
        + """
import itertools
import random

chance = random.Random(1)
storage = StorageSQLite(PATH, durability="process")
posted, number = [], 0

def interrupt(signum, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
for round in itertools.count():
    if round >= 500 and len(posted) > 500:  # on a busy machine, fewer posts fit before an interrupt
        break
    if round % 10 == 0:
        storage.close()  # opening is interrupted, too
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00001, 0.002))
        while True:
            number += 1
            storage.post(f"w/{number}", Context(number, number))
            posted.append(number)
    except KeyboardInterrupt:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
storage.post("w/0", Context(0, 0))
say(wrong=[number for number in posted if storage.get(f"w/{number}").storage != number])
"""
    )
    facts = script.end().facts

    assert facts["wrong"] == []
    assert integrity_of(path) == "ok"


# Forks


@pytest.mark.parametrize("end_of_the_child", ["pass", "os._exit(0)"])
def test_a_child_does_not_work_with_its_parents_connection(
    end_of_the_child: str, scripts: Scripts, storage: StorageSQLite, path: Path
) -> None:
    """Both write before and after the other one is done; nothing of either is lost, however the child ends.

    A connection of the child's own is not enough: SQLite in it assumes that it holds the parent's locks. When the
    parent closes the file, the log would be deleted under the child, with all that it commits from then on.
    """
    scripts.run(
        CHILDREN
        + """
storage = StorageSQLite(PATH)
storage.post("w/0", Context("parent", 0))
done, tell = os.pipe()
wait, go = os.pipe()
if os.fork():
    os.read(done, 1)
    storage.post("w/2", Context("parent", 2))
    storage.close()
    os.write(go, b".")
    os.wait()
else:
    storage.post("w/1", Context("child", 1))
    os.write(tell, b".")
    os.read(wait, 1)
    storage.post("w/3", Context("child", 3))
"""
        + f"    {end_of_the_child}\n"
    )

    assert list(storage.list_keys()) == ["w/0", "w/1", "w/2", "w/3"]
    storage.close()
    assert [found.name for found in path.parent.iterdir()] == ["flow.db"]
    assert integrity_of(path) == "ok"


def test_forks_among_threads_that_write(scripts: Scripts, path: Path) -> None:
    """A process may fork in the middle of another thread's post: the children write, too, and nothing hangs."""
    end = scripts.run(
        CHILDREN
        + """
import warnings

warnings.simplefilter("ignore")  # Python's own, of forks among threads
storage = StorageSQLite(PATH)
stop, counts = threading.Event(), [0] * 3

def write(name):
    while not stop.is_set():
        storage.post(f"thread/{name}/{counts[name]}", Context(1, 0))
        counts[name] += 1

threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
for thread in threads:
    thread.start()
def write_in_a_thread(number):
    thread = threading.Thread(target=storage.post, args=(f"child/{number}", Context(1, 0)))
    thread.start()
    thread.join()

pids = [fork(write_in_a_thread, number) for number in range(20)]
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
stop.set()
for thread in threads:
    thread.join()
say(codes=codes, children=len(storage.list_keys("child/")), lost=sum(counts) - len(storage.list_keys("thread/")))
"""
    )

    assert end.facts == {"codes": [0] * 20, "children": 20, "lost": 0}
    assert integrity_of(path) == "ok"


def test_a_fork_that_python_did_not_make(scripts: Scripts, path: Path) -> None:
    """A server may fork in C without Python's hooks: the child leaves the parent's connection alone."""
    end = scripts.run(
        CHILDREN
        + """
import ctypes

storage = StorageSQLite(PATH)
storage.post("w/0", Context("parent", 0))
pid = ctypes.PyDLL(None).fork()
if not pid:
    try:
        inherited = storage._file._connection
        storage.post("w/1", Context("child", 1))
        assert storage._file._connection is not inherited
        storage.close()
        inherited.execute("SELECT 1")  # it has not been closed
        os._exit(0)
    finally:
        os._exit(1)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
storage.post("w/2", Context("parent", 2))
say(code=code, found=storage.list_keys())
"""
    )

    assert end.facts == {"code": 0, "found": ["w/0", "w/1", "w/2"]}
    assert integrity_of(path) == "ok"


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["parallel", "background"])
def test_runs_keep_their_values_in_it(mode: str, make_workflow: MakeWorkflow, path: Path) -> None:
    """Whether the steps run in worker processes, or the whole run in a thread."""
    workflow = make_workflow(storage=StorageSQLite(path), workflow_id="w")
    workflow.task.add([action(lambda number=number: number) for number in range(10)])

    workflow.start(mode=mode).wait()

    found = StorageSQLite(path)
    assert [found.get(f"w/{number}").storage for number in range(10)] == list(range(10))


# Opened late, closed in time


def test_a_storage_travels(storage: StorageSQLite) -> None:
    """By pickle and as a copy, while it is in use: the other one opens the file itself."""
    storage.post("w/0", Context(1, 0))

    for other in (pickle.loads(pickle.dumps(storage)), copy.copy(storage), copy.deepcopy(storage)):
        assert (other.path, other.durability) == (storage.path, storage.durability)
        assert other.get("w/0").storage == 1
        other.post("w/0", Context(1, 0))
    assert storage.get("w/0").storage == 1


def test_one_file_is_left_at_the_end(scripts: Scripts, path: Path) -> None:
    """A program that ends leaves no log beside it, and no warning: not for a live storage, nor for one that was
    collected."""
    scripts.run(
        CHILDREN
        + """
import gc

StorageSQLite(PATH).post("w/0", Context(1, 0))
gc.collect()
assert [path.name for path in PATH.parent.iterdir()] == ["flow.db"]
storage = StorageSQLite(PATH)
storage.post("w/1", Context(1, 0))
assert len(list(PATH.parent.iterdir())) == 3
"""
    )

    assert [found.name for found in path.parent.iterdir()] == ["flow.db"]


def test_a_closed_file_can_be_moved_and_the_storage_goes_on(storage: StorageSQLite, path: Path) -> None:
    """close() leaves one file with everything in it; the next post begins a new one."""
    fill(storage, 3)
    storage.close()

    path.rename(path.with_name("moved.db"))
    storage.post("w/9", Context(9, 9))

    assert list(storage.list_keys()) == ["w/9"]
    assert list(StorageSQLite(path.with_name("moved.db")).list_keys()) == ["w/0", "w/1", "w/2"]


def test_a_closed_file_leaves_other_files_open(storage: StorageSQLite, path: Path) -> None:
    """Only descriptors that a step has closed make all files open again."""
    other = StorageSQLite(path.with_name("other.db"))
    fill(storage, 1)
    fill(other, 1)
    before = storage._file.connections
    other.close()
    path.with_name("other.db").unlink()

    assert not other.contains("w/0")
    assert storage.contains("w/0")
    assert storage._file.connections == before


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_file_that_was_deleted_meanwhile_is_made_again(comes_back: bool, storage: StorageSQLite, path: Path) -> None:
    """Without a look, SQLite would go on writing to a file that no longer has a name."""
    fill(storage, 3)
    shutil.rmtree(path.parent)
    if comes_back:
        other = StorageSQLite(path)
        other.post("v/0", Context(0, 0))

    storage.post("w/9", Context(9, 9))

    found = StorageSQLite(path)
    assert list(found.list_keys()) == ["v/0", "w/9"] if comes_back else ["w/9"]
    assert list(storage.list_keys()) == list(found.list_keys())


def test_a_deleted_file_has_no_values(storage: StorageSQLite, path: Path) -> None:
    """Nor is it made again by looking."""
    fill(storage, 1)
    shutil.rmtree(path.parent)

    assert not storage.contains("w/0")
    assert storage.get("w/0").task_id is None
    assert not path.parent.exists()


def test_one_process_at_a_time_holds_a_workflow(scripts: Scripts, storage: StorageSQLite, path: Path) -> None:
    """The lock lies beside the file, which needn't be there yet."""
    source = CHILDREN + "with StorageSQLite(PATH).lock('w'):\n    say(held=True)\n    time.sleep(60)"
    with scripts.start(source) as other:
        assert other.line()
        with pytest.raises(WorkflowBusy), storage.lock("w"):
            pass
        with storage.lock("v"):
            pass
    with storage.lock("w"):
        pass

    assert [found.name for found in path.parent.iterdir()] == ["flow.db.locks"]


# Files that are not what they should be


def looks(storage: StorageSQLite) -> dict[str, Callable[[], object]]:
    """All ways to read."""
    return {
        "get": lambda: storage.get("w/0"),
        "contains": lambda: storage.contains("w/0"),
        "list_keys": lambda: storage.list_keys(),
    }


def changes(storage: StorageSQLite) -> dict[str, Callable[[], object]]:
    """All ways to write."""
    return {
        "post": lambda: storage.post("w/0", Context(1, 0)),
        "delete": lambda: storage.delete("w/0"),
        "clear": lambda: storage.clear("w"),
    }


def make_foreign(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("CREATE TABLE checkpoints (thread, step)")
        connection.execute("PRAGMA user_version = 7")


def make_later(path: Path) -> None:
    fill(StorageSQLite(path), 1)
    with opened(path) as connection:
        connection.execute("PRAGMA user_version = 3")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


#: How each is made, and a part of the error.
STRANGERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (
        lambda path: path.write_bytes(b"long enough to be a database. " * 100),
        "not a SQLite database",
    ),
    "short": (lambda path: path.write_bytes(b"hello"), "not a SQLite database"),
    "another program's": (make_foreign, "the database of another program, with the tables checkpoints"),
    "a later version's": (make_later, r"another version of dotflow \(format 3"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("call", ["get", "contains", "list_keys", "post", "delete", "clear"])
def test_the_file_of_another_program_is_left(stranger: str, call: str, storage: StorageSQLite, path: Path) -> None:
    """Reading and writing fail with its kind and path, and change nothing. No error advises to delete it."""
    make, words = STRANGERS[stranger]
    path.parent.mkdir()
    make(path)
    before = path.read_bytes()

    if call in looks(storage) and stranger != "another program's":
        with pytest.raises(CheckpointUnreadable, match=words) as caught:
            looks(storage)[call]()
        assert str(path) in caught.value.where
        assert call != "get" or caught.value.where.endswith("key 'w/0'")
    else:
        with pytest.raises(sqlite3.DatabaseError, match=rf"flow\.db: .*{words}"):
            (looks(storage) | changes(storage))[call]()

    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == ["flow.db"]


def test_an_empty_file_is_a_new_one(storage: StorageSQLite, path: Path) -> None:
    """It is what a process leaves that was killed while it made the file; reading leaves it empty."""
    path.parent.mkdir()
    path.touch()

    assert not storage.contains("w/0")
    assert path.stat().st_size == 0
    fill(storage, 1)
    assert storage.contains("w/0")


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    if how == "cut off":
        path.write_bytes(content[:middle])
    elif how == "cut off in its header":
        path.write_bytes(content[:50])
    else:
        page = {"its first page": 0, "a page": middle, "its last page": len(content) - 4096}[how] // 4096 * 4096
        path.write_bytes(
            content[:page] + bytes(byte ^ 0x5A for byte in content[page : page + 4096]) + content[page + 4096 :]
        )


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("how", ["cut off", "cut off in its header", "its first page", "a page", "its last page"])
def test_a_damaged_file_gives_no_wrong_value(how: str, storage: StorageSQLite, path: Path) -> None:
    """Each key has its right value still, or can't be read, and some can't; none is taken for missing."""
    fill(storage, 200, size=500)
    storage.close()
    damage(path, how)
    after = path.read_bytes()

    found = {"right": 0, "unreadable": 0, "wrong": 0}
    for number in range(200):
        try:
            value = storage.get(f"w/{number}").storage
        except CheckpointUnreadable as error:
            found["unreadable" if str(path) in error.where else "wrong"] += 1
        else:
            found["right" if value == [number, "x" * 500] else "wrong"] += 1
    storage.close()

    assert found["wrong"] == 0
    assert found["unreadable"] > 0
    assert path.read_bytes() == after


def test_a_changed_document_is_noticed(storage: StorageSQLite, path: Path) -> None:
    """By its checksum. The error names the file and the key, and the row can be deleted."""
    fill(storage, 2)
    with opened(path) as connection:
        connection.execute("UPDATE checkpoints SET document = replace(document, 'xxx', 'yyy') WHERE key = 'w/0'")

    with pytest.raises(CheckpointUnreadable) as caught:
        storage.get("w/0")
    assert caught.value.where == f"{path}, key 'w/0'"
    assert storage.contains("w/0")
    storage.delete("w/0")
    assert not storage.contains("w/0")


def test_a_table_that_is_gone_is_noticed(storage: StorageSQLite, path: Path) -> None:
    """The values that were there are not taken for steps that never ran."""
    fill(storage, 1)
    with opened(path) as connection:
        connection.execute("DROP TABLE checkpoints")

    with pytest.raises(CheckpointUnreadable, match="no such table: checkpoints"):
        storage.get("w/0")


# Where nothing can be written


def test_the_error_names_a_full_disk(storage: StorageSQLite, path: Path) -> None:
    """What is there stays, and with room again all goes on."""
    fill(storage, 3)
    connection = connection_of(storage)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(sqlite3.OperationalError, match=r"flow\.db: the disk is full.*Free some space"):
        storage.post("w/3", Context("x" * 100_000, 3))
    assert list(storage.list_keys()) == ["w/0", "w/1", "w/2"]

    connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    storage.post("w/3", Context("x" * 100_000, 3))
    assert storage.get("w/3").storage == "x" * 100_000


@pytest.mark.parametrize("in_the_way", ["the file", "its folder"])
def test_the_error_names_a_path_that_cannot_be_opened(in_the_way: str, storage: StorageSQLite, path: Path) -> None:
    """A folder where the file should be, or a file where its folder should be."""
    if in_the_way == "the file":
        path.mkdir(parents=True)
    else:
        path.parent.write_text("")

    calls = looks(storage) if in_the_way == "the file" else {}
    cause = "it is a folder. Give the path" if in_the_way == "the file" else "it can't be opened: it may be a folder"
    for call in [*calls.values(), changes(storage)["post"]]:
        with pytest.raises(sqlite3.DatabaseError, match=rf"flow\.db: {cause}"):
            call()


READ = (
    CHILDREN + "storage = StorageSQLite(PATH)\nsay(found=[storage.get(key).storage[0] for key in storage.list_keys()])"
)
WRITE = (
    CHILDREN
    + """
try:
    StorageSQLite(PATH).post("w/9", Context(1, 0))
except Exception as error:
    say(error=f"{type(error).__name__}: {error}")
"""
)


@pytest.fixture(params=["closed", "in use"])
def frozen(request: pytest.FixtureRequest, storage: StorageSQLite, path: Path) -> Iterator[str]:
    """A copy of a file that was closed or is in use, in a folder where not even root can change or make anything."""
    original = StorageSQLite(path.parent.parent / "original.db")
    fill(original, 3)
    if request.param == "closed":
        original.close()
    path.parent.mkdir()
    for ending in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"{original.path}{ending}", f"{path}{ending}")
    places = [*path.parent.iterdir(), path.parent]
    changed = subprocess.run(["chattr", "+i", *places], capture_output=True).returncode == 0
    if not changed:
        if os.geteuid() == 0:
            pytest.skip("root can write everywhere here")
        for place in places:
            place.chmod(0o500 if place.is_dir() else 0o400)
    yield request.param
    if changed:
        subprocess.run(["chattr", "-i", *places], check=True)
    for place in places:
        place.chmod(0o700)


@pytest.mark.exhaustive(keep_every=2)
def test_a_read_only_file_can_be_read(frozen: str, scripts: Scripts) -> None:
    """Although SQLite writes even for reading. Without its log a file can't be read, and counts as unreadable, not as
    empty. Saving a value fails with the cause."""
    if frozen == "closed":
        assert scripts.run(READ).facts == {"found": [0, 1, 2]}
    else:
        with scripts.start(READ) as script:
            assert "it can't be opened: it may be a folder, or its folder may be read-only" in script.end().err
    assert "read-only" in scripts.run(WRITE).facts["error"]


def test_a_read_only_file_is_not_kept_open(storage: StorageSQLite, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened as immutable, and so opened anew each time, to notice changes by others."""
    fill(storage, 1)
    storage.close()
    reader = StorageSQLite(path)
    monkeypatch.setattr(sqlite_database, "MODE_READ", sqlite_database.MODE_IMMUTABLE)
    assert list(reader.list_keys()) == ["w/0"]

    fill(storage, 2)
    storage.close()

    assert list(reader.list_keys()) == ["w/0", "w/1"]
