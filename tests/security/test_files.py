"""Files and folders that other users can read, can write to, or made before dotflow does.

Two users are two processes of root that have given up their rights. Without root these tests are skipped, with the
reason in pytest's summary; `sudo make test-users` runs them.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from dotflow import Config, DotFlow, action, atomic_path, shell
from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.errors import HistoryError, InvalidArgument, StorageError
from dotflow.providers import HistorySQLite, LogDefault, StorageFile, StorageSQLite
from tests.security.forged import execute

ALICE, BOB, TEAM = 64001, 64002, 64003  # ids need no names

#: Runs with all that a run can write, and prints the permissions while the files are in use.
RUNS: Final = """
import json, os, sys
os.umask(int(sys.argv[1], 8))
from dotflow import Config, DotFlow, action, atomic_path, shell
from dotflow.providers import HistorySQLite, LogDefault, StorageFile, StorageSQLite

@action(cache=True)
def large():
    return b"0" * 100_000

@action
def count(large):
    return len(large)

history = HistorySQLite("out/history.db")
for storage, cache in (
    (StorageFile("out/files"), StorageFile("out/cache")),
    (StorageSQLite("out/sqlite/flow.db"), StorageSQLite("out/cache.db")),
):
    log = LogDefault(output="file", path="out/logs/flow.log", max_bytes=300)
    workflow = DotFlow(config=Config(storage=storage, cache=cache, history=history, log=log), workflow_id="nightly")
    workflow.task.add([large, count])
    workflow.start(resume=True)
history.report("last", "out/reports/run.html")
print(json.dumps({
    os.path.join(path, name): os.stat(os.path.join(path, name)).st_mode
    for path, folders, files in os.walk("out") for name in folders + files
}))
"""


@action
def one() -> int:
    return 1


def run(folder: Path, storage: Storage | None = None, **providers: Any) -> Any:
    """Runs a workflow that writes its log, its history and its checkpoints below a folder."""
    providers = {"log": LogDefault(output="file", path=folder / "flow.log"), **providers}
    workflow = DotFlow(config=Config(storage=storage or StorageFile(folder), **providers), workflow_id="nightly")
    workflow.task.add(one)
    return workflow.start(resume=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Permissions


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize(
    ("umask", "shared", "file", "folder"),
    [("000", "", 0o600, 0o700), ("077", "", 0o600, 0o700), ("077", "007", 0o660, 0o770), ("000", "027", 0o640, 0o750)],
)
def test_permissions_depend_on_no_umask(umask: str, shared: str, file: int, folder: int, tmp_path: Path) -> None:
    """Everything that a run writes is for its owner only, or as DOTFLOW_UMASK has it, whatever the umask is."""
    result = subprocess.run(
        [sys.executable, "-c", RUNS, umask],
        cwd=tmp_path,
        env=os.environ | {"DOTFLOW_UMASK": shared},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    names = " ".join(found)
    for kind in (
        *("flow.log ", "flow.log.1", "history.db ", "history.db-wal", "history.db-shm", "history.db-live", "run.html"),
        *("nightly.checkpoints ", "nightly.checkpoints/0.json", ".bin", ".lock", "flow.db ", "flow.db-wal", ".locks "),
        *("out/cache ", "out/cache.db ", "out/cache.db-shm"),
    ):
        assert kind in names
    wrong = {
        path: oct(found[path])
        for path in found
        if stat.S_IMODE(found[path]) != (folder if stat.S_ISDIR(found[path]) else file)
    }
    assert wrong == {}


#: Runs with providers that have a umask of their own, of which workers write to the history and to both storages.
SHARES: Final = """
import os, sys
os.umask(0o077)
from dotflow import Config, Context, DotFlow, action
from dotflow.providers import ExecutorProcess, HistorySQLite, LogDefault, StorageFile, StorageSQLite

