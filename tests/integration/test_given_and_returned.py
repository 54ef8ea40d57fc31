"""What a task is given, and what it returns: written-down values, the last error, and values with named parts."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dotflow import Config, Context, DotFlow, Secret, TaskError, action
from dotflow.abc.executor import Executor
from dotflow.abc.storage import Storage
from dotflow.errors import (
    AmbiguousTask,
    DotflowError,
    InvalidArgument,
    InvalidLink,
    NotRun,
    RunFailed,
    UnknownParameter,
    UnknownTask,
)
from dotflow.providers import ExecutorAsync, ExecutorProcess, ExecutorThread, LogDefault, StorageDefault, StorageFile
from tests.integration.modes import COMPLETED, FAILED, MODES, SKIPPED, group, start
from tests.marks import in_any_worker

MakeWorkflow = Callable[..., DotFlow]


class Halves(NamedTuple):
    low: int
    high: int


@dataclasses.dataclass
class Sides:
    high: int
    low: int


@action
def split() -> tuple[list[int], list[int]]:
    return [1, 2, 3], [4]


@action
def fit(train: list[int], depth: int, test: list[int] = []) -> tuple[int, int]:  # noqa: B006 (read only)
    return len(train) * depth, len(test)


@action
def halve(number: int) -> Halves:
    return Halves(number // 2, number - number // 2)


@action
def ten_times(number: int) -> int:
    return number * 10


@action
def total(low: list[int], high: list[int]) -> tuple[int, int]:
    return sum(low), sum(high)


@action(retry=2, retry_delay=0)
def fragile(depth: int = 0) -> None:
    raise ConnectionError("no route")


@action
def explain(error: TaskError, depth: int) -> tuple[str, str, int, int]:
    assert "ConnectionError: no route" in error.traceback
    return error.exception, error.message, error.attempt, depth


# Written-down values


@pytest.mark.exhaustive(keep_every=4)
@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_written_down_values_fill_parameters(make_workflow: MakeWorkflow, mode: str) -> None:
    """Those of a step, in every mode; of a map, they are the same for all items."""

    @action
    def grow(number: int, by: int) -> int:
        return number + by

    workflow = make_workflow()
    workflow.task.add(fit, params={"train": [1, 2], "depth": 3}, group_name=group(mode, 0))
    workflow.task.add(grow, each=[1, 2], params={"by": 5}, group_name=group(mode, 1))

    run = start(workflow, mode)

    assert [task.value for task in run.tasks] == [(6, 0), [6, 7]]


def test_written_down_values_win_over_names(make_workflow: MakeWorkflow) -> None:
    """Over a task and over a run parameter of that name."""

    @action
    def add(one: int, other: int) -> int:
        return one + other

    workflow = make_workflow(params={"other": 10})
    workflow.task.add(action(lambda: 1), name="one").add(add).add(add, name="both", params={"one": 2, "other": 3})

    assert [task.value for task in workflow.start().tasks] == [1, 11, 5]


def test_a_class_takes_written_down_values_in_its_init(make_workflow: MakeWorkflow) -> None:
    """As it takes tasks and run parameters."""

    @action
    class Report:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        @action
        def pages(self) -> int:
            return self.depth

    workflow = make_workflow()
    workflow.task.add(Report, params={"depth": 3})

    assert [context.storage for context in workflow.start()["Report"].value] == [3]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_written_down_values_fill_run_parameters_of_an_added_workflow(make_workflow: MakeWorkflow, mode: str) -> None:
    """Without a value of their own here, even if a task or run parameter has their name; conditions see them, too."""
    inner = DotFlow(params={"depth": ..., "is_wanted": False})
    inner.task.add(fit, params={"train": [1]}).add(action(lambda: "done"), name="then", when="is_wanted")
    workflow = make_workflow(params={"depth": 100})
    workflow.task.add(inner, name="small", params={"depth": 1})
    workflow.task.add(inner, name="large", params={"depth": 9, "is_wanted": True})

    run = start(workflow, mode)

    assert [task.value for task in run.tasks] == [(1, 0), None, (9, 0), "done"]


@pytest.mark.parametrize(
    ("params", "options", "error", "message"),
    [
        (3, {}, InvalidArgument, r"params=3 is not accepted\. Pass a dict of values by parameter"),
        ({1: 2}, {}, InvalidArgument, r"Pass a dict of values by parameter"),
        ({"dept": 3}, {}, InvalidLink, r"step 'fit' has no parameter 'dept'\. Did you mean 'depth'\?"),
        ({"colour": 3}, {}, InvalidLink, r"step 'fit' has no parameter 'colour'\. It has 'train' and 'depth' and"),
        ({"params": {}}, {}, InvalidLink, r"params can't fill 'params'"),
        ({"previous_context": 1}, {}, InvalidLink, r"params can't fill 'previous_context'"),
        ({"depth": Secret("KEY")}, {}, InvalidArgument, r"A Secret is the default of a step's parameter"),
        ({"depth": 1}, {"needs": {"depth": "one"}}, InvalidLink, r"Both needs and params fill 'depth'"),
        ({"depth": 1}, {"each": {"depth": [1]}}, InvalidLink, r"Both each and params fill 'depth'"),
    ],
)
def test_written_down_values_that_are_refused(
    make_workflow: MakeWorkflow, params: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """At `add`, which adds nothing then."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: 1), name="one")

    with pytest.raises(error, match=message):
        workflow.task.add(fit, params=params, **options)

    assert workflow.task.count() == 1


