"""atomic_path: what a step writes is there as a whole or not at all, whatever kills it."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action, atomic_path
from dotflow.errors import InvalidArgument
from dotflow.providers import ExecutorAsync, ExecutorThread, LogDefault, StorageFile
from tests.integration.children import PRELUDE, SOURCES
from tests.integration.test_full_disk import run_on

#: Forks a child for each system call that a block makes, before which that child is killed, and runs a block again.
KILLS = """\
import ctypes, errno, fcntl, hashlib, json, os, shutil, signal, stat, sys
from pathlib import Path

from dotflow import atomic_path

READERS = {"fspath", "fstat", "getpid", "lstat", "readlink", "scandir", "stat"}
kind, here = sys.argv[1], Path(sys.argv[2])
target = here / "data"
if kind == "two renames":
    from dotflow.worker import atomic_path as module

    module._exchange = lambda one, other: False


def write(path, text):
    if kind == "file":
        path.write_text(text)
        return
    (path / "sub").mkdir(parents=True)
    for file in (path / "a", path / "sub" / "b"):
        file.write_text(text)


def block():
    with atomic_path(target) as path:
        write(path, "new")


def read():
    if not target.exists():
        return "none"
    texts = {file.read_text() for file in ([target] if kind == "file" else [target / "a", target / "sub" / "b"])}
    return texts.pop() if len(texts) == 1 else "mixed"


def killed_at(number):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    left = number

    def count(frame, event, argument):
        nonlocal left
        if event == "c_call" and argument.__module__ in ("posix", "fcntl") and argument.__name__ not in READERS:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    block()
    os._exit(0)


seen, number, faults = [], 0, []
going = True
while going:
    number += 1
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    write(target, "old")
    going = killed_at(number)
    seen.append(read())
    block()
    if sorted(os.listdir(here)) != ["data"] or read() != "new":
        faults.append([number, sorted(os.listdir(here)), read()])
print(json.dumps({"kills": number - 1, "seen": {state: seen.count(state) for state in seen}, "faults": faults}))
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "folder", "two renames"])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_one(kind: str, tmp_path: Path) -> None:
    """Killed before any system call of a block, the target is old or new, and the next block leaves nothing of it.

    Without renameat2, a kill between two renames leaves no folder, until the next block puts the old one back.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLS, kind, str(tmp_path / "here")],
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)

    assert facts["faults"] == []
    assert facts["kills"] > (15 if kind == "file" else 30)
    assert set(facts["seen"]) == ({"old", "new", "none"} if kind == "two renames" else {"old", "new"})


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    """Whatever the block has written, the target is as it was, and nothing lies beside it."""
    target = tmp_path / "orders.csv"
    target.write_text("old")

    def fail() -> None:
        with atomic_path(target) as path:
            path.write_text("half")
            assert (path.name, path.parent.name) == ("orders.csv", ".orders.csv.partial")
            assert list(path.parent.glob("*.csv")) == [path]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["orders.csv"]


@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_new_target_is_made(mode: Any, tmp_path: Path) -> None:
    """It need not exist; with mode "a", the block begins with nothing then. The umask decides on its permissions."""
    with atomic_path(str(tmp_path / "new.txt"), mode) as path:
        assert not path.exists()
        path.write_text("first")

    (tmp_path / "by hand").touch()
    assert (tmp_path / "new.txt").read_text() == "first"
    assert (tmp_path / "new.txt").stat().st_mode == (tmp_path / "by hand").stat().st_mode


def test_appending_begins_with_a_copy(tmp_path: Path) -> None:
    """Mode "a" adds to a file or a folder, and a failure leaves the old one, without what was added."""
    file, folder = tmp_path / "log.txt", tmp_path / "parts"
    file.write_text("one\n")
    (folder / "a").mkdir(parents=True)
    (folder / "link").symlink_to("a")

    def append(target: Path, name: str, text: str) -> None:
        with atomic_path(target, mode="a") as path, (path / name).open("a") as out:
            out.write(text)
            assert text != "half"

    for target, name in ((file, "."), (folder, "b")):
        with pytest.raises(AssertionError):
            append(target, name, "half")
        append(target, name, "two\n")

    assert file.read_text() == "one\ntwo\n"
    assert {path.name for path in folder.iterdir()} == {"a", "b", "link"}
    assert (folder / "link").readlink() == Path("a")


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_database_with_a_journal_is_refused(mode: Any, suffix: str, tmp_path: Path) -> None:
    """A copy without its journal would lack what was committed, and the journal would spoil a new database."""
    target = tmp_path / "shop.db"
    target.write_text("pages")
    (tmp_path / f"shop.db{suffix}").touch()

    message = rf"'shop\.db{suffix}' lies beside it\. Close the database"
    with pytest.raises(OSError, match=message) as caught, atomic_path(target, mode):
        raise AssertionError

    assert caught.value.filename == str(target)
    assert names_in(tmp_path) == ["shop.db", f"shop.db{suffix}"]


def leave_nothing(path: Path) -> None: ...


def leave_a_link(path: Path) -> None:
    path.symlink_to("elsewhere")


def leave_more(path: Path) -> None:
    path.touch()
    path.with_suffix(".dbf").touch()


@pytest.mark.parametrize(
    ("write", "message"),
    [(leave_nothing, "wrote nothing"), (leave_a_link, "made a link"), (leave_more, "left more: shape.dbf.*path.mkdir")],
)
def test_a_block_without_exactly_its_target_is_an_error(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    """What could only be dropped is named, such as the open journal of a database, and the old file stays."""
    target = tmp_path / "shape.shp"
    target.write_text("old")

    with pytest.raises(OSError, match=message), atomic_path(target) as path:
        write(path)

    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["shape.shp"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    """The new file is where the old one was, behind one link or several, and where a dangling link leads to."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.csv").write_text("old")
    for name, leads_to in (("link", "there/real.csv"), ("links", "link"), ("dangling", "there/none.csv")):
        (tmp_path / name).symlink_to(leads_to)

        with atomic_path(tmp_path / name) as path:
            path.write_text(name)

        assert (tmp_path / name).readlink() == Path(leads_to)
        assert (tmp_path / name).read_text() == name
    assert names_in(tmp_path / "there") == ["none.csv", "real.csv"]


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o755, 0o2755])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_permissions_stay(kind: str, mode: int, tmp_path: Path) -> None:
    """Those of the old file or folder, not those of the umask, and of them no more than 0o777."""
    target = tmp_path / "data"
    target.touch() if kind == "file" else target.mkdir()
    target.chmod(mode)

    with atomic_path(target) as path:
        path.touch() if kind == "file" else path.mkdir()

    assert stat.S_IMODE(target.stat().st_mode) == mode & 0o777


