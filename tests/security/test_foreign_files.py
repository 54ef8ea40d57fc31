"""Files that another person made where dotflow reads: each is read, or refused in one line, and nothing waits.

A FIFO would wait for its other end, a device never ends, and a small file may have any size. pytest's limit of 20 s
fails a test that waits.
"""

import contextlib
import fcntl
import io
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import click
import pytest

from dotflow.cli.log import records
from dotflow.cli.main import main
from dotflow.cli.replay import inputs
from dotflow.core.context import Context
from dotflow.errors import CheckpointUnreadable, HistoryError, WorkflowBusy
from dotflow.own_descriptor import OwnDescriptor
from dotflow.providers import HistorySQLite, StorageFile, StorageSQLite
from dotflow.providers.storages.file_lock import FileLock
from dotflow.records.environment import commit_of
from tests.security.forged import Victim, execute, forge

SECRET = "5f4dcc3b5aa765d61d8327deb882cf99-of-mine"


def put(kind: str, path: Path) -> None:
    """Puts something else in place of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


# Checkpoints and locks


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
@pytest.mark.parametrize("place", ["document", "part"])
def test_a_checkpoint_that_is_no_file_is_unreadable(kind: str, place: str, tmp_path: Path) -> None:
    """The error names the path, and a command that lists the keys leaves it out."""
    storage = StorageFile(tmp_path)
    storage.post("nightly/0", Context(b"0" * 100_000))
    folder = tmp_path / "nightly.checkpoints"
    (part,) = folder.glob("*.bin")
    put(kind, folder / "0.json" if place == "document" else part)
    put(kind, tmp_path / "1.json")

    with pytest.raises(CheckpointUnreadable, match=r"0\.json can't be read: .*it is (no file|a folder)\."):
        StorageFile(tmp_path).get("nightly/0")

    assert list(storage.list_keys()) == ["nightly/0"]


@pytest.mark.parametrize("place", ["document", "part"])
def test_a_checkpoint_that_is_larger_than_the_memory_is_unreadable(place: str, tmp_path: Path) -> None:
    """A file of zeros takes no room on the disk."""
    StorageFile(tmp_path).post("nightly/0", Context(b"0" * 100_000))
    (part,) = (tmp_path / "nightly.checkpoints").glob("*.bin")
    document, size = part.with_name("0.json"), 8 << 30
    os.truncate(part if place == "part" else document, size)
    if place == "part":
        _, _, rest = document.read_bytes().partition(b"\n")
        rest = rest.replace(b'"size": 100000', b'"size": %d' % size)
        document.write_bytes(b'{"sha256": "%b",\n%b' % (sha256(rest).hexdigest().encode(), rest))
    lines = f"""
import resource
from dotflow.providers import StorageFile
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    StorageFile({str(tmp_path)!r}).get("nightly/0")
except Exception as error:
    print(type(error).__name__, error)
