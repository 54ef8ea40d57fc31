"""@action(checkpoint=False): values that are made anew in each run that needs them."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, action
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidLink, InvalidPolicy
from dotflow.providers import ExecutorThread, LogDefault, StorageFile

COMPLETED, FAILED, SKIPPED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.SKIPPED
MODES = ["sequential", "parallel"]


class Lab:
    """A workflow with a connection that no storage can hold, and a record of what ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.breaks = {"load"}
        self.host = "alpha"

    def workflow(self, build: Callable[["Lab", DotFlow], None]) -> DotFlow:
        config = Config(storage=StorageFile(path=self.folder), log=LogDefault(output="none"), executor=ExecutorThread())
        workflow = DotFlow(config, workflow_id="nightly")
        build(self, workflow)
        return workflow

    def run(self, build: Callable[["Lab", DotFlow], None], mode: str, *, resume: Any = True) -> DotFlow:
        self.ran.clear()
        workflow = self.workflow(build)
        workflow.start(mode=mode, resume=resume)
        return workflow

    def note(self, name: str) -> None:
        self.ran.append(name)
        if name in self.breaks:
            raise ValueError(name)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def cluster(lab: Lab, workflow: DotFlow) -> None:
    """extract and load need the connection, which is closed at the end."""

    @action
    def host() -> str:
        lab.note("host")
        return lab.host

    @action(checkpoint=False)
    def connect(host: str) -> Any:
        lab.note("connect")
        return threading.Lock()

    @action
    def extract(connect: Any) -> int:
        lab.note("extract")
        assert not connect.locked()
        return 1

    @action
    def load(connect: Any, extract: int) -> int:
        lab.note("load")
        return extract + 1

    @action
    def close(connect: Any) -> None:
        lab.note("close")

    workflow.task.add([host, connect, extract, load]).add(close, always=True)


def statuses(workflow: DotFlow) -> list[TypeStatus]:
    return [task.status for task in workflow.result_task()]


@pytest.mark.parametrize("mode", MODES)
def test_it_is_made_anew_where_a_task_that_runs_needs_it(lab: Lab, mode: str) -> None:
    """It is not saved, so any value will do, and the tasks that took an earlier value stay finished."""
    lab.run(cluster, mode)
    assert lab.ran == ["host", "connect", "extract", "load", "close"]

    lab.breaks.clear()
    workflow = lab.run(cluster, mode)

    assert lab.ran == ["connect", "load", "close"]
    assert statuses(workflow) == [COMPLETED] * 5
    assert [task.restored_from for task in workflow.result_task()] == ["checkpoint", None, "checkpoint", None, None]


@pytest.mark.parametrize("mode", MODES)
def test_a_finished_run_makes_it_for_no_cleanup(lab: Lab, mode: str) -> None:
    """A resume of a finished run starts no cluster only to end it."""
    lab.breaks.clear()
    lab.run(cluster, mode)

    workflow = lab.run(cluster, mode)

    assert lab.ran == []
    assert statuses(workflow) == [COMPLETED, SKIPPED, COMPLETED, COMPLETED, SKIPPED]
    assert workflow.result_task()[1].reason == "no task that runs needs it"
    assert workflow.result_task()[4].reason == "it needs 'connect', which was skipped"
    assert not any("/1" in str(path) for path in lab.folder.rglob("*.json"))


@pytest.mark.parametrize("resume", [True, "unfinished"])
@pytest.mark.parametrize("mode", MODES)
def test_a_cleanup_that_failed_is_unfinished_work(lab: Lab, mode: str, resume: Any) -> None:
    """A resume runs it again, with what it takes made anew, until it has completed once."""
    lab.breaks = {"close"}
    assert statuses(lab.run(cluster, mode))[-1] == FAILED

    assert statuses(lab.run(cluster, mode, resume=resume))[-1] == FAILED
    assert lab.ran == ["connect", "close"]
    assert lab.workflow(cluster).plan(mode, resume).removed == []
    lab.breaks.clear()
    workflow = lab.run(cluster, mode, resume=resume)
    assert lab.ran == ["connect", "close"]
    assert statuses(workflow) == [COMPLETED] * 5

    lab.run(cluster, mode)
    assert lab.ran == []