shared = {"umask": sys.argv[1]}
history = HistorySQLite("shared/history/history.db", **shared)
file = StorageFile("shared/files", **shared)
database = StorageSQLite("shared/sqlite/flow.db", **shared)
log = LogDefault(output="file", path="shared/logs/flow.log", max_bytes=300, **shared)

def steps():
    @action(cache=True)
    def large():
        print(os.getpid(), file=sys.stderr)
        return b"0" * 100_000

    @action
    def write(large, file=file, database=database):
        for storage in (file, database):
            storage.post("worker/0", Context(large))
            StorageFile("own/files").post("worker/0", Context(large))
        return os.getpid()

    return [large, write]

executor = ExecutorProcess(start_method=sys.argv[2])
config = Config(storage=file, cache=database, history=history, log=log, executor=executor)
workflow = DotFlow(config, workflow_id="nightly")
workflow.task.add(steps())
run = workflow.start(resume=True)
print(run.status, run.value("write") != os.getpid(), len(history.output("last")))
for path, folders, files in os.walk("."):
    for name in folders + files:
        place = os.path.join(path, name)
        print(oct(os.stat(place).st_mode & 0o777), "folder" if name in folders else "file", place)
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("umask", "start_method", "file", "folder"),
    [("027", "fork", "0o640", "0o750"), ("7", "forkserver", "0o660", "0o770")],
)
def test_a_provider_may_have_a_umask_of_its_own(
    umask: str, start_method: str, file: str, folder: str, tmp_path: Path
) -> None:
    """Its files have it, those of worker processes too, and no others do: DOTFLOW_UMASK is for those without one."""
    result = subprocess.run(
        [sys.executable, "-c", SHARES, umask, start_method],
        cwd=tmp_path,
        env=os.environ | {"DOTFLOW_UMASK": "077"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    first, *lines = result.stdout.splitlines()
    assert first == "Completed True 1"
    places = [line.split() for line in lines]
    names = " ".join(place for _, _, place in places)
    for kind in ("history.db-live", "worker.checkpoints/0.json", ".bin", ".nightly.lock", "flow.log.1", "flow.db-wal"):
        assert kind in names
    expected = {"file": file, "folder": folder}
    assert {(kind, mode) for mode, kind, place in places if "shared" in place} == set(expected.items())
    assert {(kind, mode) for mode, kind, place in places if "own" in place} == {("file", "0o600"), ("folder", "0o700")}


@pytest.mark.parametrize("provider", [StorageFile, StorageSQLite, HistorySQLite, LogDefault])
@pytest.mark.parametrize("value", ["8", "rw", "0o7", "100", "", 7, False])
def test_an_argument_that_is_no_umask_is_refused(provider: Callable[..., Any], value: object) -> None:
    """Numbers, too: 27 is not 0o27."""
    with pytest.raises(InvalidArgument, match=r"umask=.* Pass an octal number of up to 077, such as 007"):
        provider(umask=value)


@pytest.mark.parametrize("before", [0o644, 0o666])
def test_open_permissions_are_closed_at_the_first_write(before: int, tmp_path: Path) -> None:
    """History, database, log and checkpoint folder of an earlier version; the log has a line for each."""
    history, storage = HistorySQLite(tmp_path / "history.db"), StorageSQLite(tmp_path / "flow.db")
    run(tmp_path, history=history)
    run(tmp_path, storage, history=history)
    history.close()
    storage.close()
    folder = tmp_path / "nightly.checkpoints"
    files = [tmp_path / name for name in ("history.db", "history.db-live", "flow.db", "flow.log")]
    for file in files:
        file.chmod(before)
    folder.chmod(0o777)

    run(tmp_path, history=history)
    run(tmp_path, storage, history=history)

    assert [mode(path) for path in (*files, folder)] == [0o600, 0o600, 0o600, 0o600, 0o700]
    log = (tmp_path / "flow.log").read_text()
    for file in files:
        assert log.count(f"The permissions of {file} were {before:04o} and are 0600 now.") == 1
    assert log.count(f"The permissions of {folder} were 0777 and are 0700 now.") == 1


def test_a_file_that_was_read_first_is_closed_too(tmp_path: Path) -> None:
    """The connection that reads goes on to write."""
    StorageSQLite(tmp_path / "flow.db").post("nightly/0", Context(1))
    (tmp_path / "flow.db").chmod(0o666)
    storage = StorageSQLite(tmp_path / "flow.db")

    storage.get("nightly/0")
    storage.post("nightly/1", Context(2))

    assert mode(tmp_path / "flow.db") == 0o600


def test_closer_permissions_of_the_user_stay(tmp_path: Path) -> None:
    """DOTFLOW_UMASK never adds permissions to what exists."""
    run(tmp_path, history=HistorySQLite(tmp_path / "history.db"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOTFLOW_UMASK", "007")
        run(tmp_path, history=HistorySQLite(tmp_path / "history.db"))

    assert mode(tmp_path / "history.db") == 0o600
    assert mode(tmp_path / "nightly.checkpoints") == 0o700


def test_the_users_own_folder_keeps_its_permissions(tmp_path: Path) -> None:
    """The path may be a project, or a home."""
    tmp_path.chmod(0o755)

    run(tmp_path, history=HistorySQLite(tmp_path / "history.db"))

    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("value", ["8", "rw", "0o7", "-7", "100", "0777"])
def test_a_variable_that_is_no_umask_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any run: a typing error must not open files, nor take them from their owner."""
    monkeypatch.setenv("DOTFLOW_UMASK", value)

    with pytest.raises(InvalidArgument, match=r"DOTFLOW_UMASK=.* Pass an octal number of up to 077, such as 007"):
        Config()


# Links


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Another folder of the same user, with files that look as dotflow's do."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("0.json", "7.json", ".0.json.1.1.tmp", f"7.{'0' * 16}.bin", "precious"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("resume", [True, False])
def test_linked_checkpoints_are_not_followed(resume: bool, output: Path, elsewhere: Path) -> None:
    """A run neither writes there nor cleans up: it does not begin."""
    (output / "nightly.checkpoints").symlink_to(elsewhere)
    before = contents(elsewhere)
    workflow = DotFlow(config=Config(storage=StorageFile(output), log=LogDefault(output="none")), workflow_id="nightly")
    workflow.task.add(one)

    with pytest.raises(StorageError, match=r"nothing was run: NotPrivate: it is a link .*nightly\.checkpoints'\. "):
        workflow.start(resume=resume)

    assert contents(elsewhere) == before


@pytest.mark.parametrize("call", ["post", "delete", "clear", "lock", "check_writable"])
def test_no_call_follows_linked_checkpoints(call: str, output: Path, elsewhere: Path) -> None:
    """Commands such as `dotflow cache clear` call them without a run."""
    (output / "nightly.checkpoints").symlink_to(elsewhere)
    before = contents(elsewhere)
    storage = StorageFile(output)
    calls: dict[str, Callable[[], Any]] = {
        "post": lambda: storage.post("nightly/0", Context(1)),
        "delete": lambda: storage.delete("nightly/0"),
        "clear": lambda: storage.clear("nightly"),
        "lock": lambda: storage.lock("nightly").__enter__(),
        "check_writable": lambda: storage.check_writable("nightly"),
    }

    with pytest.raises(PermissionError, match="it is a link out of its folder"):
        calls[call]()

    assert contents(elsewhere) == before


def test_a_linked_void_folder_is_not_emptied(output: Path, elsewhere: Path) -> None:
    """A killed run leaves such folders for the next one, which finds them by their names."""
    (output / ".nightly.checkpoints.1.1.void").symlink_to(elsewhere)
    before = contents(elsewhere)

    run(output)

    assert contents(elsewhere) == before


def test_a_linked_lock_is_not_followed(output: Path, elsewhere: Path) -> None:
    """Its holder is written into a lock, in place of what was there."""
    (output / ".nightly.lock").symlink_to(elsewhere / "precious")

    with pytest.raises(StorageError, match="it is a link out of its folder"):
        run(output)

    assert (elsewhere / "precious").read_text() == "{}"


@pytest.mark.parametrize("target", ["precious", "new"], ids=["existing", "dangling"])
def test_a_linked_log_is_not_followed(target: str, output: Path, elsewhere: Path, capfd: Any) -> None:
    """The run goes on without it, and one line on stderr has the reason."""
    (output / "flow.log").symlink_to(elsewhere / target)
    before = contents(elsewhere)

    assert run(output).value("one") == 1

    assert contents(elsewhere) == before
    (line,) = capfd.readouterr().err.splitlines()
    assert "can't be written (it is a link out of its folder" in line


@pytest.mark.parametrize("target", ["history.db", "new"], ids=["existing", "dangling"])
def test_a_linked_history_is_not_followed(target: str, output: Path, elsewhere: Path) -> None:
    """The run goes on without it, and the log says why, once."""
    history = HistorySQLite(elsewhere / "history.db")
    run(elsewhere.with_name("other"), history=history)
    history.close()
    (output / "history.db").symlink_to(elsewhere / target)
    before = contents(elsewhere)

    assert run(output, history=HistorySQLite(output / "history.db")).value("one") == 1

    read = {"history.db-shm", "history.db-wal"}  # a run of a second reads the orders
    assert {name: text for name, text in contents(elsewhere).items() if name not in read} == before
    assert (output / "flow.log").read_text().count(
        "can't be written, and the run goes on without it: it is a link"
    ) == 1


def test_no_command_changes_a_linked_history(output: Path, elsewhere: Path) -> None:
    """`dotflow forget` and notes are writes, too; reading is allowed."""
    history = HistorySQLite(elsewhere / "history.db")
    run(elsewhere.with_name("other"), history=history)
    (output / "history.db").symlink_to(elsewhere / "history.db")
    linked = HistorySQLite(output / "history.db")

    for change in (lambda: linked.note("last", "mine"), lambda: linked.forget("last")):
        with pytest.raises(HistoryError, match="can't be changed: it is a link out of its folder"):
            change()

    assert len(linked.runs()) == len(history.runs()) == 1


@pytest.mark.parametrize("target", ["flow.db", "new"], ids=["existing", "dangling"])
def test_a_linked_database_is_not_followed(target: str, output: Path, elsewhere: Path) -> None:
    """A run does not begin, and nothing is deleted through the link."""
    storage = StorageSQLite(elsewhere / "flow.db")
    storage.post("nightly/0", Context(1))
    (output / "flow.db").symlink_to(elsewhere / target)
    linked = StorageSQLite(output / "flow.db")

    with pytest.raises(StorageError, match="it is a link out of its folder"):
        run(output, linked)
    with pytest.raises(PermissionError, match="it is a link out of its folder"):
        linked.clear("nightly")

    assert not (elsewhere / "new").exists()
    assert list(storage.list_keys()) == ["nightly/0"]


def test_links_within_the_folder_are_followed(output: Path) -> None:
    """Even dangling ones; what they lead to is for its owner only."""
    (output / "history.db").symlink_to("2026.db")
    (output / "flow.log").symlink_to("2026.log")
    before = os.umask(0)
    try:
        run(output, history=HistorySQLite(output / "history.db"))
    finally:
        os.umask(before)

    assert (output / "history.db").is_symlink()
    assert [mode(output / name) for name in ("2026.db", "2026.log")] == [0o600, 0o600]


def test_the_users_own_folder_may_be_a_link(tmp_path: Path) -> None:
    """`.output` is often a link to a mounted volume."""
    (tmp_path / "volume").mkdir()
    output = tmp_path / "output"
    output.symlink_to("volume")

    run(output, history=HistorySQLite(output / "history.db"))
    run(output, StorageSQLite(output / "flow.db"))

    assert {"nightly.checkpoints", "flow.log", "history.db", "flow.db"} <= {path.name for path in output.iterdir()}


@pytest.mark.parametrize("is_linked", [True, False])
def test_a_log_may_lead_to_the_output_of_the_program(is_linked: bool, tmp_path: Path) -> None:
    """Containers link their logs to /dev/stdout, which may itself be any file, and keeps its permissions."""
    path = "/dev/stdout"
    if is_linked:
        (tmp_path / "flow.log").symlink_to(path)
        path = str(tmp_path / "flow.log")
    lines = f'from dotflow.providers import LogDefault\nLogDefault(output="file", path={path!r}).report("hello")'
    with (tmp_path / "out").open("w") as out:
        (tmp_path / "out").chmod(0o644)
        result = subprocess.run([sys.executable, "-c", lines], stdout=out, stderr=subprocess.PIPE, check=False)

    assert result.stderr == b""
    assert "hello" in (tmp_path / "out").read_text()
    assert mode(tmp_path / "out") == 0o644


# Two users


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Imports what a run and a report need: the other users may not be able to read the folder of these tests."""
    folder = tmp_path_factory.mktemp("loaded")
    run(folder, history=HistorySQLite(folder / "history.db"))
    HistorySQLite(folder / "history.db").report("last", folder / "run.html")


@pytest.fixture
def shared(loaded: None) -> Iterator[Path]:
    """A folder such as /tmp, which all users can write to. Its parents let them pass."""
    if getattr(os, "geteuid", int)() or os.name == "nt":
        pytest.skip("Two users need root: sudo make test-users")
    folder = Path(tempfile.mkdtemp(prefix="dotflow-users-", dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def as_user(user: int, work: Callable[[], object], *groups: int) -> str:
    """Does something as another user, and returns the text of its result or exception."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            os.chdir("/")
            os.setgroups(groups)
            os.setgid(user)
            os.setuid(user)
            text = str(work())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


def make(folder: Path) -> None:
    """Makes a folder that all users may write to, whatever the umask is."""
    folder.mkdir()
    folder.chmod(0o777)


@pytest.mark.parametrize("user", [0, BOB], ids=["root", "bob"])
def test_a_folder_of_another_user_is_refused(user: int, shared: Path) -> None:
    """Its owner could exchange all files in it. One line has the owner."""
    output = shared / "output"
    as_user(ALICE, lambda: make(output))

    text = as_user(user, lambda: run(output, log=LogDefault(output="none")))

    assert text.startswith("StorageError: StorageFile can't be used, so nothing was run: NotPrivate: it belongs to")
    assert f"user {ALICE}, and DOTFLOW_UMASK does not share it: {str(output)!r}. " in text
    assert "\n" not in text
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("user", [0, BOB], ids=["root", "bob"])
def test_checkpoints_of_another_user_are_refused(user: int, shared: Path) -> None:
    """In a folder that all can write to, another user made the folder of the workflow first."""
    as_user(ALICE, lambda: make(shared / "nightly.checkpoints"))

    text = as_user(user, lambda: run(shared, log=LogDefault(output="none")))

    assert f"it belongs to user {ALICE}" in text
    assert list((shared / "nightly.checkpoints").iterdir()) == []


@pytest.mark.parametrize("user", [0, BOB], ids=["root", "bob"])
@pytest.mark.parametrize("name", ["history.db", "flow.log", "out.log", "output"])
def test_files_of_another_user_are_not_written(user: int, name: str, shared: Path, capfd: Any) -> None:
    """An empty file for all to write, or a link, that waits for a run: its owner would read all of it."""
    own = shared / "own"
    as_user(user, lambda: own.mkdir())

    def prepare() -> None:
        if name in ("output", "out.log"):
            (shared / name).symlink_to(own if name == "output" else "/dev/stdout")
        else:
            (shared / name).touch()
            (shared / name).chmod(0o666)

    as_user(ALICE, prepare)
    providers: dict[str, Any] = {"log": LogDefault(output="file", path=own / "flow.log")}
    if name == "history.db":
        providers["history"] = HistorySQLite(shared / name)
    if name in ("flow.log", "out.log"):
        providers["log"] = LogDefault(output="file", path=shared / name)
    storage = StorageFile(shared / name if name == "output" else own)

    text = as_user(user, lambda: run(own, storage, **providers).value("one"))

    if name == "output":
        assert f"it belongs to user {ALICE}" in text
        assert list(own.iterdir()) == []
    else:
        assert text == "1"
        assert name == "out.log" or (shared / name).read_bytes() == b""
        assert "it belongs to user" in (capfd.readouterr().err if "log" in name else (own / "flow.log").read_text())


@pytest.mark.parametrize("user", [0, BOB], ids=["root", "bob"])
def test_a_report_is_not_written_through_the_link_of_another_user(user: int, shared: Path) -> None:
    """The system does not follow such links in /tmp. dotflow looks where they lead, so it has to ask who made them."""
    own = shared / "own"

    def prepare() -> None:
        run(own, history=HistorySQLite(own / "history.db"))
        (own / "precious").write_text("mine")

    assert as_user(user, prepare) == "None"
    as_user(ALICE, lambda: (shared / "run.html").symlink_to(own / "precious"))

    text = as_user(user, lambda: HistorySQLite(own / "history.db").report("last", shared / "run.html"))

    assert text.startswith(f"NotPrivate: [Errno 1] it belongs to user {ALICE}")
    assert (own / "precious").read_text() == "mine"


def test_a_report_follows_the_users_own_link(tmp_path: Path) -> None:
    """It stays a link."""
    run(tmp_path, history=HistorySQLite(tmp_path / "history.db"))
    (tmp_path / "pages").mkdir()
    (tmp_path / "run.html").symlink_to("pages/run.html")

    HistorySQLite(tmp_path / "history.db").report("last", tmp_path / "run.html")

    assert (tmp_path / "run.html").is_symlink()
    assert (tmp_path / "pages" / "run.html").is_file()


def test_a_void_folder_of_another_user_is_not_emptied(shared: Path) -> None:
    """In a folder for all, its owner could put a link in its place while it is emptied."""
    void = shared / ".nightly.checkpoints.1.1.void"

    def prepare() -> None:
        make(void)
        (void / "0.json").touch()

    as_user(ALICE, prepare)

    assert as_user(BOB, lambda: run(shared, log=LogDefault(output="none")).value("one")) == "1"
    assert [path.name for path in void.iterdir()] == ["0.json"]


def test_a_fifo_of_another_user_beside_a_history_stops_no_reader(shared: Path) -> None:
    """One that only its owner may write to was opened for reading, which waits for a writer."""
    history = HistorySQLite(shared / "history.db")
    run(shared / "files", history=history)
    history.close()
    execute(history.path, "UPDATE runs SET state = 'Running', ended = NULL, lock = 5")
    history.path.chmod(0o644)
    (shared / "history.db-live").unlink()
    as_user(ALICE, lambda: os.mkfifo(shared / "history.db-live", 0o444))

    assert as_user(BOB, lambda: [run.state for run in history.runs()]) == "[<TypeRunState.RUNNING: 'Running'>]"


def test_root_works_in_the_folder_of_another_user(shared: Path) -> None:
    """Where only root could have made its place: a home, or the mounted volume of a container."""
    home = shared / "home"
    home.mkdir(mode=0o755)
    (home / "alice" / "project" / "output").mkdir(parents=True)
    for folder in (home / "alice", home / "alice" / "project", home / "alice" / "project" / "output"):
        os.chown(folder, ALICE, ALICE)
    output = home / "alice" / "project" / "output"

    assert run(output, history=HistorySQLite(output / "history.db")).value("one") == 1
    assert (output / "history.db").stat().st_uid == 0


def test_the_users_own_folder_may_be_a_link_of_a_deployment(shared: Path) -> None:
    """Which is another user, in a place that only root could give it. The folder itself must be the user's."""
    home, volume = shared / "home", shared / "volume"
    home.mkdir(mode=0o755)
    volume.mkdir(mode=0o700)
    os.chown(volume, ALICE, ALICE)
    (home / "release").mkdir(mode=0o755)
    os.chown(home / "release", BOB, BOB)
    (home / "release" / "output").symlink_to(volume)
    os.chown(home / "release" / "output", BOB, BOB, follow_symlinks=False)

    assert as_user(ALICE, lambda: run(home / "release" / "output").value("one")) == "1"
    assert (volume / "nightly.checkpoints").is_dir()


def test_all_users_work_in_a_folder_of_root(shared: Path) -> None:
    """A mounted volume often belongs to root. Files of others stay unreadable."""
    output = shared / "volume"
    make(output)

    def runs() -> int:
        return int(run(output, history=HistorySQLite(output / "history.db")).value("one"))

    assert as_user(ALICE, runs) == "1"
    assert "Permission denied" in as_user(BOB, (output / "history.db").read_bytes)
    assert "Permission denied" in as_user(BOB, lambda: list((output / "nightly.checkpoints").iterdir()))


def test_two_users_of_a_group_share_a_folder(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With DOTFLOW_UMASK=007, as a web server and a schedule do: each goes on with the runs of the other."""
    output = shared / "output"
    output.mkdir()
    os.chown(output, ALICE, TEAM)
    output.chmod(0o2770)
    monkeypatch.setenv("DOTFLOW_UMASK", "007")

    def runs(name: str) -> Callable[[], object]:
        def work() -> object:
            os.umask(0o077)
            history = HistorySQLite(output / "history.db")
            values = [
                run(output, storage, history=history).value("one")
                for storage in (StorageFile(output / "files"), StorageSQLite(output / "flow.db"))
            ]
            StorageFile(output / "files").post(f"nightly/{name}", Context(1))
            StorageSQLite(output / "flow.db").post(f"nightly/{name}", Context(1))
            return values, len(history.runs())

        return work

    assert as_user(ALICE, runs("alice"), TEAM) == "([1, 1], 2)"
    assert as_user(BOB, runs("bob"), TEAM) == "([1, 1], 4)"
    assert as_user(ALICE, runs("alice"), TEAM) == "([1, 1], 6)"
    assert "can't be written" not in (output / "flow.log").read_text()
    assert {stat.S_IMODE(path.stat().st_mode) & 0o777 for path in output.rglob("*")} == {0o660, 0o770}

    monkeypatch.delenv("DOTFLOW_UMASK")
    assert f"it belongs to user {ALICE}" in as_user(BOB, runs("bob"), TEAM)


def test_two_users_of_a_group_share_one_storage(shared: Path) -> None:
    """By its argument, while their logs and histories stay their own."""
    output = shared / "output"
    output.mkdir()
    os.chown(output, ALICE, TEAM)
    output.chmod(0o2770)

    def runs(name: str) -> Callable[[], object]:
        def work() -> object:
            own = shared / name
            history = HistorySQLite(own / "history.db")
            storages = (StorageFile(output / "files", umask="007"), StorageSQLite(output / "flow.db", umask="007"))
            for storage in storages:
                run(own, storage, history=history)
                storage.post(f"shared/{name}", Context(name))
            return [storage.get(f"shared/{name}").storage for name in ("alice", "bob") for storage in storages]

        return work

    assert as_user(ALICE, runs("alice"), TEAM) == "['alice', 'alice', None, None]"
    assert as_user(BOB, runs("bob"), TEAM) == "['alice', 'alice', 'bob', 'bob']"
    assert as_user(ALICE, runs("alice"), TEAM) == "['alice', 'alice', 'bob', 'bob']"
    assert mode(shared / "bob" / "history.db") == 0o600

    text = as_user(BOB, lambda: run(shared / "bob", StorageFile(output / "files", umask="027")), TEAM)
    assert f"it belongs to user {ALICE}, and the argument umask does not share it" in text


def test_a_group_that_is_not_ours_shares_nothing(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DOTFLOW_UMASK=007 trusts the members of our groups only."""
    output = shared / "output"
    as_user(ALICE, lambda: make(output))
    monkeypatch.setenv("DOTFLOW_UMASK", "007")

    assert f"it belongs to user {ALICE}" in as_user(BOB, lambda: run(output), TEAM)


# Files that steps write


def planted(path: Path, kind: str, mode: int) -> None:
    path.touch() if kind == "file" else path.mkdir()
    path.chmod(mode)


def replaced(target: Path, kind: str, writer: str) -> None:
    """Replaces a file or folder, as a step does."""
    if writer == "shell":
        text = "echo new > {out}" if kind == "file" else "mkdir {out}"
        shell(text, name="write", outputs={"out": target})()
        return
    with atomic_path(target) as path:
        path.write_text("new\n") if kind == "file" else path.mkdir()


@pytest.mark.parametrize("user", [0, BOB], ids=["root", "bob"])
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("writer", ["atomic_path", "shell"])
@pytest.mark.parametrize("mode", [0o4777, 0o2777, 0o6777, 0o1666, 0o666])
def test_no_special_bits_of_another_users_file_are_taken_over(
    user: int, kind: str, writer: str, mode: int, shared: Path
) -> None:
    """A setuid bit would run what the step wrote as its user; a write for others would let them change it."""
    shared.chmod(0o777)
    as_user(ALICE, lambda: planted(shared / "target", kind, mode))

    assert as_user(user, lambda: replaced(shared / "target", kind, writer)) == "None"

    status = (shared / "target").stat()
    was_sticky = kind == "folder" and mode & stat.S_ISVTX  # it kept users off the files of others
    permissions = mode & 0o777 if user == 0 and not was_sticky else mode & 0o755  # root gives it to its owner
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (permissions, user or ALICE)


def test_a_team_goes_on_writing_to_its_files(shared: Path) -> None:
    """The group of the old file stays where the user is in it, and so does its permission to write."""
    shared.chmod(0o777)
    as_user(ALICE, lambda: planted(shared / "target", "file", 0o664))
    os.chown(shared / "target", ALICE, TEAM)

    assert as_user(BOB, lambda: replaced(shared / "target", "file", "atomic_path"), TEAM) == "None"

    status = (shared / "target").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o664, BOB, TEAM)


@pytest.mark.parametrize("user", [0, BOB], ids=["root", "bob"])
@pytest.mark.parametrize("writer", ["atomic_path", "shell"])
@pytest.mark.parametrize("link", ["target", "own link", "folder/target", "own way", "folder/../own/target"])
def test_another_users_link_is_no_target(user: int, writer: str, link: str, shared: Path) -> None:
    """It would replace a file of the one that writes, wherever that user wants it to."""
    own = shared / "own"
    as_user(user, lambda: own.mkdir())
    as_user(user, lambda: (own / "target").write_text("mine"))
    as_user(ALICE, lambda: (shared / "target").symlink_to(own / "target"))
    as_user(ALICE, lambda: (shared / "folder").symlink_to(own))
    as_user(user, lambda: (own / "own link").symlink_to(shared / "target"))
    as_user(user, lambda: (own / "own way").symlink_to(shared / "folder" / "target"))
    target = own / link if link.startswith("own ") else shared / link

    text = as_user(user, lambda: replaced(target, "file", writer))

    assert text.startswith(f"PermissionError: [Errno 1] it is a link of user {ALICE}. Name the file itself: ")
    assert (own / "target").read_text() == "mine"


def test_links_of_a_users_own_folders_lead_the_way(shared: Path) -> None:
    """A deployment of another user often has a link to its current release."""
    as_user(ALICE, lambda: make(shared / "app"))
    as_user(ALICE, lambda: make(shared / "app" / "v2"))
    as_user(ALICE, lambda: (shared / "app" / "current").symlink_to("v2"))

    target = shared / "app" / "current" / "target"
    assert as_user(BOB, lambda: replaced(target, "file", "atomic_path")) == "None"
    assert (shared / "app" / "v2" / "target").read_text() == "new\n"
