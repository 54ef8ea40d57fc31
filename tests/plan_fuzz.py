"""Compares plans with the runs after them. Run: python tests/plan_fuzz.py --resumes 100

Each run is a process of its own, which is killed with SIGKILL before or after a random write of its storage. Then the
workflow or its code changes, and it is resumed. What `plan` returned before the resume must be what the resume did.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from dotflow import Context, Task  # noqa: E402 (found through the path that was just set)
from dotflow.abc.storage import Storage  # noqa: E402
from dotflow.core.types.status import TypeStatus  # noqa: E402
from dotflow.errors import CheckpointMismatch  # noqa: E402
from dotflow.graph.workflow_plan import WorkflowPlan  # noqa: E402
from dotflow.providers import StorageFile, StorageSQLite  # noqa: E402
from tests.resume_fuzz import MODES, KilledStorage, KilledWithClear, Node, Scenario  # noqa: E402


def outcome(task: Task) -> tuple[str, int | None, int]:
    """What a run did with a task, in the words of the plan."""
    if task.status is TypeStatus.SKIPPED or {item.status for item in task.items} == {TypeStatus.SKIPPED}:
        return ("skip", None, 0)
    items = len(task.items) if task.is_mapped else None
    done = sum(not item.attempt and item.status is not TypeStatus.FAILED for item in task.items)
    has_run = any(item.attempt for item in task.items) if items else task.attempt > 0
    if has_run or task.restored_from is None:
        return ("run", items, done)
    return ("restore" if task.restored_from == "checkpoint" else "cached", items, done)


def check(plan: WorkflowPlan, tasks: list[Task]) -> None:
    """Compares a plan with the run after it; what was open may be anything."""
    for planned, task in zip(plan.tasks, tasks, strict=True):
        decision, items, done = outcome(task)
        if planned.decision == "open":
            continue
        assert planned.decision == decision, (planned, task, task.reason)
        if decision != "skip" and planned.items is not None:  # a skip may have several reasons
            assert (planned.items, planned.items_done) == (items, done), planned


class ThreeMethods(Storage):
    """Another storage, of which only three methods are used."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner

    def post(self, key: str, context: Context) -> None:
        self.inner.post(key, context)

    def get(self, key: str) -> Context:
        return self.inner.get(key)

    def key(self, task: Task) -> str:
        return self.inner.key(task)


STORAGES: Final[dict[str, Callable[[Path], Storage]]] = {
    "file": lambda folder: StorageFile(folder / "kept", durability="process"),
    "sqlite": lambda folder: StorageSQLite(folder / "kept.db", durability="process"),
    "three methods": lambda folder: ThreeMethods(StorageFile(folder / "kept", durability="process")),
}


def killing(kind: type[KilledStorage]) -> type[KilledStorage]:
    """A storage whose process is dead before or after one of its writes."""

    class Killing(kind):  # type: ignore[valid-type, misc]
        after = False

        def _count(self) -> bool:
            self.writes -= 1
            if self.writes < 0 and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            return True

        def post(self, key: str, context: Context) -> None:
            super().post(key, context)
            if self.writes < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return Killing


class Planned(Scenario):
    """A random workflow in which only tasks with a fallback fail, since a plan assumes that no task fails."""

    figures: Counter[str]

    def fails(self, node: Node, value: int, text: str) -> bool:
        """Whether the step of a node raises instead of returning a value."""
        return node.fallback and value % 5 == 0

    def run_once(self, writes: float, after: bool, resume: Any, options: dict[str, Any]) -> dict[str, Any] | None:
        """Plans a run and runs it, in another process. Returns what that reports; None if it was killed."""
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.close(read)
                report = self.plan_and_run(writes, after, resume, options)
                os.write(write, json.dumps(report).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as answer:
            text = answer.read()
        _, status = os.waitpid(child, 0)
        assert text or os.WIFSIGNALED(status), "the run has crashed"
        return json.loads(text) if text else None

    def plan_and_run(self, writes: float, after: bool, resume: Any, options: dict[str, Any]) -> dict[str, Any]:
        """Compares the plan of a run with the run."""
        storage = killing(KilledStorage if isinstance(self.storage, ThreeMethods) else KilledWithClear)(
            self.storage, writes
        )
        storage.after = after  # type: ignore[attr-defined]
        workflow = self.build(storage)
        mode = self.mode.replace("groups", "sequential")
        try:
            plan = workflow.plan(mode, resume, **options)
        except CheckpointMismatch:
            return {"wrong": "", "failed": True, "decisions": []}
        workflow.start(mode, resume=resume, keep_going=True, **options)
        tasks = workflow.result_task()
        failed = any(one.status is TypeStatus.FAILED for task in tasks for one in (task, *task.items))
        wrong = ""
        try:
            check(plan, tasks)
        except AssertionError as error:
            wrong = f"{error}\n{plan}\n{[outcome(task) for task in tasks]}\n" + "\n".join(map(repr, self.nodes))
        return {"wrong": wrong, "failed": failed, "decisions": [str(task.decision) for task in plan.tasks]}

    def compare(self) -> str:
        """Kills, changes and resumes a workflow; returns where a plan differs from the resume."""
        pick = self.random
        self.edits, self.caches = True, pick.random() < 0.7
        for _ in range(pick.randrange(6)):
            self.insert()
        self.run_once(pick.randrange(20), pick.random() < 0.5, False, {})
        for resume in range(3):
            if pick.random() < 0.6:
                self.change()
            if resume < 2 and pick.random() < 0.5:
                self.run_once(pick.randrange(12), pick.random() < 0.5, pick.choice([True, "changed"]), {})
            options = self.more_options()
            report = self.run_once(float("inf"), False, pick.choice([True, "changed", "changed", False]), options)
            assert report is not None
            self.figures["failed" if report["failed"] else "compared"] += 1
            if report["failed"]:
                continue
            self.figures.update(report["decisions"])
            if report["wrong"]:
                return str(report["wrong"])
        return ""


def compare(seed: int, name: str, figures: Counter[str]) -> str:
    """Returns where the plans of one scenario differ from the resumes after them."""
    mode = MODES[seed % len(MODES)]
    with tempfile.TemporaryDirectory() as folder:
        scenario = Planned(f"plan {seed}", STORAGES[name](Path(folder)), mode)
        scenario.figures = figures
        wrong = scenario.compare()
    return f"seed {seed}, {name}, {mode}: {wrong}" if wrong else ""


def main() -> int:
    """Prints the plans that were wrong; returns 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resumes", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--storage", choices=STORAGES, action="append")
    chosen = parser.parse_args()
    names = chosen.storage or list(STORAGES)
    began, wrong, seed, figures = time.monotonic(), 0, chosen.first, Counter[str]()
    while figures["compared"] < chosen.resumes:
        difference = compare(seed, names[seed % len(names)], figures)
        seed += 1
        if difference:
            wrong += 1
            print(difference, flush=True)
    counts = ", ".join(f"{count} {word}" for word, count in sorted(figures.items()))
    print(f"{seed - chosen.first} scenarios, {wrong} wrong, {time.monotonic() - began:.0f} s: {counts}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