def test_permissions_that_are_right_are_not_set_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change after the sync would be one more write to the disk. Others are set before the sync."""
    calls: list[str] = []
    for name in ("chmod", "fsync", "replace"):
        monkeypatch.setattr(os, name, partial(note_call, calls, name, getattr(os, name)))
    target = tmp_path / "data"

    for mode in (None, 0o600):
        target.touch() if mode is None else target.chmod(mode)
        calls.clear()
        with atomic_path(target) as path:
            path.touch()
        assert calls == [*(["chmod"] if mode else []), "fsync", "replace", "fsync"]

    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def note_call(calls: list[str], name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    calls.append(name)
    return function(*arguments, **options)


def test_a_file_and_a_folder_do_not_replace_each_other(tmp_path: Path) -> None:
    """As in the system itself: a path that was mistaken deletes no folder of data."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data").touch()
    (tmp_path / "file").write_text("text")

    is_there = "wrote a file, and a folder is there"
    with pytest.raises(IsADirectoryError, match=is_there), atomic_path(tmp_path / "folder") as path:
        path.touch()
    is_there = "wrote a folder, and a file is there"
    with pytest.raises(NotADirectoryError, match=is_there), atomic_path(tmp_path / "file") as path:
        path.mkdir()

    assert names_in(tmp_path) == ["file", "folder"]
    assert (names_in(tmp_path / "folder"), (tmp_path / "file").read_text()) == (["data"], "text")


@pytest.mark.parametrize("target", ["", ".", "..", "/"])
def test_a_target_has_a_name(target: str) -> None:
    """Else it would be the working directory."""
    with pytest.raises(InvalidArgument, match="the path of a file or folder, with its name"), atomic_path(target):
        pass


def test_an_old_folder_that_is_read_only_is_removed(tmp_path: Path) -> None:
    """What a program has unpacked read-only is no obstacle for the next version."""
    for text in ("one", "two"):
        with atomic_path(tmp_path / "data") as path:
            (path / "sub").mkdir(parents=True)
            (path / "sub" / "file").write_text(text)
            (path / "sub").chmod(0o555)

    assert (tmp_path / "data" / "sub" / "file").read_text() == "two"
    assert names_in(tmp_path) == ["data"]