"""
    ended = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)

    assert ended.stdout.startswith("CheckpointUnreadable ")
    assert "it is larger than the memory" in ended.stdout


def test_a_lock_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """Opening it to write would wait for a reader."""
    put("fifo", tmp_path / ".nightly.lock")

    with pytest.raises(OSError, match="it is no file"):
        FileLock(tmp_path, "nightly", data_folder=tmp_path).__enter__()


@pytest.mark.parametrize(
    "text", ['{"host": "\x1b[2J\u202e", "process": "' + "x" * 3000 + '", "since": "\x1b]0;x\x07"}', "[" * 100_000, "\0"]
)
def test_the_holder_of_a_lock_is_a_short_text(text: str, tmp_path: Path) -> None:
    """Another user of the folder may have written it."""
    path = tmp_path / ".nightly.lock"
    path.write_text(text)
    os.truncate(path, 1 << 40)
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        with pytest.raises(WorkflowBusy) as raised:
            FileLock(tmp_path, "nightly", data_folder=tmp_path).__enter__()

    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    "statement", ["UPDATE parts SET data = 5", "UPDATE checkpoints SET parts = 5", "UPDATE checkpoints SET sha256 = 1"]
)
def test_a_forged_row_of_a_storage_is_an_unreadable_checkpoint(statement: str, tmp_path: Path) -> None:
    """A column takes values of any type."""
    storage = StorageSQLite(tmp_path / "flow.db")
    storage.post("nightly/0", Context(b"0" * 100_000))
    execute(storage.path, statement)

    with pytest.raises(CheckpointUnreadable, match="its part '1' "):
        storage.get("nightly/0")


def test_a_forged_key_of_a_storage_is_listed_as_another(tmp_path: Path) -> None:
    """One that is no UTF-8 has no value."""
    storage = StorageSQLite(tmp_path / "flow.db")
    storage.post("nightly/0", Context(1))
    execute(storage.path, "UPDATE checkpoints SET key = CAST(x'ff' AS TEXT)")

    (key,) = storage.list_keys()

    assert storage.get(key).storage is None


# The history


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("words", [["runs"], ["forget", "last", "--yes"]], ids=["reading", "writing"])
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_fifo_beside_a_history_stops_no_command(victim: Victim, words: list[str], suffix: str) -> None:
    """SQLite would wait in it."""
    history = victim.send()
    put("fifo", history.with_name(f"history.db{suffix}"))

    ended = victim.dotflow(*words, "--history", str(history))

    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert f"history.db{suffix} beside it is a FIFO." in ended.err


@pytest.mark.parametrize("kind", ["device", "folder"])
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_the_files_that_sqlite_opens_beside_a_history_are_regular(victim: Victim, kind: str, suffix: str) -> None:
    """By reading, and by what changes it. A link to a device is refused as the device."""
    history = HistorySQLite(victim.send())
    put(kind, history.path.with_name(f"history.db{suffix}"))

    for call in (history.runs, history.revision, lambda: history.note("last", "x"), lambda: history.forget("last")):
        with pytest.raises(HistoryError, match=rf"history\.db{suffix} beside it is a "):
            call()


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_the_live_file_of_a_history_must_be_a_file(victim: Victim, kind: str) -> None:
    """A run counts as running where its lock can't be looked at."""
    history = HistorySQLite(victim.send())
    execute(history.path, "UPDATE runs SET state = 'Running', ended = NULL, lock = 5")
    put(kind, history.path.with_name("history.db-live"))

    assert [run.state for run in history.runs()] == ["Running"]


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal", "-live"])
def test_no_file_is_written_through_a_link_beside_a_history(victim: Victim, suffix: str) -> None:
    """SQLite truncates such files."""
    history = HistorySQLite(victim.send())
    precious = victim.mail / "precious"
    precious.write_text(SECRET)
    history.path.with_name(f"history.db{suffix}").symlink_to(precious)

    for call in (history.runs, lambda: history.note("last", "x"), lambda: history.forget("last")):
        with contextlib.suppress(HistoryError):
            call()

    assert precious.read_text() == SECRET


# What a run reads of git, in folders that may belong to anyone


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
@pytest.mark.parametrize("place", [".git", ".git/HEAD", ".git/refs/heads/main", ".git/packed-refs", ".git/commondir"])
def test_a_folder_above_with_something_else_than_git_has_no_commit(kind: str, place: str, tmp_path: Path) -> None:
    """Each run looks for a commit, up to the root: a FIFO in /tmp/.git must not stop those of all users below."""
    if place != ".git":
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    put(kind, tmp_path / place)

    assert commit_of(tmp_path / "project") is None


@pytest.mark.parametrize("head", ["ref: ../secret", "ref: refs/../../secret", "ref: refs/heads/main", "0" * 39])
def test_the_commit_is_no_file_of_another_folder(head: str, tmp_path: Path) -> None:
    """It is in the history and in reports, so a repository that came by mail must not choose what is read."""
    (tmp_path / "secret").write_text(SECRET[:32] + "0" * 8)
    heads = tmp_path / ".git" / "refs" / "heads"
    heads.mkdir(parents=True)
    (heads / "main").write_text(SECRET)
    (tmp_path / ".git" / "HEAD").write_text(head)

    assert commit_of(tmp_path) is None


