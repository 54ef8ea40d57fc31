"""Runs that their parameters name: each has checkpoints, a lock and an index of its own, whatever the values are."""

import datetime
import enum
from pathlib import Path
from typing import Any

import pytest

import dotflow
from dotflow import Config, Control, DotFlow, Run, Secret, Setting, action
from dotflow.abc.storage import Storage
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument, InvalidLink, MissingParam, UnknownArgument
from dotflow.providers import HistorySQLite, LogDefault, StorageDefault, StorageFile, StorageSQLite
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


# Settings


@action(cache=True)
def spend(day: Any, budget: int) -> Any:
    ran.append(("spend", budget))
    return day


@action
def all_of(params: Any, spend: Any) -> Any:
    ran.append(("all_of", params["budget"]))
    return dict(params)


@action
def only_if(all_of: Any) -> None:
    ran.append("only_if")


def paid(storage: Storage, declared: object = None, history: Any = None, **arguments: Any) -> Run:
    """Runs a workflow with a Setting, of which a step takes it, one takes all parameters, and one depends on it."""
    config = Config(storage=storage, cache=storage, log=LogDefault(output="none"), history=history)
    inner = DotFlow(params={"budget": Setting(1), "level": Setting(2)})
    inner.task.add(detail)
    params = {"day": ..., "budget": Setting(50) if declared is None else declared}
    workflow = DotFlow(config, workflow_id="nightly", params=params)
    workflow.task.add(spend).add(all_of).add(only_if, when="budget").add(inner.task, name="inner")
    workflow.task.add(spend, name="mapped", each={"day": ["a", "b"]})
    return workflow.start(params={"day": 1, **arguments.pop("params", {})}, **arguments)


@action
def detail(budget: int, level: int) -> int:
    ran.append(("detail", budget, level))
    return level


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_setting_neither_names_a_run_nor_is_an_input(tmp_path: Path, mode: str) -> None:
    """Steps take it, the history has it, and raising it runs nothing again: neither a resume nor a new, cached run."""
    storage, history = StorageFile(tmp_path / "kept"), HistorySQLite(tmp_path / "history.db")
    first = paid(storage, history=history)
    assert first.workflow_id == "nightly@day=1"
    assert first.status is TypeStatus.COMPLETED, first.tasks
    assert ("detail", 50, 2) in ran
    assert ("all_of", 50) in ran
    ran.clear()

    again = paid(storage, history=history, mode=mode, params={"budget": 100}, resume=True)
    raised = paid(storage, Setting(200), history=history, mode=mode, resume=True)
    assert ran == []
    assert [run.workflow_id for run in (again, raised)] == ["nightly@day=1"] * 2
    assert [run.params for run in reversed(history.runs())] == [{"day": 1, "budget": n} for n in (50, 100, 200)]

    anew = paid(storage, history=history, params={"budget": 7})
    assert [one for one in ran if one[0] == "spend"] == []  # its value is cached
    assert ("all_of", 7) in ran
    assert anew.status is TypeStatus.COMPLETED
    history.close()


def test_a_file_that_is_a_setting_is_no_input(tmp_path: Path) -> None:
    """Another content of it runs nothing again."""
    file = tmp_path / "terms"
    file.write_text("1")
    storage = StorageFile(tmp_path / "kept")

    @action
    def read(terms: Path) -> str:
        ran.append(terms.read_text())
        return ran[-1]

    def start(**arguments: Any) -> Any:
        workflow = DotFlow(
            Config(storage=storage, log=LogDefault(output="none")), workflow_id="n", params={"terms": Setting(file)}
        )
        workflow.task.add(read)
        return workflow.start(**arguments)

    start()
    file.write_text("22")
    start(resume=True)

    assert ran == ["1"]


def test_what_a_setting_can_not_be(storage: Storage) -> None:
    """A list of items is an input, a secret is no setting, and one without a default has to be given."""
    workflow = DotFlow(params={"rows": Setting([1, 2])})
    with pytest.raises(InvalidLink, match="each='rows' is a Setting, which is no input"):
        workflow.task.add(extract, each={"hour": "rows"}, params={"day": 1})
    with pytest.raises(InvalidArgument, match="A Secret is the default"):
        Setting(Secret("TOKEN"))
    with pytest.raises(MissingParam, match="budget"):
        paid(storage, Setting(...))
    assert paid(storage, Setting(...), params={"budget": 3}).workflow_id == "nightly@day=1"


@pytest.mark.parametrize("default", [50, ...])
def test_a_submission_with_a_setting(tmp_path: Path, default: object) -> None:
    """It has the same name with any value, of the workflow as by its id; the last value counts."""
    history = HistorySQLite(tmp_path / "history.db")
    workflow = DotFlow(
        Config(history=history, log=LogDefault(output="none")),
        workflow_id="nightly",
        params={"day": ..., "budget": Setting(default)},
    )
    workflow.task.add(spend)
    run = workflow.submit({"day": "1", "budget": 60})

    assert Control(history).submit("nightly", {"day": "1", "budget": "70"}) == run
    found = Control(history).run(run)
    assert (found.workflow_id, found.params) == (
        'nightly@day="1"',
        {"day": "1", "budget": 70},
    )
    if default is ...:
        with pytest.raises(MissingParam, match="budget"):
            Control(history).submit("nightly", {"day": "2"})
    else:
        assert Control(history).params("nightly") == {"day": ..., "budget": 50}
    history.close()


def test_the_word_of_luigi_leads_to_settings() -> None:
    """Wherever it is written."""
    with pytest.raises(UnknownArgument, match=r"budget.: Setting\(50\)"):
        DotFlow(significant=False)  # type: ignore[call-arg]
    with pytest.raises(UnknownArgument, match=r"budget.: Setting\(50\)"):
        action(significant=False)(extract)  # type: ignore[call-overload]
    with pytest.raises(AttributeError, match="significant is called Setting here"):
        dotflow.significant  # noqa: B018
