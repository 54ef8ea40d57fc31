"""Files: paths in values, states, and the record of an attempt."""

import dataclasses
import hashlib
import os
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow import Context
from dotflow.codec.document import pack, unpack
from dotflow.codec.json import decode, encode
from dotflow.core.context import Origin
from dotflow.core.files import GONE, LOOSE, MAX_KEPT, YOUNG, FileRecord, FileState, FileWatch, state_from
from dotflow.core.masks import Masks
from dotflow.errors import CheckpointUnreadable
from dotflow.worker import files
from dotflow.worker.files import (
    A_FOLDER,
    MAKER,
    Maker,
    find_paths,
    note_written,
    record,
    state_of,
    states_before,
    take_written,
)

A, B = Path("a.csv"), Path("b.csv")


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any = None


@dataclasses.dataclass(slots=True)
class Slotted:
    left: Any


class Named(NamedTuple):
    left: Any


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    left: Any = None


class Own:
    def __init__(self, left: Any) -> None:
        self.left = left


class MyList(list[Any]):
    """A subclass may hold and mean more."""


# Paths

HOLDERS = [
    lambda value: [1, value],
    lambda value: (value, "x"),
    lambda value: {"key": value},
    lambda value: {value: 1},
    lambda value: {1, value},
    lambda value: frozenset([value]),
    lambda value: deque([value]),
    lambda value: OrderedDict(key=value),
    lambda value: defaultdict(int, {"key": value}),
    lambda value: Counter([value]),
    lambda value: MappingProxyType({"key": value}),
    lambda value: Pair(1, value),
    lambda value: Slotted(value),
    lambda value: Named(value),
    lambda value: Model(left=value),
    lambda value: Model(other=value),
    lambda value: Context(value),
]


@pytest.mark.parametrize("holder", HOLDERS)
def test_paths_are_found_in_what_the_codec_looks_into(holder: Any) -> None:
    """Collections, dataclasses, named tuples, models and contexts, at any depth."""
    assert list(find_paths(holder(A))) == [A]
    assert list(find_paths([{"deep": holder(A)}])) == [A]


@pytest.mark.parametrize("value", ["a.csv", PurePosixPath("a.csv"), Own(A), MyList([A]), b"a.csv", lambda: A, Path])
def test_other_values_hold_no_path(value: Any) -> None:
    """Not a text, a pure path, an object of the user's own class, or a subclass of a list."""
    assert not find_paths(value)
    assert not find_paths([value])


trees = st.recursive(
    st.sampled_from([None, 1, "a.csv", A, B, Path("/c")]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=2), inner) | inner.map(Pair) | inner.map(Context),
)


@given(trees)
def test_each_path_is_found_once(tree: Any) -> None:
    """Whatever holds it."""

    def reference(value: Any) -> set[Path]:
        if isinstance(value, Path):
            return {value}
        members = {list: list, dict: lambda held: held.values(), Pair: lambda held: [held.left]}.get(type(value))
        if type(value) is Context:
            return reference(value.storage)
        return set().union(*map(reference, members(value))) if members else set()

    found = find_paths(tree)

    assert set(found) == reference(tree)
    assert len(found) == len(set(found))


def test_a_value_that_contains_itself_is_searched_once() -> None:
    """A circle ends the search."""
    circle: list[Any] = [A]
    circle.append(circle)

    assert list(find_paths(circle)) == [A]


def test_a_field_that_raises_is_left_out() -> None:
    """Users' code does not break the attempt that has returned."""

    @dataclasses.dataclass
    class Broken:
        left: Any = 1

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    assert not find_paths([Broken()])


# States


def test_a_state_has_the_digest_of_sha256sum(tmp_path: Path) -> None:
    """Small files and those above a megabyte."""
    for size in (0, 5, files.CHUNK, 3 * files.CHUNK + 1):
        path = tmp_path / str(size)
        path.write_bytes(os.urandom(size))

        state = state_of(path, 10**9)

        found = path.stat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert state == FileState(size, found.st_mtime_ns, found.st_ctime_ns, digest)
        assert state_of(path, size - 1) == state._replace(digest="")


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="It has no file without an end.")
def test_a_file_without_an_end_has_no_digest() -> None:
    """Its size is 0, and a read of all of it would never return."""
    state = state_of("/proc/self/pagemap", 1_000_000)
    assert state is not None
    assert (state.size, state.digest) == (0, "")


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at its state and the read."""
    (tmp_path / "file").write_text("old")
    old = (tmp_path / "file").stat()
    (tmp_path / "file").unlink()
    os.mkfifo(tmp_path / "file")
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda path: old)
        state = state_of(tmp_path / "file", 1_000)
    assert state is not None
    assert state.digest == ""


def test_files_and_folders_have_a_state(tmp_path: Path) -> None:
    """Links are followed; a pipe and a circle are plain paths, and what is not there is gone."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "lost").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")

    assert state_of(tmp_path / "link", 9) == state_of(tmp_path / "file", 9)
    assert [state_of(tmp_path / name, 9) for name in ("", "circle", "pipe")] == [A_FOLDER, None, None]
    assert [state_of(tmp_path / name, 9) for name in ("lost", "nowhere", "file/inner")] == [GONE, GONE, GONE]
    assert state_of("a\0b", 9) is None