def test_a_new_run_forgets_a_cleanup_that_failed(lab: Lab) -> None:
    """Whose own cleanup completes has nothing left to do."""
    lab.breaks = {"close"}
    lab.run(cluster, "sequential")
    lab.breaks.clear()

    lab.run(cluster, "sequential", resume=False)

    lab.run(cluster, "sequential")
    assert lab.ran == []


def test_the_source_of_an_unsaved_value_counts(lab: Lab) -> None:
    """Another host voids what was made through the connection to the first one."""
    lab.breaks.clear()
    lab.run(cluster, "sequential")
    lab.host = "beta"
    next(path for path in lab.folder.rglob("0.json")).unlink()

    lab.run(cluster, "sequential")

    assert lab.ran == ["host", "connect", "extract", "load", "close"]


@pytest.mark.parametrize("resume", [True, "unfinished"])
def test_in_a_chain(lab: Lab, resume: Any) -> None:
    """previous_context needs it, too."""

    def chain(lab: Lab, workflow: DotFlow) -> None:
        @action(checkpoint=False)
        def connect() -> Any:
            lab.note("connect")
            return threading.Lock()

        @action
        def extract(previous_context: Context) -> int:
            lab.note("extract")
            assert not previous_context.storage.locked()
            return 1

        @action
        def load(previous_context: Context) -> int:
            lab.note("load")
            return int(previous_context.storage) + 1

        workflow.task.add([connect, extract, load])

    lab.run(chain, "sequential")
    lab.breaks.clear()

    assert lab.run(chain, "sequential", resume=resume).result_storage() == [None, 1, 2]
    assert lab.ran == ["load"]
    lab.run(chain, "sequential", resume=resume)
    assert lab.ran == ([] if resume is True else ["connect", "extract", "load"])


def test_a_task_that_no_other_needs_runs_in_each_resume(lab: Lab) -> None:
    """Its value is the workflow's result, which no storage has."""

    def build(lab: Lab, workflow: DotFlow) -> None:
        @action
        def extract() -> int:
            lab.note("extract")
            return 1

        @action(checkpoint=False)
        def chart(extract: int) -> Any:
            lab.note("chart")
            return threading.Lock()

        workflow.task.add([extract, chart])

    lab.run(build, "sequential")
    lab.run(build, "sequential")
    assert lab.ran == ["chart"]


@pytest.mark.parametrize("mode", MODES)
def test_a_list_that_is_made_anew(lab: Lab, mode: str) -> None:
    """The items of a map over it are known by their keys, and restored."""
    names = ["a", "b", "c"]

    def build(lab: Lab, workflow: DotFlow) -> None:
        @action(checkpoint=False)
        def files() -> list[str]:
            lab.note("files")
            return list(names)

        @action
        def parse(file: str) -> str:
            lab.note(file)
            return file.upper()

        @action
        def total(parse: list[str]) -> str:
            lab.note("total")
            return "".join(parse)

        workflow.task.add(files).add(parse, each=files).add(total)

    lab.breaks = {"c"}
    lab.run(build, mode)
    lab.breaks.clear()
    names.insert(0, "d")

    workflow = lab.run(build, mode)

    assert sorted(lab.ran) == ["c", "d", "files", "total"]
    assert workflow.result_storage()[2] == "DABC"
    lab.run(build, mode, resume="unfinished")
    assert sorted(lab.ran) == ["a", "b", "c", "d", "files", "total"]


@pytest.mark.parametrize("mode", MODES)
def test_a_map_over_unsaved_items_of_a_list_that_is_made_anew(lab: Lab, mode: str) -> None:
    """Its items are restored by their keys, though those that they go over still run when it opens."""

    def build(lab: Lab, workflow: DotFlow) -> None:
        @action(checkpoint=False)
        def files() -> list[str]:
            return ["a", "b", "c"]

        @action(checkpoint=False)
        def opened(file: str) -> Any:
            return threading.Lock()

        @action
        def parse(opened: Any) -> str:
            lab.note("parse")
            return "parsed"

        workflow.task.add(files).add(opened, each=files).add(parse, each={"opened": opened})

    lab.run(build, mode)

    workflow = lab.run(build, mode)

    assert lab.ran == []
    assert workflow.result_storage()[2] == ["parsed"] * 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ["after", "needs", "value"])