def test_all_run_parameters_stay_those_of_the_run(make_workflow: MakeWorkflow) -> None:
    """A step that takes `params` is given them, so no other value can stand in that place."""

    @action
    def show(params: Any) -> Any:
        return dict(params)

    workflow = make_workflow(params={"day": 1})

    with pytest.raises(InvalidLink, match=r"params can't fill 'params'"):
        workflow.task.add(show, params={"params": {}})


def test_written_down_values_fill_no_secret(make_workflow: MakeWorkflow) -> None:
    """Neither that of a step nor that of an added workflow: the definition would have it in plain text."""

    @action
    def sync(token: str = Secret("TOKEN")) -> None: ...

    inner = DotFlow(params={"token": Secret("TOKEN")})
    inner.task.add(sync)
    workflow = make_workflow()

    for step in (sync, inner):
        with pytest.raises(InvalidLink, match=r"params can't fill 'token', which is a secret"):
            workflow.task.add(step, name="sync", params={"token": "x"})
    with pytest.raises(InvalidLink, match=r"the other workflow has no parameter 'tokn'\. Did you mean 'token'\?"):
        workflow.task.add(inner, name="sync", params={"tokn": "x"})


# Resuming with written-down values


def build_counted(storage: Storage, depth: Any, ran: list[str]) -> DotFlow:
    """A task that changes what it is given, one after it, and an added workflow whose task changes its default."""

    @action
    def pop(depth: list[int]) -> int:
        ran.append("pop")
        return depth.pop()

    @action
    def use(pop: int) -> int:
        ran.append("use")
        return pop

    inner = DotFlow(params={"depth": depth})
    inner.task.add(pop)
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
    workflow.task.add(pop, params={"depth": list(depth)}).add(use)
    workflow.task.add(inner, name="inner", params={"depth": list(depth)})
    return workflow.task.add(inner, name="default") and workflow


def test_a_step_that_changes_what_it_was_given_voids_nothing(tmp_path: Path) -> None:
    """Digests are taken when the run begins: of a written-down value, and of the default of an added workflow."""
    ran: list[str] = []
    build_counted(StorageFile(tmp_path), [1, 2], ran).start()
    assert ran == ["pop", "use", "pop", "pop"]

    run = build_counted(StorageFile(tmp_path), [1, 2], ran).start(resume=True)

    assert ran == ["pop", "use", "pop", "pop"]
    assert [task.restored_from for task in run.tasks] == ["checkpoint"] * 4


def test_another_written_down_value_voids_what_was_made_from_it(tmp_path: Path) -> None:
    """And what takes its value; the plan says so before."""
    ran: list[str] = []
    build_counted(StorageFile(tmp_path), [1, 2], ran).start()
    ran.clear()
    workflow = build_counted(StorageFile(tmp_path), [1, 3], ran)

    planned = workflow.plan(resume=True).tasks
    run = workflow.start(resume=True)

    assert [(task.decision, task.reason) for task in planned] == [
        ("run", "it was made from another value of 'depth'"),
        ("run", "after pop"),
        ("run", "it was made from another value of 'depth'"),
        ("run", "it was made from another value of 'depth'"),
    ]
    assert ran == ["pop", "use", "pop", "pop"]
    assert run.value("use") == 3