def test_a_file_that_a_database_has_open_is_loose(tmp_path: Path) -> None:
    """Its content is not read."""
    (tmp_path / "shop.db").write_bytes(bytes(files.SQLITE_PAGE))
    (tmp_path / "shop.db-wal").write_text("")

    state = state_of(tmp_path / "shop.db", 10**9)

    assert state is not None
    assert (state.mark, state.digest) == (LOOSE, "")


def test_a_young_file_of_a_file_system_with_whole_seconds_is_marked(tmp_path: Path) -> None:
    """It may change once more without another time. A time of ten seconds ago is safe."""
    path = tmp_path / "file"
    path.write_text("x")
    now = path.stat().st_mtime_ns // files.SECOND

    def mark(seconds: int) -> str:
        os.utime(path, ns=(seconds * files.SECOND, seconds * files.SECOND))
        state = state_of(path, 9)
        assert state is not None
        return state.mark

    assert [mark(now), mark(now - 10)] == [YOUNG, ""]


def test_a_digest_is_taken_again_for_other_content_of_the_same_time(tmp_path: Path) -> None:
    """Just after a change another one may have the same time, so no digest is remembered."""
    path = tmp_path / "file"
    for text in ("one", "two"):
        path.write_text(text)
        os.utime(path, ns=(10**18, 10**18))
        assert files.digest_of(path, 9) == hashlib.sha256(text.encode()).hexdigest()


STATE = FileState(4, 100, 200, "digest")


@pytest.mark.parametrize(
    ("was", "now", "digest", "is_same"),
    [
        (STATE, STATE, "", True),
        (STATE, STATE._replace(digest=""), "", True),
        (STATE, STATE._replace(mtime=101), "digest", True),
        (STATE, STATE._replace(ctime=201), "digest", True),
        (STATE, STATE._replace(ctime=201), "other", False),
        (STATE, STATE._replace(size=5), "digest", False),
        (STATE, STATE._replace(ctime=201), "", True),
        (STATE, STATE._replace(mtime=101), "", False),
        (STATE._replace(digest=""), STATE._replace(ctime=201), "digest", True),
        (STATE._replace(digest=""), STATE._replace(mtime=101), "digest", False),
        (STATE, GONE, "", False),
        (GONE, STATE, "digest", False),
        (GONE, GONE, "", True),
        (STATE._replace(mark=YOUNG), STATE, "other", False),
        (STATE._replace(mark=YOUNG), STATE, "digest", True),
        (STATE._replace(mark=LOOSE), STATE._replace(size=9, mtime=999), "other", True),
        (STATE._replace(mark=LOOSE), STATE._replace(size=3), "digest", False),
        (STATE._replace(mark=LOOSE), GONE, "", False),
    ],
)
def test_what_is_the_same(was: FileState, now: FileState, digest: str, is_same: bool) -> None:
    """Size and times, else the digests; without one, size and time of change. A loose file may only grow."""
    assert was.is_same(now, lambda: digest) is is_same


states = st.builds(FileState, st.integers(-1, 3), st.integers(0, 2), st.integers(0, 2), st.sampled_from(["", "x", "y"]))


@given(states)
def test_a_state_is_the_same_as_itself(state: FileState) -> None:
    """And it survives as plain data."""
    assert state.is_same(state)
    assert state_from(list(state)) == state


# Records


def test_a_record_has_what_was_made_changed_and_taken(tmp_path: Path) -> None:
    """What was taken and changed is changed, and what was not there is no file that was made."""
    made, changed, taken, read = (tmp_path / name for name in ("made", "changed", "taken", "read"))
    for path in (changed, taken, read):
        path.write_text("old")
    watch = FileWatch(9, (str(changed), str(taken), str(read)), (str(changed), str(taken)))
    before = states_before(watch)
    made.write_text("made")
    changed.write_text("changed")

    found = record(watch, [made, tmp_path, tmp_path / "nowhere"], before)

    assert found is not None
    assert [*found.made] == [str(made), str(tmp_path)]
    assert [*found.changed] == [str(changed)]
    assert [*found.taken] == [str(taken)]
    assert found.made[str(made)].digest == hashlib.sha256(b"made").hexdigest()
    assert found.changed[str(changed)].digest == ""
    assert found.taken[str(taken)].digest == hashlib.sha256(b"old").hexdigest()