def test_a_map_that_waits_for_the_unsaved_map_that_it_goes_over(lab: Lab, mode: str, order: str) -> None:
    """Its restored items keep their values, though no item of the other map is made."""

    def build(lab: Lab, workflow: DotFlow) -> None:
        @action(checkpoint=False)
        def opened(file: str) -> str:
            lab.note("opened")
            return file

        @action
        def parse(file: str, all: Any = None) -> str:
            lab.note("parse")
            return file.upper()

        @action(checkpoint=False)
        def total(parse: list[str]) -> str:
            return "".join(parse)

        options: dict[str, Any] = {"needs": {"all": "opened"}} if order == "value" else {order: ["opened"]}
        workflow.task.add(opened, each=["a", "b"])
        workflow.task.add(parse, each={"file": opened}, **options)
        workflow.task.add(total)

    lab.run(build, mode)

    workflow = lab.run(build, mode)

    assert lab.ran == []
    assert workflow.result_storage()[1:] == [["A", "B"], "AB"]


def test_an_item_that_runs_again_is_given_the_whole_unsaved_map_before_it(lab: Lab) -> None:
    """All items of that map are made anew then, not only its own one."""
    given: list[Any] = []

    def build(lab: Lab, workflow: DotFlow) -> None:
        @action(checkpoint=False)
        def opened(file: str) -> str:
            return file

        @action
        def parse(file: str, previous_context: Context) -> str:
            given.append(previous_context.storage)
            lab.note(file)
            return file.upper()

        workflow.task.add(opened, each=["a", "b"]).add(parse, each={"file": opened})

    lab.breaks = {"b"}
    lab.run(build, "sequential")
    lab.breaks.clear()

    lab.run(build, "sequential")

    assert lab.ran == ["b"]
    assert given == [["a", "b"]] * 3


@pytest.mark.parametrize("mode", MODES)
def test_items_that_are_made_anew(lab: Lab, mode: str) -> None:
    """A mapped task without checkpoints runs for all of its items, or not at all."""

    def build(lab: Lab, workflow: DotFlow) -> None:
        @action(checkpoint=False)
        def connect(host: str) -> Any:
            lab.note(host)
            return threading.Lock()

        @action
        def load(connect: list[Any]) -> int:
            lab.note("load")
            return len(connect)

        workflow.task.add(connect, each=["a", "b"]).add(load)

    lab.run(build, mode)
    lab.breaks.clear()
    assert lab.run(build, mode).result_storage()[1] == 2
    assert sorted(lab.ran) == ["a", "b", "load"]
    assert lab.run(build, mode).result_storage()[1] == 2
    assert lab.ran == []


@pytest.mark.parametrize("kind", ["map", "workflow"])
@pytest.mark.parametrize("mode", MODES)
def test_items_that_are_made_anew_for_the_items_of_another_map(lab: Lab, mode: str, kind: str) -> None:
    """Only for those that run. What was made of the others is restored, and a finished run makes nothing."""

    def build(lab: Lab, workflow: DotFlow) -> None:
        @action(checkpoint=False)
        def connect(host: str) -> Any:
            lab.note(f"connect {host}")
            return [host, threading.Lock()]

        @action
        def load(connection: Any) -> str:
            lab.note(f"load {connection[0]}")
            return str(connection[0])

        @action
        def total(load: list[str]) -> int:
            return len(load)

        inner = DotFlow(params={"host": ...})
        inner.task.add(connect)
        workflow.task.add(connect if kind == "map" else inner, name="hosts", each={"host": ["a", "b"]})
        workflow.task.add(load, each={"connection": "hosts"}, keep_going=True).add(total)

    lab.breaks = {"load b"}
    lab.run(build, mode)
    lab.breaks.clear()

    assert lab.workflow(build).plan(mode, resume=True).tasks[0].items_done == 1
    workflow = lab.run(build, mode)

    assert lab.ran == ["connect b", "load b"]
    assert workflow.result_storage()[1:] == [["a", "b"], 2]
    assert lab.run(build, mode).result_storage()[1:] == [["a", "b"], 2]
    assert lab.ran == []


def test_no_condition_depends_on_it(lab: Lab) -> None:
    """A resume could not decide it."""
    workflow = lab.workflow(cluster)

    with pytest.raises(InvalidLink, match="'connect', which has checkpoint=False"):
        workflow.task.add(action(lambda: 0), when="connect")