# The last error


@pytest.mark.exhaustive(keep_every=4)
@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_a_fallback_may_take_the_last_error(make_workflow: MakeWorkflow, mode: str) -> None:
    """That of the last attempt before it, and written-down values with it; of an item its own."""

    @action
    def parse(text: str) -> int:
        return int(text)

    @action
    def note(text: str, error: TaskError | None = None) -> str:
        return f"{text}: {error and error.message}"

    workflow = make_workflow()
    workflow.task.add(fragile, fallback=explain, params={"depth": 3}, group_name=group(mode, 0))
    workflow.task.add(parse, each=["1", "x", "y"], fallback=note, group_name=group(mode, 1))

    run = start(workflow, mode)

    assert run.tasks[0].value == ("ConnectionError", "no route", 2, 3)
    assert run.tasks[1].value == [
        1,
        "x: invalid literal for int() with base 10: 'x'",
        "y: invalid literal for int() with base 10: 'y'",
    ]


def test_a_task_called_error_fills_that_parameter(make_workflow: MakeWorkflow) -> None:
    """As it fills any other; a run parameter and a written-down value do, too."""

    @action
    def show(error: Any) -> Any:
        return error

    workflow = make_workflow(params={"other": 3})
    workflow.task.add(fragile, name="own", fallback=show, params={"error": "given"})
    workflow.task.add(action(lambda: "a value"), name="error").add(fragile, name="second", fallback=show)
    of_param = make_workflow(params={"error": "a parameter"})
    of_param.task.add(fragile, fallback=show)

    assert [task.value for task in workflow.start().tasks] == ["given", "a value", "a value"]
    assert of_param.start().tasks[0].value == "a parameter"


def test_an_ordinary_step_takes_no_error(make_workflow: MakeWorkflow) -> None:
    """There is none: only a fallback has one before it."""
    with pytest.raises(UnknownParameter, match=r"Step 'explain' has the parameter 'error', which nothing fills"):
        make_workflow().task.add(explain, params={"depth": 3})


