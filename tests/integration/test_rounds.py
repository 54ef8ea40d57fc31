"""Rounds: a step or a workflow that runs again until it is good, in every mode and through kills and resumes."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.errors import InvalidArgument, InvalidLink
from dotflow.providers import LogDefault
from tests.integration.modes import COMPLETED, FAILED, MODES, SKIPPED, StepsLab, named, start
from tests.marks import in_any_worker
from tests.plan_fuzz import ThreeMethods

MakeWorkflow = Callable[..., DotFlow]
WAIT = 45.0  # seconds, for what happens at once


class Lab(StepsLab):
    """Workflows with rounds. A round is good once the draft has `enough` signs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.enough = 4
        self.first = "a"

    def refine(self) -> Any:
        @action
        def refine(draft: str) -> str:
            self.note(f"refine {draft}")
            return f"{draft}+"

        return refine

    def good(self) -> Any:
        @action
        def good(refine: str) -> bool:
            self.note(f"good {refine}")
            return len(refine) >= self.enough

        return good

    def round(self) -> DotFlow:
        inner = DotFlow(params={"draft": ...})
        inner.task.add(self.refine()).add(self.good())
        return inner

    def workflow(self, inner: DotFlow | None = None, **options: Any) -> DotFlow:
        options = {"repeat": 8, "until": "good", "needs": {"draft": "write"}} | options
        workflow = self.new()
        workflow.task.add(action(lambda: self.first), name="write")
        workflow.task.add(inner or self.round(), name="round", **options)
        workflow.task.add(action(self.deploy), name="deploy", needs={"value": "round"})
        return workflow

    def deploy(self, value: str) -> str:
        self.note(f"deploy {value}")
        return value


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


ALL = ["refine a", "good a+", "refine a+", "good a++", "refine a++", "good a+++"]


class Reported(LogDefault):
    """Keeps what is reported."""

    def __init__(self) -> None:
        super().__init__(output="none")
        self.reports: list[str] = []

    def report(self, message: str) -> None:
        self.reports.append(message)