def test_it_is_true_or_false_and_of_a_whole_step(lab: Lab) -> None:
    """An action of a class has no checkpoint of its own."""
    with pytest.raises(InvalidPolicy, match="True or False"):
        action(checkpoint=0)  # type: ignore[call-overload]

    @action
    class Report:
        @action(checkpoint=False)
        def load(self) -> int:
            return 1

    def build(lab: Lab, workflow: DotFlow) -> None:
        workflow.task.add(Report)

    error = lab.run(build, "sequential").result_task()[0].error
    assert error is not None
    assert "put it on the class" in error.message


def test_a_class_without_a_checkpoint_takes_the_previous_value(lab: Lab) -> None:
    """What was made from it runs again when a task before it has a value that it lacked in the earlier run."""

    def build(lab: Lab, workflow: DotFlow) -> None:
        @action
        def load() -> int:
            lab.note("load")
            return 1

        @action(checkpoint=False)
        class Report:
            @action
            def read(self, previous_context: Context) -> Any:
                return previous_context.storage

        @action
        def use(Report: list[Context]) -> Any:  # noqa: N803 (called like the task)
            return Report[0].storage

        workflow.task.add(load, keep_going=True).add(Report).add(use)

    assert lab.run(build, "sequential").result_storage()[2] is None
    lab.breaks.clear()
    assert lab.run(build, "sequential").result_storage()[2] == 1


def test_a_cleanup_that_is_skipped_leaves_nothing_to_do() -> None:
    """Its failure of before is no unfinished work any more: later runs begin anew."""
    wanted, ran = [True], []

    @action
    def is_wanted() -> bool:
        ran.append("is_wanted")
        return wanted[0]

    @action
    def source() -> int:
        return 1

    @action
    def close(source: int) -> None:
        raise ValueError(source)

    config = Config(log=LogDefault(output="none"))

    def run(**options: Any) -> TypeStatus:
        workflow = DotFlow(config, workflow_id="skipped")
        workflow.task.add(is_wanted).add(source, when="is_wanted").add(close, always=True)
        ran.clear()
        return workflow.start(**options).status

    assert run() is FAILED
    wanted[0] = False
    assert run(resume=True, rerun="is_wanted") is COMPLETED

    assert run(resume="unfinished") is COMPLETED
    assert ran == ["is_wanted"]