def test_the_error_shows_no_secret(make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its message nor its traceback, as in `task.errors`."""
    monkeypatch.setenv("TOKEN", "tell-nobody-this")

    @action
    def fail(token: str = Secret("TOKEN")) -> None:
        raise ValueError(f"refused {token}")

    @action
    def show(error: TaskError) -> tuple[str, str]:
        return error.message, error.traceback

    workflow = make_workflow()
    workflow.task.add(fail, fallback=show)

    message, traceback = workflow.start().tasks[0].value

    assert message == "refused ***"
    assert "tell-nobody-this" not in traceback


def test_the_error_is_no_part_of_the_identity(tmp_path: Path) -> None:
    """A value that a fallback made of an error is restored: another error in its place would not void it."""
    ran: list[str] = []

    @action
    def fail() -> None:
        raise ValueError(len(ran))

    @action
    def mend(error: TaskError) -> str:
        ran.append(error.message)
        return error.message

    for _ in range(2):
        workflow = DotFlow(Config(storage=StorageFile(tmp_path), log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add(fail, fallback=mend)
        assert workflow.start(resume=True).tasks[0].value == "0"
    assert ran == ["0"]


# Outputs


@in_any_worker
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "value", [(6, 4), [6, 4], {"high": 4, "low": 6, "more": 0}, Halves(low=6, high=4), Sides(high=4, low=6)], ids=type
)
def test_parts_of_a_value_are_taken_by_name(make_workflow: MakeWorkflow, mode: str, value: Any) -> None:
    """Of a dict by its keys, of a NamedTuple or dataclass by its fields, else by position; the value stays one."""

    @action
    def take(low: int, high: int, whole: Any) -> tuple[int, int, Any]:
        return low, high, whole

    workflow = make_workflow()
    workflow.task.add(action(lambda: value), name="whole", outputs=["low", "high"], group_name=group(mode, 0))
    workflow.task.add(take, group_name=group(mode, 1))

    run = start(workflow, mode)

    assert run.value("take") == (6, 4, value)
    assert [run.value(name) for name in ("low", "high", "whole")] == [6, 4, value]


def test_outputs_stand_wherever_a_value_is_named(make_workflow: MakeWorkflow) -> None:
    """In `needs`, `each`, `when` and `unless`; as an order edge and in `rerun` they mean their task."""

    @action
    def route() -> dict[str, Any]:
        return {"speed": "fast", "urls": [1, 2], "is_empty": False}

    double = action(lambda number: number * 2)
    workflow = make_workflow()
    workflow.task.add(route, outputs=["speed", "urls", "is_empty"])
    workflow.task.add(double, name="a", needs={"number": "speed"}).add(double, name="b", each="urls")
    workflow.task.add(action(lambda: 1), name="c", when={"speed": "fast"}, unless="is_empty")
    workflow.task.add(action(lambda: 2), name="d", when={"speed": "slow"})
    workflow.task.add(action(lambda: 3), name="e", needs=["urls"]).add(action(lambda: 4), name="f", after="speed")

    run = workflow.start()

    assert [task.value for task in run.tasks[1:]] == ["fastfast", [2, 4], 1, None, 3, 4]
    assert run["d"].reason == "speed was 'fast'"
    assert [task.needs for task in workflow.plan().tasks[4:]][-2:] == [["d", "route"], ["e", "route"]]
    assert [task.decision for task in workflow.plan(rerun="urls").tasks[:2]] == ["run", "run"]


@in_any_worker
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_of_a_map_an_output_is_the_list_of_the_parts(make_workflow: MakeWorkflow, mode: str) -> None:
    """And a map over it goes item by item, each with its part; `input` shows it."""
    workflow = make_workflow()
    workflow.task.add(halve, each=[3, 5, 8], outputs=["low", "high"]).add(total)
    workflow.task.add(ten_times, each="high").add(
        action(lambda a, b, c: (a, b, c)), name="pairs", each={"a": "high", "b": "low", "c": "halve"}
    )

    run = workflow.start(mode=mode)

    assert run.value("total") == (1 + 2 + 4, 2 + 3 + 4)
    assert run.value("ten_times") == [20, 30, 40]
    assert run.value("pairs")[0] == (2, 1, Halves(1, 2))
    assert [item.input for item in run["ten_times"].items] == [2, 3, 4]
    assert run["pairs"].items[2].input == {"a": 4, "b": 4, "c": Halves(4, 4)}
    assert run.value("low") == [1, 2, 4]


def test_a_map_over_an_output_does_not_wait_for_the_whole_map(make_workflow: MakeWorkflow) -> None:
    """As over the task: the item of the part begins before the others have ended."""
    order: list[str] = []

    @action
    def first(number: int) -> tuple[int, int]:
        order.append(f"first {number}")
        return number, number

    @action
    def second(part: int) -> None:
        order.append(f"second {part}")

    workflow = make_workflow(executor=ExecutorThread(max_workers=1))
    workflow.task.add(first, each=[0, 1, 2], outputs=["one", "two"]).add(second, each="two")

    workflow.start(mode="parallel")

    assert order.index("second 0") < order.index("first 2")


def test_the_outputs_of_an_added_workflow_have_its_name_before_them(make_workflow: MakeWorkflow) -> None:
    """Inside they are called as ever."""
    inner = DotFlow()
    inner.task.add(split, outputs=["train", "test"]).add(fit, params={"depth": 3})
    outer = DotFlow()
    outer.task.add(inner, name="prepare").add(ten_times, name="tens", each={"number": "prepare.test"})
    workflow = make_workflow()
    workflow.task.add(outer, name="all").add(ten_times, each={"number": "all.prepare.train"})

    run = workflow.start()

    assert [run.value(name) for name in ("all.prepare.fit", "all.tens", "ten_times")] == [(9, 1), [40], [10, 20, 30]]
    assert run.value("all.prepare.test") == [4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": "train"}, r"outputs='train' is not accepted\. Pass a list of names"),
        ({"outputs": []}, r"Pass a list of names"),
        ({"outputs": [1]}, r"Pass a list of names"),
        ({"outputs": ["params"]}, r"Pass a list of names, .* other than initial_context"),
        ({"outputs": ["a", "b", "a"]}, r"outputs='a' is not accepted\. Pass names that no task"),
        ({"outputs": ["one"]}, r"outputs='one' is not accepted"),
        ({"outputs": ["day"]}, r"outputs='day' is not accepted"),
        ({"outputs": ["low"]}, r"outputs='low' is not accepted"),
        ({"outputs": ["split"]}, r"The output 'split' is called like its task\. Rename it, or pass name="),
        ({"name": "low"}, r"name='low' is not accepted"),
    ],
)
def test_outputs_that_are_refused(make_workflow: MakeWorkflow, options: dict[str, Any], message: str) -> None:
    """Each name stands for one value: no task, run parameter or other output has it."""
    workflow = make_workflow(params={"day": 1})
    workflow.task.add(action(lambda: 1), name="one").add(halve, params={"number": 1}, outputs=["low"])

    with pytest.raises(DotflowError, match=message):
        workflow.task.add(split, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params": {"depth": "deep"}}, r"params: step 'fit' takes 'depth' as int, and 'deep' is none"),
        (
            {"params": {"depth": 1}, "outputs": ["a", "b", "c"]},
            r"step 'fit' returns tuple\[int, int\], which has",
        ),
        ({"params": {"depth": 1}, "needs": {"test": "high"}}, r"takes 'test' from task 'halve': it returns int"),
        ({"params": {"depth": 1}, "when": {"high": "x"}}, r"'high' returns int, which never equals 'x'"),
        ({"params": {"test": []}, "each": {"depth": "high"}}, r"task 'halve' returns int, which is no list"),
    ],
)
def test_types_that_can_not_fit(make_workflow: MakeWorkflow, options: dict[str, Any], message: str) -> None:
    """Of a written-down value, and of a part wherever it is named."""
    workflow = make_workflow(params={"train": []})
    workflow.task.add(halve, params={"number": 3}, outputs=["low", "high"])

    with pytest.raises(InvalidLink, match=message):
        workflow.task.add(fit, **options)


def test_a_written_down_value_that_does_not_fit_an_added_workflow(make_workflow: MakeWorkflow) -> None:
    """The step inside that takes the parameter has the annotation."""
    inner = DotFlow(params={"number": ...})
    inner.task.add(halve)

    with pytest.raises(InvalidLink, match=r"params: step 'halve' takes 'number' as int, and 'x' is none"):
        make_workflow().task.add(inner, name="inner", params={"number": "x"})


def test_what_has_no_outputs(make_workflow: MakeWorkflow) -> None:
    """Classes, whose value is a list of contexts, several steps, and an added workflow."""

    @action
    class Report:
        @action
        def page(self) -> int:
            return 1

    workflow = make_workflow()
    for step, message in (
        (Report, r"'Report' is a class"),
        ([split, halve], r"this adds several tasks"),
        (DotFlow(), r"outputs is for one task"),
    ):
        with pytest.raises(InvalidLink, match=message):
            workflow.task.add(step, outputs=["a"])
    with pytest.raises(InvalidLink, match=r"'Report' is a class"):
        workflow.task.add(split, fallback=Report, outputs=["a"])


def test_a_step_called_like_an_output_is_refused(make_workflow: MakeWorkflow) -> None:
    """Even without any option, where a name would not have mattered."""

    @action
    def train() -> None: ...

    workflow = make_workflow()
    workflow.task.add(split, outputs=["train", "test"])

    with pytest.raises(InvalidLink, match=r"Step 'train' is called like the output 'train'\. Pass name=\.\.\."):
        workflow.task.add(train)
    workflow.task.add(train, name="training")


def test_an_output_has_no_context(make_workflow: MakeWorkflow) -> None:
    """A parameter `<output>_context` is refused with the name of the task's; one with a default keeps it."""

    @action
    def required(train_context: Context) -> None: ...

    @action
    def optional(train_context: int = 7) -> int:
        return train_context

    workflow = make_workflow()
    workflow.task.add(split, outputs=["train", "test"])

    with pytest.raises(UnknownParameter, match=r"'train' is an output, .* of its own\. Take split_context\."):
        workflow.task.add(required)
    workflow.task.add(optional)
    assert workflow.start().value("optional") == 7


@pytest.mark.parametrize("executor", [None, ExecutorThread, ExecutorAsync, ExecutorProcess])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ((1, 2, 3), "returned a tuple that has 3 entries"),
        ({"low": 1}, "returned a dict that has no 'high'"),
        (Halves(1, 2)._replace, "that has no parts"),
        ("ab", "returned a str that has no parts"),
        (None, "returned a NoneType that has no parts"),
    ],
)
def test_a_value_that_lacks_an_output_fails_the_attempt(
    make_workflow: MakeWorkflow, executor: Callable[[], Executor] | None, value: Any, reason: str
) -> None:
    """It is repeated as any failure, nothing is saved, and who takes a part is skipped."""
    workflow = make_workflow(**({} if executor is None else {"executor": executor()}))
    workflow.task.add(action(retry=2, retry_delay=0)(lambda: value), name="wrong", outputs=["low", "high"])
    workflow.task.add(action(lambda low: low), name="use")

    run = workflow.start(mode="sequential" if executor is None else "parallel", keep_going=True)

    assert [error.exception for error in run["wrong"].errors] == ["WrongOutputs"] * 2
    assert reason in run["wrong"].errors[0].message
    assert not run["wrong"].has_value
    assert run["use"].status is SKIPPED