@pytest.mark.parametrize("name", ["n" * 242, "ü" * 121, "-", ".hidden", "a b\nc", "x.partial"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_any_name_of_up_to_242_bytes(kind: str, name: str, tmp_path: Path) -> None:
    """The hidden folder beside it has 9 more, and up to 4 of a number."""
    for text in ("one", "two"):
        with atomic_path(tmp_path / name) as path:
            assert path.name == name
            path.write_text(text) if kind == "file" else path.mkdir()

    assert names_in(tmp_path) == [name]


def test_a_longer_name_is_refused(tmp_path: Path) -> None:
    """The system does, before the block begins."""
    target = tmp_path / ("n" * 255)
    with pytest.raises(OSError, match="too long") as raised, atomic_path(target):
        raise AssertionError("the block began")

    assert raised.value.filename == str(target)


def test_the_last_of_several_writers_wins(tmp_path: Path) -> None:
    """Each has a folder of its own, in one thread or in several, and each leaves a whole file and nothing else."""
    target = tmp_path / "data"
    with atomic_path(target) as one, atomic_path(target) as two, atomic_path(target) as three:
        assert [path.parent.name for path in (one, two, three)] == [
            ".data.partial",
            ".data.partial-1",
            ".data.partial-2",
        ]
        for path, text in ((one, "one"), (two, "two"), (three, "three")):
            path.write_text(text)
    assert target.read_text() == "one"

    barrier = threading.Barrier(8)

    def write(letter: str) -> None:
        barrier.wait()
        for _ in range(20):
            with atomic_path(target) as path:
                path.write_text(letter * 1000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(target.read_text())) == 1
    assert names_in(tmp_path) == ["data"]


KILLED_WRITERS = """
from dotflow import atomic_path

folders = []
for _ in range(4):
    block = atomic_path(HERE / "data")
    (block.__enter__() / "half").mkdir(parents=True)
    folders.append(block)
print(sorted(os.listdir(HERE)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folders_of_killed_writers_are_taken_over(tmp_path: Path) -> None:
    """The next block on that target removes them all; a folder in the row may be missing."""
    script = tmp_path / "script.py"
    script.write_text(PRELUDE.format(method=None, folder=str(tmp_path)) + KILLED_WRITERS)
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    subprocess.run([sys.executable, script], env=environment, capture_output=True)
    script.unlink()
    left = [".data.partial", ".data.partial-1", ".data.partial-2", ".data.partial-3"]
    assert names_in(tmp_path) == left
    shutil.rmtree(tmp_path / left[1])

    with atomic_path(tmp_path / "data") as path:
        assert names_in(path.parent) == []
        path.touch()

    assert names_in(tmp_path) == ["data"]


def test_a_folder_that_cannot_be_taken_over_is_left_alone(tmp_path: Path) -> None:
    """Something else may have its name, such as a link, which is not followed; the block uses the next one."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / ".data.partial").symlink_to("elsewhere")
    (tmp_path / ".data.partial-1").touch()

    with atomic_path(tmp_path / "data") as path:
        assert path.parent.name == ".data.partial-2"
        path.touch()

    assert names_in(tmp_path) == [".data.partial", ".data.partial-1", "data", "elsewhere"]
    assert names_in(tmp_path / "elsewhere") == ["file"]


def test_without_locks_no_folder_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder that exists may be that of a writer, where the file system can't say."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with atomic_path(tmp_path / "data") as one, atomic_path(tmp_path / "data") as two:
        one.write_text("one")
        two.write_text("two")

    assert (tmp_path / "data").read_text() == "one"
    assert names_in(tmp_path) == ["data"]


FULL = """
from dotflow import atomic_path

target = HERE / "disk" / "data"
target.write_text("old")
try:
    with atomic_path(target) as path:
        path.write_bytes(bytes(2_000_000))
except OSError as error:
    say(error=error.strerror, text=target.read_text(), left=os.listdir(target.parent))
"""


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The block raises the system's error, and its half is gone, with the room that it took."""
    facts = run_on("mount -t tmpfs -o size=200k none disk", FULL, tmp_path)

    assert facts == {"error": os.strerror(errno.ENOSPC), "text": "old", "left": ["data"]}


READ_ONLY = """
from dotflow import atomic_path

try:
    with atomic_path(HERE / "disk" / "data"):
        raise AssertionError
except OSError as error:
    say(error=error.strerror, file=error.filename, left=os.listdir(HERE / "disk"))
"""


def test_a_read_only_folder_is_refused_at_the_beginning(tmp_path: Path) -> None:
    """The error is the system's, and names the target, not the hidden folder."""
    facts = run_on("mount -t tmpfs -o ro none disk", READ_ONLY, tmp_path)

    assert facts == {"error": os.strerror(errno.EROFS), "file": str(tmp_path / "disk" / "data"), "left": []}


def test_missing_folders_are_made(tmp_path: Path) -> None:
    """As for the outputs of commands."""
    with atomic_path(tmp_path / "no" / "such" / "data") as path:
        path.write_text("new")
    assert (tmp_path / "no" / "such" / "data").read_text() == "new"


def test_a_file_in_place_of_a_folder_above_is_an_error(tmp_path: Path) -> None:
    """As with `open`, and with the target's name."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught, atomic_path(tmp_path / "file" / "data"):
        raise AssertionError
    assert caught.value.filename == str(tmp_path / "file" / "data")


def remove_the_hidden_folder(path: Path) -> None:
    path.write_text("new")
    shutil.rmtree(path.parent)


def refuse(*paths: Any, **_options: Any) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO), str(paths[0]))


def refuse_all(source: Any, copy: Any, **_options: Any) -> None:
    raise shutil.Error([(source, copy, f"[Errno 5] {copy}")])


@pytest.mark.parametrize(
    ("mode", "kind", "function", "stand_in"),
    [
        ("w", "file", "os.replace", refuse),
        ("w", "file", "os.chown", refuse),
        ("w", "folder", "os.chmod", refuse),
        ("a", "file", "shutil.copyfile", refuse),
        ("a", "folder", "shutil.copytree", refuse_all),
        ("w", "file", "", None),
    ],
)
def test_an_error_names_the_target(
    mode: Any, kind: str, function: str, stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the hidden folder, which no reader knows."""
    target = tmp_path / "data"
    make(target, kind)
    target.chmod(0o700)  # other permissions than those of what the block makes
    if function:
        monkeypatch.setattr(function, stand_in)

    with pytest.raises(OSError) as caught, atomic_path(target, mode) as path:  # noqa: PT012 (what it names)
        if not function:
            remove_the_hidden_folder(path)
        elif mode == "w":
            make(path, kind)

    assert caught.value.filename == str(target)
    assert ".partial" not in str(caught.value)


def make(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text(kind)
    else:
        path.mkdir()


def test_devices_are_no_target() -> None:
    """A file in the place of /dev/null would fill the disk."""
    with pytest.raises(OSError, match="no file or folder"), atomic_path("/dev/null"):
        raise AssertionError


def test_an_unknown_mode() -> None:
    """The error has the accepted ones."""
    block = atomic_path("data", "x")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"mode='x' is not accepted\. Pass \"w\" or \"a\""), block:
        raise AssertionError


def test_a_relative_target_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may change its folder meanwhile."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    with atomic_path("data") as path:
        os.chdir("other")
        path.touch()

    assert names_in(tmp_path) == ["data", "other"]
    assert names_in(tmp_path / "other") == []


@action
def write_one() -> None:
    with atomic_path("one") as path:
        path.touch()
    with contextlib.suppress(ZeroDivisionError), atomic_path("two"):
        raise ZeroDivisionError


@action
async def write_other() -> None:
    with atomic_path("other") as path:
        await asyncio.sleep(0)
        path.touch()


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_what_a_step_writes_is_its_own_though_it_returns_nothing(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume makes a file that is gone again, that of a coroutine, too; a block that failed has made none."""
    monkeypatch.chdir(tmp_path)
    workflow = DotFlow(Config(storage=StorageFile(path=tmp_path / "values")), workflow_id="files")
    workflow.task.add([write_one, write_other])
    workflow.start(mode=mode).wait(60)
    run = workflow.start(mode=mode, resume=True)
    run.wait(60)
    assert [task.restored_from for task in run.tasks] == ["checkpoint", "checkpoint"]

    Path("other").unlink()
    run = workflow.start(mode=mode, resume=True)
    run.wait(60)

    assert [task.restored_from for task in run.tasks] == ["checkpoint", None]
    assert Path("other").exists()


@action(timeout=0.2)
def write_too_long(target: Path) -> None:
    with atomic_path(target) as path:
        path.write_text("half")
        while True:  # a thread is interrupted between two lines
            time.sleep(0.01)


@action
async def write_in_a_coroutine(target: Path) -> str:
    with atomic_path(target) as path:
        await asyncio.sleep(0)
        path.write_text("new")
    return target.read_text()


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["sequential", "parallel", "thread", "async"])
def test_in_every_mode(mode: str, tmp_path: Path) -> None:
    """A timeout leaves the old file, and the next step of the run replaces it."""
    executor: Any = {"thread": ExecutorThread(), "async": ExecutorAsync()}.get(mode)
    target = tmp_path / "data"
    target.write_text("old")
    workflow = DotFlow(Config(log=LogDefault(output="none"), executor=executor), params={"target": target})
    workflow.task.add([write_too_long, write_in_a_coroutine])

    run = workflow.start(mode="parallel" if mode == "parallel" else "sequential", keep_going=True)

    assert [str(task.status) for task in run.tasks] == ["Failed", "Completed"]
    assert run.tasks[0].errors[0].exception == "TimeoutError"
    assert run.value(write_in_a_coroutine) == "new"
    assert names_in(tmp_path) == ["data"]