@pytest.mark.parametrize("mode", MODES)
def test_rounds_make_what_only_a_map_in_them_takes(lab: Lab, mode: str) -> None:
    """The lists of rounds that run again are not known yet, and their items need the value all the same."""

    def loop(lab: Lab, workflow: DotFlow) -> None:
        rounds = DotFlow(params={"start": ...})
        rounds.task.add(action(checkpoint=False)(lambda: lab.note("pool") or 7), name="pool")
        rounds.task.add(action(lambda start: [start, start + 1]), name="rows")
        rounds.task.add(action(lambda row, pool, start: row + pool + start), name="work", each={"row": "rows"})
        rounds.task.add(action(lambda work: sum(work)), name="total")
        workflow.task.add(action(lambda: 1), name="first")
        workflow.task.add(rounds, name="loop", repeat=2, needs={"start": "first"}, carry={"start": "total"})

    first = lab.run(loop, mode, resume=False).last.value("loop")
    lab.ran.clear()
    workflow = lab.workflow(loop)
    plan = workflow.plan(mode, rerun="first")
    run = workflow.start(mode=mode, rerun="first")

    assert [task.decision for task in plan.tasks[:2]] == ["run", "run"]
    assert (run.status, run.value("loop"), lab.ran) == (COMPLETED, first, ["pool", "pool"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("needs", "made"), [(["pool"], []), ({"pool": "pool"}, ["pool"])])
def test_a_map_whose_items_are_all_skipped_has_only_made_what_it_takes_to_open(
    lab: Lab, mode: str, needs: Any, made: list[str]
) -> None:
    """What takes the map runs with its empty list, and nothing is made that only its items wait for."""

    def pages(lab: Lab, workflow: DotFlow) -> None:
        unsaved = action(checkpoint=False)
        page = (lambda url, pool: lab.note("page")) if isinstance(needs, dict) else (lambda url: lab.note("page"))
        workflow.task.add(unsaved(lambda: lab.note("pool") or 7), name="pool")
        workflow.task.add(action(lambda url: False), name="good", each={"url": [1, 2]})
        workflow.task.add(unsaved(page), name="page", each={"url": [1, 2]}, when="good", needs=needs)
        workflow.task.add(action(lambda page: lab.note("report") or page), name="report", needs={"page": "page"})

    lab.run(pages, mode, resume=False)
    lab.ran.clear()
    workflow = lab.workflow(pages)
    run = workflow.start(mode=mode, rerun="report")

    assert [item.status for item in run.task("page").items] == [SKIPPED, SKIPPED]
    assert (run.status, run.value("report"), lab.ran) == (COMPLETED, [], [*made, "report"])


def test_items_that_are_all_skipped_have_none_made_of_what_they_need(lab: Lab) -> None:
    """Of an added workflow for each entry, an item that is skipped needs nothing of the tasks beside it."""

    def sites(lab: Lab, workflow: DotFlow) -> None:
        site = DotFlow(params={"url": ...})
        site.task.add(action(checkpoint=False)(lambda url: lab.note("connect")), name="connect")
        site.task.add(action(lambda url: False), name="good")
        site.task.add(
            action(checkpoint=False)(lambda url: lab.note("page")), name="page", when="good", needs=["connect"]
        )
        workflow.task.add(site, name="site", each={"url": [1, 2]})

    lab.run(sites, "sequential", resume=False)
    assert lab.ran == ["connect", "connect"]
    lab.run(sites, "sequential")

    assert lab.ran == []


@pytest.mark.parametrize("mode", MODES)
def test_an_item_that_is_skipped_has_none_made_though_another_one_runs(lab: Lab, mode: str) -> None:
    """Of an added workflow for each entry, the values without checkpoints are made for the items that run."""

    def sites(lab: Lab, workflow: DotFlow) -> None:
        site = DotFlow(params={"url": ...})
        site.task.add(action(checkpoint=False)(lambda url: lab.note(f"connect {url}")), name="connect")
        site.task.add(action(lambda url: lab.note(f"good {url}") or url > 1), name="good")
        page = action(checkpoint=False)(lambda connect, url: lab.note(f"page {url}"))
        site.task.add(page, name="page", when="good")
        workflow.task.add(site, name="site", each={"url": [1, 2]})

    lab.run(sites, mode, resume=False)
    lab.run(sites, mode)

    assert sorted(lab.ran) == ["connect 2", "page 2"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("each", [None, {"url": [1, 2]}])
def test_who_needs_a_finished_workflow_has_nothing_made_in_it(lab: Lab, mode: str, each: Any) -> None:
    """What only its own finished tasks take is not made for a task that needs the workflow as a whole."""

    def sites(lab: Lab, workflow: DotFlow) -> None:
        site = DotFlow(params={"url": 1})
        site.task.add(action(checkpoint=False)(lambda url: lab.note("connect") or 1), name="connect")
        site.task.add(action(lambda connect: lab.note("page")), name="page")
        workflow.task.add(site, name="site", each=each)
        workflow.task.add(action(checkpoint=False)(lambda: lab.note("report")), name="report", needs=["site"])

    lab.run(sites, mode, resume=False)
    assert lab.ran.count("connect") == (1 if each is None else 2)
    lab.run(sites, mode)

    assert lab.ran == ["report"]


def test_a_loop_that_has_failed_fails_again_though_what_it_takes_is_unsaved(tmp_path: Path) -> None:
    """Of its rounds nothing is left to run. The value that they take is made, or the run would complete."""

    def workflow() -> DotFlow:
        turn = DotFlow(params={"pool": ...})
        turn.task.add(action(lambda: False), name="look")
        turn.task.add(action(lambda look: look), name="note")
        turn.task.add(action(lambda pool: True), name="good", when="look")
        config = Config(storage=StorageFile(path=tmp_path), log=LogDefault(output="none"))
        workflow = DotFlow(config, workflow_id="nightly")
        workflow.task.add(action(checkpoint=False)(lambda: "pool"), name="pool")
        workflow.task.add(turn, name="turn", repeat=3, until="good", needs={"pool": "pool"})
        return workflow

    for resume in (False, True, True):
        last = workflow()
        last.start(resume=resume, keep_going=True)
        assert last.last.status is FAILED
        failure = last.last.task("turn.note").error
        assert failure is not None
        assert "'turn[0].good' was skipped" in failure.message