def test_the_log_counts_rounds_that_run_again(lab: Lab) -> None:
    """It says why they do."""
    run = lab.start(lab.workflow())
    lab.storage.delete(lab.storage.key(run["write"]))
    lab.first, log = "b", Reported()
    workflow = lab.workflow()
    workflow.config.log = log

    lab.start(workflow, resume=True)

    assert log.reports[:3] == [
        "Task 1 round.refine runs again for 3 rounds: it takes the value of task 0 write, which runs again.",
        "Task 2 round.good runs again for 1 round: it takes the value of a round that runs again.",
        "Task 2 round.good runs again for 2 rounds: a round before it runs again.",
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_file_beside_a_round_runs_what_made_it_and_no_other_round(lab: Lab, tmp_path: Path, number: int) -> None:
    """The rounds after it don't take it, and another round is known to begin. The plan says the same."""
    folder = tmp_path / "beside"
    folder.mkdir()

    def side(draft: str) -> Path:
        path = folder / f"{len(draft)}.txt"
        path.write_text(draft)
        lab.note(f"side {draft}")
        return path

    def workflow() -> DotFlow:
        inner = DotFlow(params={"draft": ...})
        inner.task.add(action(side)).add(lab.refine()).add(lab.good())
        return lab.workflow(inner, carry={"draft": "refine"})

    lab.enough = 5
    lab.start(workflow())
    (folder / f"{number + 1}.txt").unlink()
    plan = {task.name: task.decision for task in workflow().plan(resume=True).tasks}

    lab.start(workflow(), resume=True)

    assert lab.ran == [f"side a{'+' * number}", "deploy a++++"]  # which waits for all rounds
    assert plan == {
        "write": "restore",
        "round.side": "run",
        "round.refine": "restore",
        "round.good": "restore",
        "deploy": "run",
    }


# Values


@action
def write() -> int:
    return 1


@action
def double(draft: int) -> int:
    return draft * 2


@action
def is_large(value: int) -> bool:
    return value >= 8


@action
def shown(double: int) -> str:
    return f"{double}"


@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_a_step_runs_again_until_it_is_good(make_workflow: MakeWorkflow, mode: str) -> None:
    """Each round gets the value of the one before, and the value of the whole is the last round's."""
    workflow = make_workflow()
    workflow.task.add(write, group_name="one" if mode == "groups" else "default")
    group = "two" if mode == "groups" else "default"
    workflow.task.add(double, needs={"draft": write}, repeat=8, until=is_large, group_name=group)
    workflow.task.add(shown, group_name="one" if mode == "groups" else "default")

    run = start(workflow, mode)

    assert run.status is COMPLETED
    assert [item.value for item in named(run, "double.double").items] == [2, 4, 8]
    assert [item.value for item in named(run, "double.is_large").items] == [False, False, True]
    assert (run.value("double"), run.value("shown")) == (8, "8")


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_workflow_runs_again_as_a_whole(lab: Lab, mode: str) -> None:
    """Round k + 1 begins when all of round k is over, and no later round has a record."""
    run = lab.start(lab.workflow(), mode)

    assert run.status is COMPLETED
    assert lab.ran == [*ALL, "deploy a+++"]
    assert [item.name for item in named(run, "round.refine").items] == [f"round[{k}].refine" for k in range(3)]
    assert run["round[1].refine"].value == run["round.refine#1"].value == "a++"
    assert (run["round.refine"].value, run["round.good"].value) == ("a+++", True)
    assert [item.round for item in named(run, "round.good").items] == [0, 1, 2]


def test_the_plan_of_a_map_over_rounds_that_run_again(lab: Lab) -> None:
    """Its list is not known before, so no number of items is given."""
    inner = DotFlow(params={"draft": ...})
    inner.task.add(action(lambda draft: [draft]), name="rows")
    workflow = lab.new()
    workflow.task.add(inner, name="round", params={"draft": "a"}, carry={}, repeat=1)
    workflow.task.add(action(lambda row: row), name="each", each={"row": "round"})
    lab.start(workflow)

    plan = workflow.plan(resume="changed", rerun=["round"])

    assert [(task.decision, task.reason, task.items) for task in plan.tasks] == [
        ("run", "rerun names it, of 1 round", None),
        ("open", "its items come from round.rows", None),
    ]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_without_until_there_are_just_so_many_rounds(lab: Lab, mode: str) -> None:
    """`repeat` alone is the number of rounds, whatever they return."""
    inner = DotFlow(params={"draft": ...})
    inner.task.add(lab.refine())

    run = lab.start(lab.workflow(inner, repeat=3, until=None), mode)

    assert (run.status, run.value("round")) == (COMPLETED, "a+++")


def test_what_is_carried_may_be_of_any_task_or_output(lab: Lab) -> None:
    """A dict names the tasks and outputs whose values go on; what is not carried is the same in every round."""
    inner = DotFlow(params={"draft": ..., "notes": "none", "tone": ...})
    inner.task.add(
        action(lambda draft, notes, tone: (f"{draft}+", f"{notes}{tone}")), name="both", outputs=["text", "more"]
    )
    inner.task.add(action(lambda text: len(text) > 3), name="good")
    workflow = lab.new()
    workflow.task.add(
        inner,
        name="round",
        params={"draft": "a", "tone": "!"},
        repeat=8,
        until="good",
        carry={"draft": "text", "notes": "more"},
    )

    run = lab.start(workflow)

    assert run.value("round") == ("a+++", "none!!!")
    assert run.value("round.text") == "a+++"


def test_written_down_values_are_the_same_in_each_round(lab: Lab) -> None:
    """A step inside may have some of its own, of any type."""
    inner = DotFlow(params={"draft": ...})
    inner.task.add(action(lambda draft, ends: draft + ends[0]), name="refine", params={"ends": ["-"]}).add(lab.good())

    assert lab.start(lab.workflow(inner)).value("round") == "a---"


def test_nothing_is_carried_where_carry_is_empty(lab: Lab) -> None:
    """An empty `carry` gives each round the same values."""
    run = lab.start(lab.workflow(repeat=2, carry={}), keep_going=True)

    assert lab.ran == ["refine a", "good a+"] * 2
    assert run.status is FAILED


def test_a_carried_value_that_was_skipped_is_missing(lab: Lab) -> None:
    """The next round has the parameter's default, and is skipped without one; it never gets the first value again."""
    inner = DotFlow(params={"draft": ...})
    inner.task.add(action(lambda draft: draft == "a"), name="is_first")
    inner.task.add(action(lambda draft="default": f"{draft}+"), name="refine", when="is_first")
    inner.task.add(action(lambda draft="default": draft), name="seen")

    run = lab.start(lab.workflow(inner, repeat=3, until=None, carry={"draft": "refine"}))

    assert [item.value for item in named(run, "round.seen").items] == ["a", "a+", "default"]
    assert [item.status for item in named(run, "round.is_first").items] == [COMPLETED, COMPLETED, SKIPPED]


def test_a_workflow_in_rounds_may_be_a_part_of_another_one(lab: Lab) -> None:
    """Its tasks and rounds have the names of all workflows around."""
    outer = DotFlow(params={"text": ...})
    outer.task.add(lab.round(), name="round", needs={"draft": "text"}, repeat=8, until="good")
    workflow = lab.new()
    workflow.task.add(action(lambda: "aa"), name="write").add(outer, name="outer", needs={"text": "write"})

    run = lab.start(workflow)

    assert run.value("outer.round") == "aa++"
    assert [item.name for item in named(run, "outer.round.refine").items][1] == "outer.round[1].refine"


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_rounds_clean_up_after_themselves(lab: Lab, mode: str) -> None:
    """A cleanup and an unsaved step inside run in each round; a resume makes them anew for open rounds only."""
    lab.enough, lab.red = 4, {"refine a++"}

    def workflow() -> DotFlow:
        inner = DotFlow(params={"draft": ...})
        inner.task.add(action(checkpoint=False)(lambda: lab.note("open")), name="browser")
        inner.task.add(action(lambda draft, browser: (lab.note(f"refine {draft}"), f"{draft}+")[1]), name="refine")
        inner.task.add(action(lambda: lab.note("close")), name="close", always=True)
        inner.task.add(lab.good())
        return lab.workflow(inner)

    assert lab.start(workflow(), mode).status is FAILED
    assert lab.ran.count("open") == lab.ran.count("close") == 3
    lab.red = set()
    run = lab.start(workflow(), mode, resume=True)

    assert run.status is COMPLETED
    assert [call for call in lab.ran if call in ("open", "close")] == ["open", "close"]
    assert run.value("round") == "a+++"


def test_a_fallback_gets_what_is_carried(lab: Lab) -> None:
    """It runs in the place of a step that failed, with the arguments of its own round."""
    inner = DotFlow(params={"draft": ...})
    inner.task.add(action(lambda draft: draft * 0 + 1), name="refine", fallback=action(lambda draft: f"{draft}+"))
    inner.task.add(lab.good())

    assert lab.start(lab.workflow(inner)).value("round") == "a+++"


# What goes wrong


@pytest.mark.parametrize("keep_going", [False, True])
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("red", ["refine a+", "good a++"])
def test_a_task_that_fails_ends_the_rounds_and_a_resume_goes_on(
    lab: Lab, mode: str, keep_going: bool, red: str
) -> None:
    """The round is the last, the whole is FAILED without a value, and a resume begins in that round."""
    lab.red = {red}
    run = lab.start(lab.workflow(), mode, keep_going=keep_going)

    failed = f"'round' stopped after 1 of 8 rounds: 'round[1].{red.partition(' ')[0]}' failed."
    assert [named(run, f"round.{name}").error.message for name in ("refine", "good")] == [failed] * 2
    assert {named(run, f"round.{name}").error.exception for name in ("refine", "good")} == {"NotReached"}
    assert (run.status, named(run, "round.refine").has_value) == (FAILED, False)
    assert named(run, "round.refine").items[0].value == "a+"
    assert "deploy a+" not in lab.ran
    lab.red = set()
    run = lab.start(lab.workflow(), mode, resume=True)

    assert (run.status, run.value("deploy")) == (COMPLETED, "a+++")
    assert lab.ran == [*ALL, "deploy a+++"][ALL.index(red) :]


def test_not_good_after_the_last_round_is_a_failure(lab: Lab) -> None:
    """A resume fails again without a step; with a larger `repeat` it goes on."""
    run = lab.start(lab.workflow(repeat=2))

    why = "'round' stopped after 2 of 2 rounds: 'round[1].good' was False. "
    cures = 'Raise repeat to go on, or pass at_limit="go on" to take the last value.'
    assert named(run, "round.refine").error.message == why + cures
    assert run["round.refine"].items[-1].value == "a++"
    assert lab.start(lab.workflow(repeat=2), resume=True).status is FAILED
    assert lab.ran == []
    assert lab.start(lab.workflow(repeat=3), resume="unfinished").value("deploy") == "a+++"
    assert lab.ran == [*ALL[4:], "deploy a+++"]


def test_fewer_rounds_judge_the_first_ones_again(lab: Lab) -> None:
    """Later rounds stay in the storage, unused, and count when `repeat` is raised again."""
    lab.start(lab.workflow())

    assert lab.start(lab.workflow(repeat=2), resume=True, keep_going=True).status is FAILED
    assert lab.ran == []
    assert lab.start(lab.workflow(repeat=8), resume=True).value("round") == "a+++"
    assert lab.ran == ["deploy a+++"]


def test_rounds_end_where_until_was_skipped(lab: Lab) -> None:
    """They go on only where they were asked to: a skipped `until` is no "not yet"."""
    inner = DotFlow(params={"draft": ...})
    inner.task.add(lab.refine())
    inner.task.add(action(lambda refine: refine != "a++"), name="asks").add(lab.good(), when="asks")

    run = lab.start(lab.workflow(inner, carry={"draft": "refine"}))

    why = "'round' stopped after 1 of 8 rounds: 'round[1].good' was skipped."
    assert named(run, "round.refine").error.message == why


def test_a_value_that_is_neither_true_nor_false_ends_the_rounds(lab: Lab) -> None:
    """An error of the value's own code fails the whole, not the process."""

    class Neither:
        def __bool__(self) -> bool:
            raise ValueError("ambiguous")

    inner = DotFlow(params={"draft": ...})
    inner.task.add(lab.refine()).add(action(lambda refine: Neither()), name="good")
    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add(inner, name="round", params={"draft": "a"}, repeat=3, until="good")

    run = lab.start(workflow)

    assert "is neither true nor false: ValueError('ambiguous')" in named(run, "round.refine").error.message


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_rounds_whose_need_failed_are_skipped_whole(lab: Lab, mode: str) -> None:
    """Without the first value no round begins, and nothing is judged."""

    def fail() -> str:
        raise ValueError("no draft")

    workflow = lab.new()
    workflow.task.add(action(fail), name="write")
    workflow.task.add(lab.round(), name="round", needs={"draft": "write"}, repeat=3, until="good")

    run = lab.start(workflow, mode, keep_going=True)

    assert [task.status for task in run.tasks] == [FAILED, SKIPPED, SKIPPED]


def test_a_cancel_amid_a_round_says_how_far_it_came(lab: Lab) -> None:
    """The rounds before keep their checkpoints, and a resume goes on in the round that was cut off."""
    begun, cancelled = threading.Event(), threading.Event()
    lab.enough = 4

    def refine(draft: str) -> str:
        if draft == "a+" and not cancelled.is_set():
            begun.set()
            cancelled.wait(WAIT)
        lab.note(f"refine {draft}")
        return f"{draft}+"

    def workflow() -> DotFlow:
        inner = DotFlow(params={"draft": ...})
        inner.task.add(action(refine)).add(lab.good())
        return lab.workflow(inner)

    run = workflow().start(mode="background")
    assert begun.wait(WAIT)
    run.cancel()
    cancelled.set()
    run.wait(WAIT)

    assert "after 1 of at most 8 rounds" in named(run, "round.good").error.message
    again = lab.start(workflow(), resume=True)
    assert (again.status, again.value("round")) == (COMPLETED, "a+++")
    assert "refine a" not in lab.ran


# Resume, keys and plan


def test_a_new_first_value_makes_all_rounds_anew(lab: Lab) -> None:
    """What the first round takes from outside has changed, so nothing of them counts."""
    lab.start(lab.workflow())
    lab.first = "b"
    run = lab.start(lab.workflow(), resume=True, rerun="write")

    assert run.value("deploy") == "b+++"


def test_a_round_that_is_made_anew_voids_those_after_it_only(lab: Lab) -> None:
    """`rerun` of `until` keeps what the first round did before it; of the whole, it begins anew."""
    lab.start(lab.workflow())

    lab.start(lab.workflow(), resume=True, rerun="round.good")
    assert lab.ran == [*ALL[1:], "deploy a+++"]
    lab.start(lab.workflow(), resume=True, rerun="round")
    assert lab.ran == [*ALL, "deploy a+++"]
    lab.storage.delete("w/round.refine-r1")
    lab.start(lab.workflow(), resume=True)
    assert lab.ran == [*ALL[2:], "deploy a+++"]


def test_rounds_have_keys_of_their_own(lab: Lab) -> None:
    """A round's checkpoint has the task's key and its number; a new start leaves none of an earlier run."""
    lab.start(lab.workflow())
    keys = [f"w/round.{name}-r{number}" for name in ("good", "refine") for number in range(3)]
    assert sorted(key for key in lab.storage.list_keys("w/round")) == keys
    lab.enough = 2
    lab.start(lab.workflow())

    assert sorted(key for key in lab.storage.list_keys("w/round")) == ["w/round.good-r0", "w/round.refine-r0"]
    workflow = lab.new()
    workflow.task.add(action(lambda: 1), name="write")
    assert workflow.plan().removed == ["deploy", "round.good", "round.refine"]


def test_a_storage_of_three_methods_keeps_rounds(lab: Lab) -> None:
    """It lists no keys, so the rounds are listed beside them: a resume restores, and a new start begins anew."""
    lab.storage = ThreeMethods(lab.storage)
    lab.red = {"refine a++"}
    lab.start(lab.workflow())
    lab.red = set()

    assert lab.start(lab.workflow(), resume=True).value("deploy") == "a+++"
    assert lab.ran == [*ALL[4:], "deploy a+++"]
    lab.start(lab.workflow())
    assert lab.ran == [*ALL, "deploy a+++"]


def test_a_value_of_another_last_round_voids_what_was_made_from_it(lab: Lab) -> None:
    """Rounds of one run tell apart by their number: that the loop ends earlier now is another value."""
    lab.start(lab.workflow())
    lab.enough = 3
    lab.start(lab.workflow(), resume=True, rerun="round.good")

    assert lab.ran[-1] == "deploy a++"


def test_a_plan_counts_rounds(lab: Lab) -> None:
    """It names the rounds that are restored, and how many there are at most."""
    plan = lab.workflow().plan()
    assert [(str(task.decision), task.reason) for task in plan.tasks][1:3] == [
        ("run", "after write, at most 8 rounds"),
        ("run", "after round.refine, at most 8 rounds"),
    ]
    lab.red = {"good a+++"}
    lab.start(lab.workflow())
    plan = lab.workflow().plan(resume=True)
    assert [(str(task.decision), task.reason) for task in plan.tasks][1:] == [
        ("open", "unless round.good is true, 2 rounds restored, at most 8"),
        ("run", "after round.refine, 2 rounds restored, at most 8"),
        ("run", "after round.refine"),
    ]
    lab.red = set()
    lab.start(lab.workflow(), resume=True)
    plan = lab.workflow().plan(resume=True)
    assert [(str(task.decision), task.reason) for task in plan.tasks][1:3] == [("restore", "3 rounds")] * 2


def test_only_one_task_of_rounds_means_all_of_them(lab: Lab) -> None:
    """No round is judged without `until`, so `only` takes the rounds as one."""
    run = lab.start(lab.workflow(), only="round.refine")

    assert [task.status for task in run.tasks] == [COMPLETED, COMPLETED, COMPLETED, SKIPPED]


def test_a_cached_round_is_looked_up_by_its_own_arguments(lab: Lab) -> None:
    """Each round has a value of its own in the cache, and another run takes them from there."""

    def workflow() -> DotFlow:
        inner = DotFlow(params={"draft": ...})
        inner.task.add(action(cache=True)(lambda draft: (lab.note(f"refine {draft}"), f"{draft}+")[1]), name="refine")
        inner.task.add(lab.good())
        return lab.workflow(inner)

    assert lab.start(workflow()).value("deploy") == "a+++"
    run = lab.start(workflow())

    assert run.value("deploy") == "a+++"
    assert [call for call in lab.ran if call.startswith("refine")] == []


# What is carried without being named


class Drafts(Lab):
    """A step in rounds whose parameter is called like the task that gives the first draft."""

    def drafts(self, **options: Any) -> DotFlow:
        @action
        def good(text: str) -> bool:
            self.note(f"good {text}")
            return len(text) >= self.enough

        workflow = self.new()
        workflow.task.add(action(lambda: self.first), name="draft")
        workflow.task.add(self.refine(), name="round", **{"repeat": 8, "until": good} | options)
        workflow.task.add(action(self.deploy), name="deploy", needs={"value": "round"})
        return workflow


@pytest.fixture
def drafts(tmp_path: Path) -> Drafts:
    return Drafts(tmp_path)


def test_a_parameter_called_like_a_task_gets_the_last_rounds_value(drafts: Drafts) -> None:
    """It is that task's value in the first round; the picture shows what goes back, and a resume restores it."""
    run = drafts.start(drafts.drafts())

    assert run.value("deploy") == "a+++"
    assert drafts.ran == [*ALL, "deploy a+++"]
    assert "next round" in str(drafts.drafts().task.graph())
    assert drafts.start(drafts.drafts(), resume=True).value("round") == "a+++"
    assert drafts.ran == []


def test_a_resume_goes_on_with_the_last_rounds_value(drafts: Drafts) -> None:
    """After the limit was raised it runs the rounds that are left, and `plan` counts those that are restored."""
    assert drafts.start(drafts.drafts(repeat=2)).status is FAILED

    assert "2 rounds restored, at most 8" in str(drafts.drafts().plan(resume=True))
    assert drafts.start(drafts.drafts(), resume="unfinished").value("deploy") == "a+++"
    assert drafts.ran == [*ALL[4:], "deploy a+++"]


def test_a_parameter_of_a_workflow_called_like_a_task_gets_the_last_rounds_value(lab: Lab) -> None:
    """As that of a step; its name in the workflow with the rounds decides."""
    workflow = lab.new()
    workflow.task.add(action(lambda: lab.first), name="draft")
    workflow.task.add(lab.round(), name="round", repeat=8, until="good")

    assert lab.start(workflow).value("round") == "a+++"


def test_a_step_without_a_tasks_value_carries_nothing(lab: Lab) -> None:
    """Its run parameter and its default are the same in every round."""
    workflow = DotFlow(Config(storage=lab.storage), workflow_id="w", params={"draft": "a"})
    workflow.task.add(lab.refine(), name="round", repeat=2)
    run = workflow.start()

    assert [item.value for item in run["round.refine"].items] == ["a+", "a+"]


def test_an_empty_carry_keeps_the_value_of_the_task(drafts: Drafts) -> None:
    """Each round takes the first draft."""
    run = drafts.start(drafts.drafts(repeat=2, carry={}), keep_going=True)

    assert [item.value for item in run["round.refine"].items] == ["a+", "a+"]


def test_of_several_parameters_called_like_tasks_carry_names_one(lab: Lab) -> None:
    """`add` asks which, in a step and in a workflow."""

    @action
    def merge(draft: str, notes: str) -> str:
        return draft + notes

    inner = DotFlow(params={"draft": ..., "notes": ...})
    inner.task.add(merge)
    workflow = lab.new()
    workflow.task.add(action(lambda: "a"), name="draft").add(action(lambda: "b"), name="notes")

    for repeated in (merge, inner):
        with pytest.raises(
            InvalidLink, match=r"'draft' and 'notes' take values of tasks. Say which: carry='draft', or"
        ):
            workflow.task.add(repeated, name="round", repeat=2)
    workflow.task.add(inner, name="round", repeat=2, carry="notes")
    assert lab.start(workflow).value("round") == "aab"


def test_a_value_that_does_not_fit_is_carried_nowhere(lab: Lab) -> None:
    """Types, and values without a checkpoint, are refused with the option that carries nothing."""

    @action
    def count(draft: str) -> int:
        return len(draft)

    inner = DotFlow(params={"draft": ...})
    inner.task.add(count)
    workflow = lab.new()
    workflow.task.add(action(lambda: "a"), name="draft")

    for repeated in (count, inner):
        with pytest.raises(InvalidLink, match=r"it returns int, .* as str. Correct .* write carry={} to carry nothing"):
            workflow.task.add(repeated, name="round", repeat=2)
    with pytest.raises(InvalidLink, match=r"carry can't use .* which has checkpoint=False.* or write carry={} to"):
        workflow.task.add(action(checkpoint=False)(lambda draft: draft), name="round", repeat=2)
    workflow.task.add(count, name="round", repeat=2, carry={})
    assert lab.start(workflow).value("round") == 1


# The limit


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_at_the_limit_the_rounds_go_on_with_the_last_value(drafts: Drafts, mode: str) -> None:
    """The tasks complete, the log reports it, and a resume restores them; more rounds go on where it ended."""
    log = Reported()
    workflow = drafts.drafts(repeat=2, at_limit="go on")
    workflow.config.log = log
    run = drafts.start(workflow, mode=mode)

    assert (run.status, run.value("deploy")) == (COMPLETED, "a++")
    assert log.reports == ["'round' has the value of its last round, after 2 of 2 rounds: 'round[1].good' was False."]
    assert drafts.drafts(repeat=2, at_limit="go on").plan(resume=True).count("restore") == 4
    assert drafts.start(drafts.drafts(repeat=2, at_limit="go on"), resume=True).value("deploy") == "a++"
    assert drafts.ran == []
    assert drafts.start(drafts.drafts(repeat=3, at_limit="go on"), resume=True).value("deploy") == "a+++"
    assert drafts.ran == [*ALL[4:], "deploy a+++"]


def test_a_failed_limit_that_is_changed_goes_on_without_a_step(drafts: Drafts) -> None:
    """The rounds are restored, and what takes their value runs; changed back, the rounds have failed again."""
    assert drafts.start(drafts.drafts(repeat=2, at_limit="fail")).status is FAILED

    assert drafts.start(drafts.drafts(repeat=2, at_limit="go on"), resume=True).value("deploy") == "a++"
    assert drafts.ran == ["deploy a++"]
    assert drafts.start(drafts.drafts(repeat=2), resume=True).status is FAILED
    assert drafts.ran == []


def test_a_failure_in_a_round_does_not_go_on(lab: Lab) -> None:
    """Only rounds that are over count: a task that failed, and a skipped `until`, end the rounds as before."""
    inner = DotFlow(params={"draft": ...})
    inner.task.add(lab.refine())
    inner.task.add(action(lambda refine: refine != "a++"), name="asks").add(lab.good(), when="asks")

    run = lab.start(lab.workflow(inner, repeat=2, carry={"draft": "refine"}, at_limit="go on"))

    assert named(run, "round.refine").error.exception == "NotReached"


# Pictures, texts and what is refused


def test_the_picture_and_the_log_count_rounds(lab: Lab) -> None:
    """The box says how often, what is carried goes back, and the log counts rounds."""
    workflow = lab.workflow()
    text = str(workflow.task.graph("dot"))

    assert "≤ 8 rounds until good" in text
    assert "next round" in text
    run = lab.start(workflow)
    from dotflow.core.item_counts import item_counts

    assert str(item_counts(named(run, "round.refine"))) == "3 of at most 8 rounds"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeat": None}, "until is for rounds. Say how many there are at most: repeat=8."),
        ({"until": None, "at_limit": "go on"}, "at_limit is for until, which is missing."),
        ({"at_limit": "go_on"}, 'or "go on" with the value of the last round'),
        ({"each": [1]}, "repeat excludes each"),
        ({"always": True}, "repeat excludes always"),
        ({"params": {"tone": "!"}}, "Say which: carry='draft'"),
        ({"carry": "draf"}, "Did you mean 'draft'?"),
        ({"until": "god"}, "Did you mean 'good'?"),
    ],
)
def test_what_can_not_be_repeated_is_refused_at_add(lab: Lab, options: dict[str, Any], message: str) -> None:
    """The error names what excludes what, or the name that is near."""
    inner = DotFlow(params={"draft": ..., "tone": "?"})
    inner.task.add(lab.refine()).add(lab.good())

    with pytest.raises(Exception, match=message.replace("(", r"\(").replace("?", r"\?")):
        lab.workflow(inner, **options)


