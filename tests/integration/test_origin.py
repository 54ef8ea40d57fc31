"""Whose values a workflow has, when runs from a queue and by hand are killed between any two of their steps.

A kill is an exception that nothing handles, at one call of the storage or of the queue; what comes next has objects of
its own, as another process would. The steps save which run made their value, and pass on who made what they took.
"""

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import pytest

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.abc.storage import Storage
from dotflow.abc.workflow import Superseded
from dotflow.core.events import AttemptStarted, TaskCompleted
from dotflow.errors import NotInHistory
from dotflow.providers import StorageDefault, StorageFile, StorageSQLite
from dotflow.resume.checkpoint import Chain, Checkpoints
from dotflow.resume.choice import ChosenTasks
from dotflow.resume.journal import Journal
from tests.storages import StorageThree, StorageThreeMethods

Make = Callable[[], Storage]
ALL: Final = 10**9  # no kill


@action
def fetch() -> None: ...


@action
def charge(fetch: Any, idempotency_key: str) -> None: ...


@action
def report(charge: Any) -> None: ...


@action
def plain_charge(fetch: Any) -> None: ...


class Killed(BaseException):
    """The end of a process."""


class Fuse:
    """Raises Killed right before one of the steps that it counts: after the one before it has taken effect."""

    def __init__(self, left: int) -> None:
        self.left = left

    def burn(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def before(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def burnt(*arguments: Any) -> Any:
            self.burn()
            return step(*arguments)

        return burnt


@contextlib.contextmanager
def burning(storage: Storage, fuse: Fuse) -> Iterator[Storage]:
    """Kills at the writes of a storage."""
    with contextlib.ExitStack() as stack:
        for name in ("post", "delete", "clear"):
            stack.enter_context(patch.object(storage, name, fuse.before(getattr(storage, name))))
        yield storage


def build(storage: Storage, *, has_key: bool = True) -> DotFlow:
    workflow = DotFlow(Config(storage=storage), workflow_id="w")
    workflow.task.add(fetch)
    workflow.task.add(charge if has_key else plain_charge, name="charge")
    workflow.task.add(report, name="report")
    return workflow


class World:
    """The runs of one workflow, and what the queue and the other side of its effects know of them."""

    def __init__(self, make: Make) -> None:
        self.make = make
        self.begun: set[str] = set()  # the chains of which a run has begun
        self.superseded: set[str] = set()
        self.finished: dict[str, set[str]] = {}  # the tasks that have finished, by chain
        self.effects: dict[str, Any] = {}  # what was charged, by key
        self.finished_keys: set[str] = set()
        self.twice: list[str] = []  # finished tasks that ran again in their chain

    def run(
        self,
        run_id: str,
        chain: str = "",
        *,
        left: int = ALL,
        has_key: bool = True,
        resume: bool = False,
        rerun: Collection[int] = (),
    ) -> bool:
        """Makes a run of a chain, or one by hand. Returns whether it completed; False if it was killed."""
        fuse = Fuse(left)
        try:
            with burning(self.make(), fuse) as storage:
                self._run(storage, run_id, chain, fuse, has_key, resume, rerun)
        except Killed:
            return False
        return True

    def _run(
        self,
        storage: Storage,
        run_id: str,
        chain: str,
        fuse: Fuse,
        has_key: bool,
        resume: bool,
        rerun: Collection[int],
    ) -> None:
        workflow = build(storage, has_key=has_key)
        tasks = [task._new_record("w", run_id) for task in workflow.task]

        def supersede() -> None:
            others = self.begun - {chain}
            self.superseded |= others

        begun = Chain(chain, run_id != chain, chain in self.begun, fuse.before(supersede)) if chain else None
        run = Checkpoints(storage, "w", exclusive=True, log_line=lambda *_: None, run_id=run_id)
        try:
            run.open(tasks, resume=resume, sources=(None,) * 3, chosen=ChosenTasks(rerun), chain=begun)
            if chain:
                fuse.before(self.begun.add)(chain)
            finished = self.finished.setdefault(chain or run_id, set())
            before: Any = None
            for task in tasks:
                context = run.found.restored.get(task.task_id)
                if context is None:
                    if task.name in finished:
                        self.twice.append(task.name)
                    task._apply(AttemptStarted(task.task_id, 1, Context(), Context().time, 0.0))
                    key = run.ids.key_base(task) if task.links is not None and task.links.takes_key else ""
                    if key:
                        self.charge(key, before)
                    fuse.burn()
                    value = [run_id, before]
                    context = Context(value, task.task_id, "w", step=task.step.identity)
                    run.save(task, context)
                    finished.add(task.name)
                    self.finished_keys.add(key)
                task._apply(TaskCompleted(task.task_id, context, 0.0))
                before = context.storage
        finally:
            run.close()

    def charge(self, key: str, amount: Any) -> None:
        """The other side of an effect: what comes with a key that is known must be what came first."""
        assert self.effects.setdefault(key, amount) == amount, "other arguments went out under an old key"
        assert key not in self.finished_keys, "the key of an effect that has finished came back"

    def value(self, origin: str) -> Any:
        """What `workflow.value` has of a chain's last task; None for nothing."""
        workflow = build(self.make())
        run = SimpleNamespace(workflow_id="w", origin=origin, state="Running", has_begun=True)
        with patch.object(workflow, "_queue", lambda what: SimpleNamespace(newest=lambda run_id: run)):
            try:
                return workflow.value("any", "report")
            except NotInHistory:
                return None

    def makers(self, value: Any) -> set[str]:
        """The runs that made a value, and what it was made from."""
        return set() if value is None else {value[0], *self.makers(value[1])}


def kinds(folder: Path) -> dict[str, Make]:
    """Storages that what comes next finds again, and one that ends with its process."""
    three, methods, default = StorageThree(), StorageThreeMethods(), StorageDefault()
    return {
        "default": lambda: default,  # an exception that does not end the process
        "three": lambda: three,
        "three methods": lambda: methods,
        "file": lambda: StorageFile(folder / "values", durability="process"),
        "sqlite": lambda: StorageSQLite(folder / "values.db", durability="process"),
        "lost": StorageDefault,
    }


LASTING: Final = ("default", "three", "three methods", "file", "sqlite")

#: What was there yesterday, by name.
YESTERDAY: Final[dict[str, Callable[[World], object]]] = {
    "nothing": lambda world: None,
    "a run by hand": lambda world: world.run("hand", has_key=False),
    "a run by hand with a key": lambda world: world.run("hand"),
    "a part of a run by hand": lambda world: world.run("hand", left=4),
    "a chain": lambda world: world.run("old", "old"),
    "a part of a chain": lambda world: world.run("old", "old", left=7),
}


def kills(world: Callable[[], World], run: Callable[[World, int], bool]) -> Iterator[tuple[World, int]]:
    """Yields a world for each moment at which a run can be killed, after the kill."""
    for left in itertools.count():
        made = world()
        if run(made, left):
            return
        yield made, left


def end_chain(world: World, chain: str, *, restores: bool = True) -> None:
    """Goes on with a chain until it ends, and checks whose values it has completed with."""
    runs = {chain, *(f"{chain} {number}" for number in range(9))}
    for number in range(9):
        if chain in world.superseded:
            return
        try:
            if world.run(f"{chain} {number}", chain):
                break
        except Superseded:
            return
    assert world.makers(world.value(chain)) <= runs
    assert world.value(chain) is not None or not restores
    assert not restores or world.twice == []


@pytest.mark.exhaustive(keep_every=5)
@pytest.mark.parametrize("yesterday", YESTERDAY)
@pytest.mark.parametrize("kind", [*LASTING, "lost"])
def test_no_kill_lets_a_chain_complete_with_the_values_of_another(tmp_path: Path, kind: str, yesterday: str) -> None:
    """Wherever its first run is killed, the chain goes on, runs no finished step again, and has its own values only."""
    numbers = itertools.count()

    def world() -> World:
        made = World(kinds(tmp_path / str(next(numbers)))[kind])
        YESTERDAY[yesterday](made)
        return made

    moments = 0
    for killed, _ in kills(world, lambda made, left: made.run("new", "new", left=left)):
        assert killed.makers(killed.value("new")) <= {"new"}
        end_chain(killed, "new", restores=kind != "lost")
        assert killed.makers(killed.value("old")) in (set(), {"old"})
        moments += 1
    assert moments >= 9, "before supersede, delete, void, write, begin, the effect and three values"


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("hand_has_key", [True, False])
def test_no_two_kills_mix_a_chain_with_a_run_by_hand(hand_has_key: bool, tmp_path: Path) -> None:
    """A chain is killed anywhere, then a run by hand that begins anew: the chain ends, or has its own values only."""

    def world() -> World:
        return World(kinds(tmp_path)["three methods"])

    def kill_both(made: World, first: int, second: int) -> bool:
        made.run("new", "new", left=first)
        return made.run("hand", left=second, has_key=hand_has_key)

    seen = 0
    for _, first in kills(world, lambda made, left: made.run("new", "new", left=left)):
        for killed, _ in kills(world, lambda made, left, first=first: kill_both(made, first, left)):  # type: ignore[misc]
            end_chain(killed, "new", restores=False)
            assert not killed.makers(killed.value("new")) & {"hand"}
            seen += 1
    assert seen > 50


def test_no_two_kills_mix_two_chains(tmp_path: Path) -> None:
    """A chain is killed anywhere, then another one that the queue lets begin: each ends, or has its own values only."""

    def world() -> World:
        return World(kinds(tmp_path)["three methods"])

    def kill_both(made: World, first: int, second: int) -> bool:
        made.run("one", "one", left=first)
        return made.run("two", "two", left=second)

    for _, first in kills(world, lambda made, left: made.run("one", "one", left=left)):
        for killed, _ in kills(world, lambda made, left, first=first: kill_both(made, first, left)):  # type: ignore[misc]
            for chain in ("two", "one"):
                end_chain(killed, chain, restores=False)
                for other in ("one", "two"):
                    made_by = killed.makers(killed.value(other))
                    assert all(maker.startswith(other) for maker in made_by)


def test_a_run_by_hand_that_goes_on_keeps_the_chain(tmp_path: Path) -> None:
    """It finishes what the chain has left; the values stay the chain's, and so do the keys."""
    storage = StorageFile(tmp_path)
    world = World(lambda: StorageFile(tmp_path))
    world.run("new", "new", left=7)
    before = dict(world.effects)

    saved = Journal(storage, "w")
    assert saved.read() == "new"
    assert before == {} or len(before) == 1
    run = Checkpoints(storage, "w", exclusive=True, log_line=lambda *_: None, run_id="hand")
    tasks: list[Task] = [task._new_record("w", "hand") for task in build(storage).task]
    run.open(tasks, resume=True, sources=(None,) * 3)
    run.close()

    assert saved.read() == "new"


def test_a_run_by_hand_supersedes_a_chain_that_has_begun(tmp_path: Path) -> None:
    """The chain ends instead of voiding the newer values; one that has not begun takes its turn, and begins anew."""
    for left, is_superseded in ((7, True), (1, False)):
        world = World(kinds(tmp_path)["three"])
        world.run("new", "new", left=left)
        assert world.run("hand")

        with pytest.raises(Superseded) if is_superseded else contextlib.nullcontext():
            world.run("new 1", "new")

        assert world.makers(world.value("hand")) == ({"hand"} if is_superseded else set())
        assert world.makers(world.value("new")) == (set() if is_superseded else {"new 1"})


@pytest.mark.parametrize("rerun", [{0}, {1}])
@pytest.mark.parametrize("kind", ["three", "file"])
def test_no_kill_brings_a_key_back(kind: str, rerun: set[int], tmp_path: Path) -> None:
    """A finished step, or its source, runs again: that is counted before its checkpoint is deleted."""
    numbers = itertools.count()

    def world() -> World:
        made = World(kinds(tmp_path / str(next(numbers)))[kind])
        assert made.run("first")
        return made

    moments = 0
    for killed, _ in kills(world, lambda made, left: made.run("second", left=left, resume=True, rerun=rerun)):
        assert killed.run("third", resume=True)
        assert len(killed.effects) <= 3
        moments += 1
    assert moments >= 6