def test_a_file_that_was_deleted_or_has_come_is_changed(tmp_path: Path) -> None:
    """Gone is a state, too."""
    deleted, new = tmp_path / "deleted", tmp_path / "new"
    deleted.write_text("x")
    watch = FileWatch(9, (str(deleted), str(new)))
    before = states_before(watch)
    deleted.unlink()
    new.write_text("x")

    found = record(watch, [], before)

    assert found is not None
    assert found.changed[str(deleted)] == GONE
    assert found.changed[str(new)].size == 1


def test_there_is_no_record_without_a_path(tmp_path: Path) -> None:
    """A file that was only read leaves none. A folder in the value does: later steps may be given files in it."""
    path = tmp_path / "file"
    path.write_text("x")
    watch = FileWatch(9, (str(path),))

    assert record(watch, [], states_before(watch)) is None
    assert record(watch, [tmp_path], {}) == FileRecord({str(tmp_path): A_FOLDER})


def test_what_a_block_has_written_belongs_to_the_attempt_around_it() -> None:
    """An inner run notes its own. Outside of attempts nothing is kept."""
    note_written(A)
    outer = MAKER.set(Maker())
    note_written(A)
    inner = MAKER.set(Maker())
    note_written(B)
    assert take_written() == [B]
    MAKER.reset(inner)
    assert take_written() == [A]
    assert not take_written()
    MAKER.reset(outer)
    assert not files.WRITTEN


# As text

RECORD = FileRecord({"a\udc80.csv": STATE}, {"b.csv": GONE}, {'"c"': STATE})


@pytest.mark.parametrize("inputs", [None, "", "digest"])
def test_a_checkpoint_has_its_record(inputs: str | None) -> None:
    """With and without inputs, and with names that are no UTF-8."""
    context = Context(A, 3, "w")
    context._origin = Origin(inputs, "run/1", "code", RECORD)

    read = unpack(pack("w/3", context), "w/3")

    assert read._origin.files == RECORD
    assert read._origin.initial == inputs


def test_a_context_in_a_value_has_its_record() -> None:
    """Of storages that keep contexts by the codec; without files an older dotflow reads it."""
    context = Context(A, 3, "w")
    context._origin = Origin("", "run/1", "code", RECORD)
    plain = Context(A, 3, "w")
    plain._origin = Origin("", "run/1", "code")

    assert decode(encode(context)).inputs == context.inputs
    assert context.inputs is not None
    assert context.inputs.files == RECORD
    assert "made" not in encode(plain)


@pytest.mark.parametrize("wrong", ["[]", '{"made": 1}', '{"made": {"a": [1]}}', '{"found": {}}', '{"made": {"a": {}}}'])
def test_a_record_that_is_none_makes_the_checkpoint_unreadable(wrong: str) -> None:
    """It is not taken for another one."""
    context = Context(A, 3, "w")
    context._origin = Origin(None, files=RECORD)
    data = pack("w/3", context)
    head, _, rest = data.partition(b"\n")
    lines = rest.split(b"\n")
    index = next(index for index, line in enumerate(lines) if line.startswith(b'"files"'))
    lines[index] = b'"files": ' + wrong.encode() + b","
    body = b"\n".join(lines)
    checksum = hashlib.sha256(body).hexdigest().encode()

    with pytest.raises(CheckpointUnreadable):
        unpack(b'{"sha256": "' + checksum + b'",\n' + body, "w/3")
    assert head


# In a history


def test_a_history_keeps_a_record_as_text() -> None:
    """Without secrets; a path that is in several fields is there once."""
    one, other = FileState(1, 2, 3, "5d"), FileState(4, 5, 6, "", YOUNG)
    record = FileRecord(made={"a/s3cret-1": one, "b": other}, taken={"b": one, "c": GONE})

    assert FileRecord.from_text(record.as_text()) == record._replace(taken={"c": GONE})
    assert FileRecord.from_text(record.as_text(Masks(["s3cret-1"]))).made.keys() == {"a/***", "b"}


def test_a_history_keeps_the_first_thousand_files_of_an_attempt() -> None:
    """A page that shows a run reads them all."""
    record = FileRecord(made={str(number): GONE for number in range(MAX_KEPT + 1)})

    assert len(FileRecord.from_text(record.as_text()).made) == MAX_KEPT


@pytest.mark.parametrize("mtime", [10**40, -(10**40), 2**63 - 1, 10**18])
def test_every_time_can_be_shown(mtime: int) -> None:
    """A file system may keep any, and a damaged history have any."""
    assert 0 < FileState(1, mtime).modified.astimezone().year < 4000


@pytest.mark.parametrize("text", ["", "x", "[]", '{"made": {"a": [1]}}', "[" * 100_000])
def test_a_damaged_text_has_no_files(text: str) -> None:
    """The run can be shown all the same."""
    assert FileRecord.from_text(text) == FileRecord()


# Sizes