def test_wrong_outputs_are_not_repeated_with_retry_on(make_workflow: MakeWorkflow) -> None:
    """It names the errors that may pass, and this one was not the step's."""
    workflow = make_workflow()
    workflow.task.add(action(retry=3, retry_on=TypeError)(lambda: 1), name="wrong", outputs=["a"])

    assert len(workflow.start()["wrong"].errors) == 1


def test_a_fallback_mends_wrong_outputs(make_workflow: MakeWorkflow) -> None:
    """It is given the error, its own value is checked as well, and of a map each item's."""

    @action
    def mend(error: TaskError) -> Any:
        return [error.exception]

    workflow = make_workflow()
    workflow.task.add(action(lambda: 1), name="one", outputs=["a"], fallback=mend)
    workflow.task.add(action(lambda n: [n] * n), name="each", each=[1, 2], outputs=["b"], keep_going=True)

    run = workflow.start()

    assert run.value("a") == "WrongOutputs"
    assert [item.status for item in run["each"].items] == [COMPLETED, FAILED]
    assert run.value("b") == [1]


# Resuming with outputs


class Parts:
    """A workflow whose task returns parts, which can be built again with other ones."""

    def __init__(self, folder: Path, value: Any = (1, 2), *, cache: bool = False) -> None:
        self.storage = StorageFile(folder)
        self.value = value
        self.cache = cache
        self.ran: list[str] = []

    def build(self, *outputs: str, is_map: bool = False) -> DotFlow:
        @action(cache=self.cache, version="1")
        def whole(number: int = 0) -> Any:
            self.ran.append("whole")
            return self.value

        @action
        def use(last: Any) -> Any:
            self.ran.append("use")
            return last

        workflow = DotFlow(Config(storage=self.storage, log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add(whole, name="whole", outputs=outputs, **({"each": {"number": [1, 2]}} if is_map else {}))
        workflow.task.add(use, needs={"last": outputs[-1]})
        return workflow


@pytest.mark.parametrize("is_map", [False, True])
def test_what_takes_a_part_is_restored_with_its_task(tmp_path: Path, is_map: bool) -> None:
    """The value is saved as one: a resume finds each part in it."""
    parts = Parts(tmp_path)
    parts.build("a", "b", is_map=is_map).start()
    ran = list(parts.ran)

    run = parts.build("a", "b", is_map=is_map).start(resume=True)

    assert parts.ran == ran
    assert run.value("b") == ([2, 2] if is_map else 2)


@pytest.mark.parametrize("is_map", [False, True])
def test_a_saved_value_that_does_not_fit_is_void(tmp_path: Path, is_map: bool) -> None:
    """The plan gives the reason, and what takes a part runs again, too."""
    parts = Parts(tmp_path)
    parts.build("a", "b", is_map=is_map).start()
    parts.ran.clear()
    parts.value = (1, 2, 3)
    workflow = parts.build("a", "b", "c", is_map=is_map)

    planned = workflow.plan(resume=True).tasks
    run = workflow.start(resume=True)

    assert planned[0].reason == "its value has 2 entries, which does not fit its outputs"
    assert [task.decision for task in planned] == ["run", "run"]
    assert parts.ran == ["whole"] * (1 + is_map) + ["use"]
    assert run.value("c") == ([3, 3] if is_map else 3)


@pytest.mark.parametrize("is_map", [False, True])
def test_a_cached_value_that_does_not_fit_is_made_anew(tmp_path: Path, is_map: bool) -> None:
    """One that fits is used."""
    parts = Parts(tmp_path, cache=True)
    parts.build("a", "b", is_map=is_map).start()
    assert parts.build("b", "c", is_map=is_map).start()["whole"].restored_from == "cache"
    parts.value = (1, 2, 3)
    workflow = parts.build("a", "b", "c", is_map=is_map)

    assert workflow.plan().tasks[0].decision == "run"
    assert workflow.start().value("c") == ([3, 3] if is_map else 3)


def test_a_part_of_an_unsaved_value_is_made_anew_when_it_is_needed(tmp_path: Path) -> None:
    """A task with checkpoint=False has parts, too: nothing runs while what was made of them counts."""
    ran: list[str] = []

    def build() -> DotFlow:
        @action(checkpoint=False)
        def connect() -> tuple[str, int]:
            ran.append("connect")
            return "host", 1

        @action
        def use(host: str) -> str:
            ran.append("use")
            return host

        workflow = DotFlow(Config(storage=StorageFile(tmp_path), log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add(connect, outputs=["host", "port"]).add(use)
        return workflow

    build().start()
    assert build().start(resume=True).value("use") == "host"
    assert ran == ["connect", "use"]
    assert build().start(rerun="use").value("use") == "host"
    assert ran == ["connect", "use"] * 2


def test_storages_that_keep_values_only_are_checked_as_well() -> None:
    """Nothing but the value itself shows whether it fits."""
    storage = StorageDefault()
    storage.post("w/whole", Context(3, 0, "w"))
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
    workflow.task.add(action(lambda: (1, 2)), name="whole", outputs=["a", "b"])

    assert workflow.start(resume=True).value("b") == 2


# Reading


def test_reading_results(make_workflow: MakeWorkflow) -> None:
    """`run[...]` is the task, `run.value` the value, and `workflow.last` the last run."""
    workflow = make_workflow()
    workflow.task.add(split, outputs=["train", "test"]).add(fit, params={"depth": 2})
    with pytest.raises(NotRun):
        _ = workflow.last

    run = workflow.start()

    assert workflow.last is run
    assert run["fit"] is run[fit] is run.tasks[1]
    assert run.value("fit") == run.value(fit) == run["fit"].value == (6, 1)
    with pytest.raises(UnknownTask, match=r"'train' is no task, but an output of 'split'\. Write run\.value\("):
        _ = run["train"]
    with pytest.raises(UnknownTask, match=r"No task is called 'trian'\. Did you mean 'train'\?"):
        run.value("trian")
    with pytest.raises(AttributeError, match=r"write task\.value"):
        _ = run["fit"].storage  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"write task\.value"):
        _ = run["fit"].result  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"write run\.value\('task'\)"):
        _ = run.result  # type: ignore[attr-defined]


def test_a_part_of_no_value_is_none(make_workflow: MakeWorkflow) -> None:
    """As the value itself: of a task that was skipped, or has not run."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: False), name="good").add(split, when="good", outputs=["train", "test"])

    run = workflow.start()

    assert run.value("train") is None
    assert not run["split"].has_value


def test_the_value_of_a_failed_task_is_refused(make_workflow: MakeWorkflow) -> None:
    """With the error of its step, as a program that goes on with None would find it only later."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: 1 / 0), name="load").add(action(lambda: 7), name="other", needs=[])

    run = workflow.start(keep_going=True)

    assert run.value("other") == 7
    with pytest.raises(RunFailed, match=r"failed at 1 of 2 tasks: task 0 load: ZeroDivisionError") as caught:
        run.value("load")
    assert "1 / 0" in str(caught.value.__cause__)
    assert run["load"].value is None


def test_equal_steps_have_no_value_by_step(make_workflow: MakeWorkflow) -> None:
    """The names of their outputs tell them apart."""
    workflow = make_workflow()
    workflow.task.add(split, outputs=["a", "b"]).add(split, name="other", outputs=["c", "d"])
    run = workflow.start()

    assert (run.value("a"), run.value("d")) == ([1, 2, 3], [4])
    with pytest.raises(AmbiguousTask):
        run.value(split)