def test_what_is_carried_has_to_fit_its_parameter(lab: Lab) -> None:
    """The types of the value and of the parameter are compared when the step is added."""

    @action
    def count(draft: str) -> int:
        return len(draft)

    @action
    def is_long(value: str) -> bool:
        return len(value) > 3

    with pytest.raises(InvalidLink, match=r"takes 'draft' from task .*: it returns int"):
        lab.new().task.add(count, params={"draft": "a"}, repeat=2)
    with pytest.raises(InvalidLink, match=r"takes 'value' from task .*: it returns int"):
        lab.new().task.add(count, params={"draft": "a"}, repeat=2, until=is_long, carry={})


@pytest.mark.parametrize("repeat", [0, 10_001, True, 2.0, "8"])
def test_repeat_is_a_number_of_rounds(lab: Lab, repeat: Any) -> None:
    """From 1 to 10,000."""
    with pytest.raises(InvalidArgument, match="a whole number from 1 to 10000"):
        lab.workflow(repeat=repeat)


def test_what_can_not_run_in_rounds_is_refused_at_add(lab: Lab) -> None:
    """Another loop, previous_context and an unsaved `until` have no place in a round."""
    workflow = lab.new()
    for options, step in (
        ({"repeat": 2}, action(lambda: 1)),
        ({}, action(lambda previous_context: previous_context)),
    ):
        inner = DotFlow()
        inner.task.add(step, name="inner", **options)
        with pytest.raises(InvalidLink, match="its workflow is added with repeat"):
            workflow.task.add(inner, name="round", repeat=2)
    inner = DotFlow()
    inner.task.add(action(lambda: 1), name="a").add(action(checkpoint=False)(lambda: True), name="good")
    with pytest.raises(InvalidLink, match=r"until can't use .* which has checkpoint=False"):
        workflow.task.add(inner, name="round", repeat=2, until="good")
    assert len(workflow.task) == 0


@pytest.mark.parametrize(
    ("until", "message"),
    [("good", "until can't be 'good', which is an output"), ("close", "until can't use .* which has always=True")],
)
def test_until_needs_a_value_of_its_own_that_a_resume_has(lab: Lab, until: str, message: str) -> None:
    """An output would end the rounds by the whole value, and a resume has no value of a cleanup."""
    inner = DotFlow()
    inner.task.add(action(lambda: {"text": "a", "good": False}), name="judge", outputs=["text", "good"])
    inner.task.add(action(lambda: True), name="close", always=True)

    with pytest.raises(InvalidLink, match=message):
        lab.new().task.add(inner, name="round", repeat=2, until=until)
