"""Pauses random workflows at random moments and resumes them. Run: python tests/pause_fuzz.py --scenarios 2000

A scenario is a random workflow whose steps are pure functions, some of which fail in their first attempt. It is paused
at a random event or in a random call of a step, and resumed, until it ends by itself. The tasks must end as those of a
run without a pause, with the same values, and each step must finish as often. Those that depend on a task that failed,
or on a cleanup, may run again with it. A failed cleanup of an item is not repeated, so how such a run ends depends on
the pause.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from dotflow import DotFlow  # noqa: E402 (found through the path that was just set)
from dotflow.abc.history import Listener  # noqa: E402
from dotflow.abc.storage import Storage  # noqa: E402
from dotflow.core.events import Event, TaskPaused  # noqa: E402
from dotflow.core.types.run_state import TypeRunState  # noqa: E402
from dotflow.core.types.status import TypeStatus  # noqa: E402
from dotflow.engine.run import Run  # noqa: E402
from dotflow.providers import StorageDefault  # noqa: E402
from tests.resume_fuzz import STORAGES, Node, Scenario, differences  # noqa: E402

MODES: Final = ("sequential", "background", "groups", "parallel", "async")
SIDE_BY_SIDE: Final = ("groups", "parallel", "async")
MOST: Final = 40  # pauses of a scenario
#: What may be left of a task when its run is paused.
LEFT: Final = (TypeStatus.PAUSED, TypeStatus.NOT_STARTED)


class Pauses(Listener):
    """Calls a function at one of the events of a run."""

    def __init__(self, at: int, pause: Callable[[], None]) -> None:
        self.at, self.pause = at, pause
        self.paused: list[TaskPaused] = []

    def record(self, run_id: str, event: Event) -> None:
        self.at -= 1
        if self.at == 0:
            self.pause()
        if isinstance(event, TaskPaused):
            self.paused.append(event)


class PauseScenario(Scenario):
    """One random workflow and its pauses."""

    def __init__(self, seed: str, storage: Storage, mode: str) -> None:
        super().__init__(seed, storage, mode)
        self.tried: set[tuple[int, str]] = set()  # the calls whose first attempt is over
        self.call_until = 0
        self.on_call: Callable[[], None] = lambda: None
        self.pauses = 0
        # Without it, it depends on the speed of the machine which tasks begin beside one that fails.
        self.keeps_going = mode in SIDE_BY_SIDE or self.random.random() < 0.6
        self.sure: set[int] = set()  # nodes that depend on no failure and no cleanup

    def policy(self, node: Node) -> dict[str, Any]:
        retried = {"retry": 2, "retry_delay": 0.001} if node.number % 2 and node.kind != "class" else {}
        return {"checkpoint": True, **retried}

    def fails(self, node: Node, value: int, text: str) -> bool:
        self.call_until -= 1
        if self.call_until == 0:
            self.on_call()
        is_first = (node.number, text) not in self.tried
        self.tried.add((node.number, text))
        return super().fails(node, value, text) or (is_first and bool(node.number % 2) and value % 3 == 0)

    def start(self, workflow: DotFlow, **arguments: Any) -> Run:
        mode = {"groups": "sequential", "async": "parallel"}.get(self.mode, self.mode)
        run = workflow.start(mode=mode, keep_going=self.keeps_going, **arguments)
        run.wait()
        return run

    def closure(self, numbers: set[int]) -> set[int]:
        """These nodes, and all that they depend on: also the lists of the workflows that they are tasks of.

        How many rounds a workflow takes depends on each of its tasks.
        """
        found = super().closure(numbers)
        nests = {node.nest for node in self.nodes if node.number in found}
        more = {node.number for node in self.nodes if node.nest in nests and node.nest in self.loops}
        more |= {source for nest, source in self.nests.items() if nest in nests and isinstance(source, int)}
        return found if more <= found else self.closure(found | more)

    def check(self) -> str:
        for node in self.nodes:
            node.saved, node.cached = True, False
        workflow = self.build(StorageDefault())
        expected_run = self.start(workflow)
        expected, unsure = self.results(workflow), {node.number for node in self.nodes if node.always}
        leaves_items = False
        for node, task in zip(self.nodes, expected_run.tasks, strict=True):
            unsure |= {node.number} if task.status is TypeStatus.FAILED else set()
            leaves_items |= task.status is TypeStatus.FAILED and node.always and node.nest is not None
        self.sure = {node.number for node in self.nodes if not self.closure({node.number}) & unsure}
        once = self.finished()
        self.tried.clear()
        pick, is_resume = self.random, False
        for number in range(MOST):
            workflow = self.build(self.storage)

            def pause(workflow: DotFlow = workflow) -> None:
                workflow.last.pause()

            at = pick.randint(1, 12) if number < MOST - 1 else 0
            is_event = pick.random() < 0.6
            listener = Pauses(at if is_event else 0, pause)
            self.call_until, self.on_call = 0 if is_event else at, pause
            workflow.config.listeners.append(listener)
            run = self.start(workflow, resume=is_resume)
            is_resume = True
            if wrong := self.wrong(run, listener):
                return wrong
            # A cleanup that fails after a pause fails the run, and a resume goes on with the tasks that are paused.
            if run.state is not TypeRunState.PAUSED and all(t.status is not TypeStatus.PAUSED for t in run.tasks):
                break
            self.pauses += 1
        if leaves_items:
            return ""
        if (run.status, run.state) != (expected_run.status, expected_run.state):
            return f"the run is {run.status}, {run.state}, not {expected_run.status}"
        result = self.results(workflow)
        if result != expected:
            return f"after {self.pauses} pauses {differences(expected, result)}\n" + "\n".join(map(repr, self.nodes))
        twice = self.finished() - once
        return f"after {self.pauses} pauses again: {twice}" if twice else ""

    def wrong(self, run: Run, listener: Pauses) -> str:
        """What is wrong with a run."""
        of_tasks = sorted(event.task_id for event in listener.paused if event.item is None)
        held = [task.task_id for task in run.tasks if task.status is TypeStatus.PAUSED]
        if of_tasks != held:
            return f"{held} are paused, and {of_tasks} have the event"
        unended = {TypeStatus.IN_PROGRESS, TypeStatus.RETRY} & {
            one.status for task in run.tasks for one in (task, *task.items)
        }
        if unended:
            return f"a task is still {unended}"
        has_left = any(task.status in LEFT for task in run.tasks)
        failed = [task for task in run.tasks if task.status is TypeStatus.FAILED]
        if failed and not self.keeps_going:
            is_right = run.state is TypeRunState.FAILED or all(task.is_cleanup for task in failed)
            return "" if is_right else f"{run.state}, though a failure has stopped it"
        return f"{run.state}, with {run.tasks}" if has_left is not (run.state is TypeRunState.PAUSED) else ""

    def finished(self) -> "Counter[tuple[int, str]]":
        """How often each call has finished, of those that depend on no failure and no cleanup. Forgets the calls."""
        count = Counter(call for call in self.calls if call[0] in self.sure)
        count.subtract(Counter(call for call in self.failed if call[0] in self.sure))
        self.calls.clear()
        self.failed.clear()
        return count


def check(seed: int | str, name: str) -> str:
    """Returns what is wrong in one scenario."""
    mode = random.Random(f"mode {seed}").choice(MODES)
    with tempfile.TemporaryDirectory() as folder:
        wrong = PauseScenario(f"{seed}", STORAGES[name](Path(folder)), mode).check()
    return f"seed {seed}, {name}, {mode}: {wrong}" if wrong else ""


def main() -> int:
    """Prints what is wrong; returns 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--storage", default="memory", choices=STORAGES)
    chosen = parser.parse_args()
    began, wrong = time.monotonic(), 0
    for seed in range(chosen.first, chosen.first + chosen.scenarios):
        found = check(seed, chosen.storage)
        if found:
            wrong += 1
            print(found, flush=True)
    print(f"{chosen.scenarios} scenarios, {chosen.storage}, {wrong} wrong, {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