# Logs, and the file of --input


@pytest.mark.parametrize("lines", ["5", "all"])
@pytest.mark.parametrize("piece", [b"\0", b"x\n"], ids=["a line without an end", "lines without a record"])
def test_a_log_without_an_end_of_a_record_fills_no_memory(
    lines: str, piece: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line has the limit, which is far above what a record has."""
    monkeypatch.setattr(records, "MAX_RECORD", 1_000_000)
    log = tmp_path / "flow.log"
    log.write_bytes(piece * 2_000_000)

    assert main(["log", "--path", str(log), "-n", lines]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert "the log has a record of more than 1 MB" in line


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"\xff\xfe\x00", b'{"role": [], "document": {"value": 1}}', b'{"role": "x"}', b"5"]
)
def test_an_input_that_is_none_is_one_line(victim: Victim, content: bytes) -> None:
    """Nothing was run."""
    (victim.mail / "input.json").write_bytes(content)

    ended = victim.dotflow("replay", "last", "load", "--input", str(victim.mail / "input.json"))

    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err.startswith("dotflow: Can't read --input: ")


def test_an_input_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a device."""
    monkeypatch.setattr(inputs, "MAX_INPUT", 1000)

    with pytest.raises(click.ClickException, match="it has more than 1000 characters"):
        inputs.read_input(io.StringIO("\n" * 1001))


# Commands in a history


@pytest.mark.parametrize("option", ["--help", "--debug"])
def test_a_command_that_runs_nothing_is_no_replay(victim: Victim, option: str) -> None:
    """`dotflow start --help` in a history printed the help, and the exit code 0 said that the step had returned."""
    forge(victim.history, trigger="command", argv=["dotflow", "start", option])

    ended = victim.dotflow("replay", "failed", "1")

    assert ended.code in (2, 3)
    assert len(ended.err.splitlines()) == 1
    assert "Usage" not in ended.out


def test_the_path_of_a_program_may_be_too_long(victim: Victim) -> None:
    """For the system, which refuses to look."""
    forge(victim.history, argv=["a" * 5000 + ".py"])

    ended = victim.dotflow("replay", "failed", "1")

    assert ended.code == 2
    assert "was started in a way that can't be repeated" in ended.err


# Locks of the user's own connections


def test_a_descriptor_that_is_opened_again_releases_no_lock(tmp_path: Path) -> None:
    """POSIX locks end with any descriptor of the file: so none is closed, as one would be to get the right number."""
    path = str(tmp_path / "file")
    lower = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    own = OwnDescriptor(os.open(path, os.O_RDWR | os.O_CREAT))
    for descriptor in (*lower, own.number):
        os.close(descriptor)
    users = os.open(path, os.O_RDWR)
    fcntl.lockf(users, fcntl.LOCK_EX | fcntl.LOCK_NB)

    assert own.open_again(path, os.O_RDWR)

    lines = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    ended = subprocess.run([sys.executable, "-c", lines, path], capture_output=True, text=True, check=False)
    assert "BlockingIOError" in ended.stderr
    for descriptor in (own.number, users):
        os.close(descriptor)


# Who may write to the user's own history


def list_of(path: Path, user: int) -> None:
    """Gives another user the right to write, in an access control list. Linux: acl(5), uapi/linux/posix_acl_xattr.h."""
    import struct

    everyone = 0xFFFFFFFF
    entries = [(0x01, 7, everyone), (0x02, 7, user), (0x04, 0, everyone), (0x10, 7, everyone), (0x20, 0, everyone)]
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", data)
    except (AttributeError, OSError) as error:
        pytest.skip(f"no access control lists here: {error}")


def test_an_access_control_list_makes_a_history_foreign(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode shows its rights as those of the group, which may be the user's own."""
    monkeypatch.chdir(victim.folder)
    history = HistorySQLite()
    assert history.why_foreign() == ""

    list_of(victim.history.parent, 64002)

    assert "other users can write to .output" in history.why_foreign()
