"""Runs that their parameters name: each has checkpoints, a lock and an index of its own, whatever the values are."""

import datetime
import enum
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.abc.storage import Storage
from dotflow.core.types.execution import TypeExecution
from dotflow.errors import InvalidArgument
from dotflow.providers import LogDefault, StorageDefault, StorageFile, StorageSQLite
from dotflow.records.preview import preview
from tests.resume_fuzz import ByName

ran: list[Any] = []


class Size(enum.Enum):
    SMALL = "small"


VALUES = {
    "plain": "2026-11-25",
    "date": datetime.date(2026, 11, 26),
    "slashes": "../../a/b",
    "backslash": "a\\b",
    "quotes": 'it\'s "5"',
    "space": " ",
    "empty": "",
    "unicode": "Überweisung 漢字 😀",
    "surrogate": "\ud800",
    "newline": "a\nb",
    "at": "x@day=1,y=2",
    "long": "x" * 5_000,
    "longer": "x" * 5_001,
    "text": "5",
    "number": 5,
    "float": 5.0,
    "none": None,
    "false": False,
    "list": [1, {"b": 2}],
    "bytes": b"\x00",
    "set": {"b", "a"},
    "enum": Size.SMALL,
    "path": Path("data/in.csv"),
}


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@pytest.fixture(params=["memory", "three methods", "file", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return {
        "memory": StorageDefault,
        "three methods": ByName,
        "file": lambda: StorageFile(tmp_path / "kept", durability="process"),
        "sqlite": lambda: StorageSQLite(tmp_path / "kept.db", durability="process"),
    }[request.param]()


@action
def extract(day: Any, hour: int) -> Any:
    ran.append((day, hour))
    return day


def run(storage: Storage, day: Any, **arguments: Any) -> DotFlow:
    workflow = DotFlow(
        Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly", params={"day": ..., "size": 1}
    )
    workflow.task.add(extract, each={"hour": [1, 2]})
    workflow.start(params={"day": day}, **arguments)
    return workflow


@pytest.mark.exhaustive(keep_every=4)
def test_each_value_has_checkpoints_of_its_own(storage: Storage) -> None:
    """Also where it is no file name; another process finds the same ones."""
    for day in VALUES.values():
        assert run(storage, day).result_storage() == [[day, day]]
    assert len(ran) == 2 * len(VALUES)

    for day in VALUES.values():
        assert run(storage, day, resume=True).result_storage() == [[day, day]]
    assert len(ran) == 2 * len(VALUES)


def test_a_new_run_voids_no_other_one(storage: Storage) -> None:
    """Its id begins like theirs."""
    for day in ("1", "10", "1/0"):
        run(storage, day)
    run(storage, "1")
    ran.clear()

    for day in ("1", "10", "1/0"):
        run(storage, day, resume=True)

    assert ran == []


def test_a_value_that_can_not_name_a_run_is_refused(storage: Storage) -> None:
    """At the start, with the parameter's name."""
    with pytest.raises(InvalidArgument, match=r"params\['day'\]"):
        run(storage, object())


def test_a_firing_finishes_the_items_that_are_left(storage: Storage) -> None:
    """With `unfinished`, as schedules do: a map that is not complete goes on, and a complete one runs anew."""
    fails = {2}

    @action
    def work(number: int) -> int:
        ran.append(number)
        if number in fails:
            raise ConnectionError
        return number

    @action
    def total(work: list[int]) -> int:
        return sum(work)

    def fire() -> list[Any]:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")
        workflow.task.add(work, each=[1, 2, 3]).add(total)
        workflow.start(resume="unfinished", keep_going=True)
        return workflow.result_storage()

    assert fire()[1] == 4
    fails.clear()
    assert fire()[1] == 6
    assert ran == [1, 2, 3, 2]
    assert fire()[1] == 6
    assert ran == [1, 2, 3, 2, 1, 2, 3]


@action(cache=True)
def widen(params: Any) -> Any:
    with pytest.raises(TypeError):
        params["size"] = 2
    ran.append(params["size"])
    return params["size"]


def test_a_step_can_not_change_the_parameters_of_others() -> None:
    """`params` is a read-only mapping, which the cache compares."""
    workflow = DotFlow(Config(log=LogDefault(output="none")), params={"size": 1})
    workflow.task.add(widen).add(widen, name="again")

    run = workflow.start()

    assert run.params == {"size": 1}
    assert run["again"].restored_from == "cache"
    assert ran == [1]


@pytest.mark.parametrize("mode", [TypeExecution.SEQUENTIAL, TypeExecution.PARALLEL])
def test_all_parameters_are_shown_as_what_they_are(mode: TypeExecution) -> None:
    """In results, and in previews, such as that of a question; a worker process gets them, too."""
    workflow = DotFlow(Config(log=LogDefault(output="none")), params={"size": 1})
    workflow.task.add(action(lambda params: params), name="all")

    run = workflow.start(mode=mode)

    assert run.value("all") == {"size": 1}
    assert preview(run.value("all")) == "{'size': 1}"
    assert '{"size":1}' in workflow.result().model_dump_json()
