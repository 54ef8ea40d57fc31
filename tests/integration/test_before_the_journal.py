"""Storages that were written before dotflow had a journal are read, go on, and get one by the first write."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow
from dotflow.abc.storage import Storage
from dotflow.errors import CheckpointUnreadable, StorageError
from dotflow.providers import StorageFile
from dotflow.resume.journal import Journal
from tests.before_the_journal import STORAGES, night, shop, tonight, unpack
from tests.storages import StorageThree

OLD = {
    "shop/@files",
    "shop/@left_out",
    "shop/stop-cleanup",
    "night/tonight-begun",
}


@pytest.fixture(params=STORAGES)
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    name: str = request.param
    return name


def ran_since(count: int = 0) -> list[str]:
    path = Path("ran.txt")
    return path.read_text().splitlines()[count:] if path.exists() else []


def kept(storage: Storage, keys: set[str]) -> set[str]:
    return {key for key in keys if storage.contains(key)}


def journal_of(storage: Storage, workflow: DotFlow) -> Journal:
    """Returns the journal with the records that say what an earlier dotflow has kept."""
    records = [task._new_record(workflow.workflow_id, None) for task in workflow.task]
    return Journal(storage, workflow.workflow_id, records, is_shared=True)


def test_what_was_kept_is_read_and_a_plan_changes_nothing(kind: str) -> None:
    """All facts are read; who only reads writes none."""
    unpack(kind)
    storage = STORAGES[kind](Path())

    found = journal_of(storage, shop(storage))
    assert found.origin
    assert found.fact("voided") == {"charge": 1}
    assert found.fact("left_out") == ["mail"]
    assert list(found.fact("cleanups")) == ["stop"]
    assert found.fact("files")["open"] is True
    assert found.keeps_inputs is (kind != "values only")
    run_id, is_repeated, time = journal_of(storage, night(storage)).fact("begun")
    assert (len(run_id), is_repeated, time > 0) == (36, 0, True)

    plan = shop(storage).plan(resume=True)
    assert [task.decision for task in plan.tasks] == ["restore", "run", "run", "run"]
    assert plan.removed == []
    assert kept(storage, OLD) == OLD
    assert storage.get("shop/@origin").storage == [found.origin, {"charge": 1}]


def test_runs_go_on_and_fold_it_in(kind: str) -> None:
    """The charge that was cut off keeps its idempotency key, and the mail is left out until a run asks for it."""
    before = unpack(kind)
    storage = STORAGES[kind](Path())

    shop(storage).start(only="charge", resume=True)
    assert ran_since() == [before[-2], "stop"]
    assert before[-2].startswith("charge ")
    assert kept(storage, OLD) == {"night/tonight-begun"}
    found = Journal(storage, "shop")
    assert found.origin
    assert found.fact("voided") == {"charge": 1}
    assert (found.fact("left_out"), found.fact("cleanups")) == (["mail"], {})

    shop(storage).start(resume=True)
    assert ran_since(2) == ["mail", "stop"]
    found = Journal(storage, "shop")
    assert (found.fact("left_out"), found.fact("cleanups")) == ([], {})
    assert not found.fact("files").get("open")

    shop(storage).start()
    assert Journal(storage, "shop").fact("voided") == {}


def test_a_run_that_was_cut_off_before_its_first_value_is_a_new_one(kind: str) -> None:
    """An earlier schedule has left a mark of it, and there is nothing to go on with."""
    unpack(kind)
    storage = STORAGES[kind](Path())

    night(storage).start(resume="unfinished")
    assert ran_since() == ["tonight"]


def test_a_new_start_forgets_it_all(kind: str) -> None:
    """Its values are of another chain, and what was left of the old one is gone."""
    before = unpack(kind)
    storage = STORAGES[kind](Path())
    old = journal_of(storage, shop(storage)).origin

    shop(storage).start()
    assert sorted(line.partition(" ")[0] for line in ran_since()) == ["charge", "mail", "prices", "stop"]
    assert ran_since()[1] not in before
    assert kept(storage, OLD) == {"night/tonight-begun"}
    found = Journal(storage, "shop")
    assert found.read() not in ("", old)
    assert (found.fact("voided"), found.fact("left_out"), found.fact("cleanups")) == ({}, [], {})


def dies_at(storage: Storage, count: int) -> Callable[[], bool]:
    """Lets a storage fail from its write *count* on, and returns a function that says whether it has."""
    left, post, delete = [count], storage.post, storage.delete

    def write(inner: Callable[..., None], *arguments: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("cut off")
        inner(*arguments)

    is_direct = type(storage).delete is Storage.delete  # which posts
    storage.post = lambda key, context: write(post, key, context)  # type: ignore[method-assign]
    if not is_direct:
        storage.delete = lambda key: write(delete, key)  # type: ignore[method-assign]
    return lambda: left[0] < 0


@pytest.mark.parametrize(
    "options", [{"only": "charge", "resume": True}, {"resume": True}, {}], ids=["only", "resume", "new"]
)
def test_a_kill_before_any_write_loses_nothing(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    """A run that goes on sends its charge with the old key, as long as it has no value; no old fact comes back."""
    for count in range(30):
        folder = tmp_path / str(count)
        folder.mkdir()
        with contextlib.chdir(folder):
            before = unpack(kind)
            storage = STORAGES[kind](Path())
            has_died = dies_at(storage, count)
            with contextlib.suppress(StorageError):
                shop(storage).start(**options)
            first, has_value = ran_since(), STORAGES[kind](Path()).get("shop/charge").storage is not None
            storage = STORAGES[kind](Path())
            shop(storage).start(resume=True)

            lines = ran_since()
            again = [line for line in lines[len(first) :] if line.startswith("charge")]
            assert len(again) == (0 if has_value else 1)
            if options:
                assert {line for line in lines if line.startswith("charge")} <= {before[-2]}
                assert "prices" not in lines
            found = Journal(storage, "shop")
            assert (found.fact("left_out"), found.fact("cleanups")) == ([], {})
            shop(storage).start()
            assert kept(storage, OLD) == {"night/tonight-begun"}
            if not has_died():
                return
    pytest.fail("it writes without an end")


def test_a_damaged_fact_of_before_stops_a_resume_and_no_new_start(tmp_path: Path) -> None:
    """The error names the document; a new start needs none."""
    with contextlib.chdir(tmp_path):
        unpack("file")
        storage = StorageFile("kept", durability="process")
        (document,) = Path("kept/shop.checkpoints").glob("origin~*")
        document.write_bytes(document.read_bytes()[:-20])

        with pytest.raises(CheckpointUnreadable, match=r"^The journal of earlier runs in .*origin"):
            shop(storage).start(resume=True)
        assert ran_since() == []
        shop(storage).start()
        assert len(ran_since()) == 4
        assert kept(storage, OLD) == {"night/tonight-begun"}


def test_a_storage_whose_keys_are_made_from_ids_has_the_journal_in_place_of_the_origin() -> None:
    """Both are of the task -1. What had a number of its own is read, folded in and deleted as elsewhere."""
    storage = StorageThree()
    run_id, mark = "0198a3c4-run", Context("0198a3c4-run", 0, "w")
    old = {"w--1": [run_id, {"charge": 1}], "w--2": [True, {}, {}], "w--3": ["mail"]}
    for key, value in old.items():
        storage.post(key, Context(value, -1, "w"))
    storage.post("w-0-begun", mark)
    workflow = DotFlow(Config(storage=storage), workflow_id="w")
    workflow.task.add(tonight)

    found = journal_of(storage, workflow)
    assert found.origin == run_id
    found.put(left_out=["mail", "post"])
    facts = {
        "origin": run_id,
        "voided": {"charge": 1},
        "left_out": ["mail", "post"],
        "begun": [run_id, 0, mark.time.timestamp()],
        "files": {"open": True, "inputs": {}, "worked": {}},
    }
    assert {key: context.storage for key, context in storage.kept.items() if context.storage} == {"w--1": facts}
    found.put(**dict.fromkeys(facts))
    assert not storage.contains("w--1")


def test_two_runs_of_a_process_keep_what_the_other_has_noted(tmp_path: Path) -> None:
    """Where others may write it meanwhile, each write reads first."""
    storage = STORAGES["three methods"](tmp_path)
    one, other = Journal(storage, "w", is_shared=True), Journal(storage, "w", is_shared=True)
    one.put(origin="run")
    other.void(["charge"])
    one.void(["charge"])
    one.put(cleanups={"close": "run"})
    other.put(left_out=["mail"])

    assert storage.get("w/@origin").storage == {
        "origin": "run",
        "voided": {"charge": 2},
        "left_out": ["mail"],
        "cleanups": {"close": "run"},
    }
    one.delete()
    assert storage.get("w/@origin").storage is None


def test_facts_of_another_dotflow_are_kept(tmp_path: Path) -> None:
    """What this one does not know stays, and what has another type than it writes says nothing."""
    storage = STORAGES["file"](tmp_path)
    storage.post("w/@origin", Context({"origin": "run", "later": [1], "left_out": 3}, -1, "w"))
    found = Journal(storage, "w")
    assert found.fact("left_out") == []
    found.put(cleanups={"stop": "run"})
    assert storage.get("w/@origin").storage == {
        "origin": "run",
        "later": [1],
        "left_out": 3,
        "cleanups": {"stop": "run"},
    }
