"""Prints what is lost when a run is killed at random moments: storage x shape. Run: python tests/crash_table.py

A run is killed by SIGKILL from outside, after a delay that is drawn over the duration of an undisturbed run. Its resume
may be killed, too, and the next one, until one completes; then a last one reads back what is there. Moments that are
chosen, not drawn, are those of tests/integration/test_crashes.py.
"""

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from dotflow import Config, Context, DotFlow, action  # noqa: E402 (found through the path that was just set)
from dotflow.abc.storage import Storage  # noqa: E402
from dotflow.providers import LogDefault, StorageFile, StorageSQLite  # noqa: E402
from dotflow.testing.contracts.equality import difference  # noqa: E402
from dotflow.testing.crash.harness import Harness, TrialOutcome  # noqa: E402
from dotflow.testing.crash.kill_points import StepId  # noqa: E402
from dotflow.testing.crash.ledger import Findings, Ledger, Name  # noqa: E402
from dotflow.testing.crash.trial import Pipeline, RunResult, TrialOptions  # noqa: E402

TIMEOUT: Final = 30.0  # seconds; what takes longer hangs
STEPS: Final = 20
ENOUGH: Final = 20  # faults after which one storage and shape is given up
RESUME_KILLED: Final = 0.4  # how likely it is that a resume is killed, too

GROUPS: Final = 3
ITEMS: Final = 300  # of a map
ROUNDS: Final = 20

COLUMNS: Final = (  # from the fifth on, they have to be 0
    "kills",
    "of resumes",
    "resumes",
    "steps run again",
    "finished, run again",
    "void, yet used",
    "values lost or changed",
    "unreadable",
    "other failures",
    "litter",
)
#: These have to be 0.
FAULTS: Final = COLUMNS[4:]


class Colour(enum.Enum):
    """An enum."""

    RED = "red"


@dataclasses.dataclass
class Sale:
    """A dataclass."""

    number: int
    price: decimal.Decimal
    tags: tuple[str, ...]


#: Of several types and sizes.
VALUES: Final[dict[str, Any]] = {
    "none": None,
    "zero": 0,
    "empty": [],
    "text": "äöü 😀 " * 10,
    "rows": [{"id": number, "score": number / 7} for number in range(200)],
    "tuple": (1, (2, [3])),
    "bytes": bytes(range(256)) * 40,
    "set": {1, "a", None},
    "large": "0123456789abcdef" * 20_000,
    "mixed": {1: datetime.date(2024, 2, 29), (2, "x"): uuid.UUID(int=3), Colour.RED: float("inf")},
}


def make_step(name: str, number: int, value: Any) -> Any:
    """A step of one to three milliseconds that builds on the one before; every seventh fails at first.

    It may fail once in each worker: an attempt is made by whoever is free.
    """
    tries: list[int] = []

    def step(previous_context: Context) -> Any:
        time.sleep(0.001 + 0.002 * (number % 3) / 2)
        tries.append(number)
        if number % 7 == 3 and len(tries) < 2:
            raise ValueError("not at the first try")
        before = previous_context.task_id
        return (name, before, value, Sale(number, decimal.Decimal(number), (name,)))

    step.__qualname__ = f"step_{number}_{name}"
    return action(retry=1 + 2 * GROUPS, retry_delay=0)(step)


@action
def listed() -> list[int]:
    """The items of the first map; two of them are equal."""
    return [*range(ITEMS - 1), 0]


@action(retry=5, retry_delay=0)
def fetch(number: int) -> dict[str, Any]:
    """An item; every 50th fails at first."""
    failed.append(number)
    if number % 50 == 3 and failed.count(number) == 1:
        raise ValueError("not at the first try")
    return {"number": number, "sale": Sale(number, decimal.Decimal(number), ())}


failed: list[int] = []


@action
def halve(number: int) -> int:
    """An item of a shorter map."""
    return number // 2


@action
def check(half: int) -> int:
    """An item of a map over that map."""
    return half + 1


@action
def summary(fetch: list[dict[str, Any]], check: list[int]) -> tuple[int, int, int]:
    """Counts and adds the items: it must never be made of fewer."""
    return len(fetch), len(check), sum(check)


def build_maps() -> DotFlow:
    """Makes a workflow of a map, a map over a shorter map, and a reduce of both."""
    workflow = DotFlow(Config(log=LogDefault(output="none")), workflow_id="nightly/../maps")
    workflow.task.add(listed).add(fetch, each=listed).add(halve, each=range(20))
    workflow.task.add(check, each=halve, max_parallel=3).add(summary)
    return workflow


@action
def parse(fetch: dict[str, Any]) -> int:
    """A task that takes the one beside it."""
    number: int = fetch["number"]
    return number


@action
def total(page: list[int]) -> int:
    """Adds the items: it must never be made of fewer."""
    return sum(page)


@action
def refine(draft: int) -> int:
    """A round, which takes the value of the one before."""
    return draft + 1


@action
def good(refine: int) -> bool:
    """Whether it was the last round."""
    return refine % ROUNDS == 0


def build_nests() -> DotFlow:
    """Makes a workflow of two tasks for each item, and of rounds that begin with their sum."""
    page, again = DotFlow(params={"number": ...}), DotFlow(params={"draft": ...})
    page.task.add(fetch).add(parse)
    again.task.add(refine).add(good)
    workflow = DotFlow(Config(log=LogDefault(output="none")), workflow_id="nightly/../nests")
    workflow.task.add(page, name="page", each={"number": range(60)}, max_parallel=10).add(total)
    workflow.task.add(again, name="round", needs={"draft": total}, repeat=ROUNDS, until="good")
    return workflow


def build(groups: int) -> Callable[[], DotFlow]:
    """Makes a workflow of all the steps, in so many groups."""

    def make() -> DotFlow:
        workflow = DotFlow(Config(log=LogDefault(output="none")), workflow_id="nightly/../report")
        for number in range(STEPS):
            name, value = list(VALUES.items())[number % len(VALUES)]
            workflow.task.add(make_step(name, number, value), group_name=f"group {number % groups}")
        return workflow

    return make


#: The workflow, and the arguments of its start.
SHAPES: Final[dict[str, tuple[Callable[[], DotFlow], dict[str, Any]]]] = {
    "sequential": (build(1), {}),
    "groups": (build(GROUPS), {}),
    "maps, sequential": (build_maps, {}),
    "maps, parallel": (build_maps, {"mode": "parallel"}),
    "nests, sequential": (build_nests, {}),
    "nests, parallel": (build_nests, {"mode": "parallel"}),
}

STORAGES: Final[dict[str, Callable[[Path], Storage]]] = {  # a kill is no power cut
    "StorageFile": lambda folder: StorageFile(folder, durability="process"),
    "StorageSQLite": lambda folder: StorageSQLite(folder / "dotflow.db", durability="process"),
}


class Trial:
    """One storage and one shape, killed at random.

    Args:
        folder: Where the storage keeps its values, and the stage its notes.
        make_storage: Makes the storage.
        shape: The workflow, and the arguments of its start.
        seed: Of the delays.
    """

    def __init__(self, folder: Path, make_storage: Callable[[Path], Storage], shape: str, seed: str) -> None:
        self.kept = folder / "kept"
        notes = folder / "notes"
        notes.mkdir()
        make_workflow, arguments = SHAPES[shape]
        pipeline = Pipeline(build=make_workflow, storage=lambda: make_storage(self.kept), arguments=arguments)
        self.harness = Harness(pipeline, notes, TIMEOUT)
        self.random = random.Random(seed)
        self.ledger = Ledger()
        self.counts: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        first, _ = self.trial()
        self.harness.preload(self.completed(first).modules)
        durations = []
        for _ in range(3):
            began = time.monotonic()
            self.expected = self.completed(self.trial()[0])
            durations.append(time.monotonic() - began)
        self.duration = sorted(durations)[1]
        self.clean = self.files()

    def trial(self, *, resume: bool = False, kill_after: float | None = None) -> tuple[TrialOutcome, Findings]:
        """Runs a trial, and notes what it did not find as it was saved."""
        outcome = self.harness.run(TrialOptions(resume=resume), kill_after=kill_after)
        findings = self.ledger.follow(outcome.operations)
        self.note("values lost or changed", sorted(map(str, findings.lost | findings.altered)))
        self.note("void, yet used", sorted(map(str, findings.stale)))
        return outcome, findings

    def completed(self, outcome: TrialOutcome) -> RunResult:
        """The result of a round that nothing disturbs."""
        if outcome.result is None or outcome.result.incomplete:
            raise SystemExit(f"an undisturbed run {outcome.error or outcome.result}")
        return outcome.result

    def files(self) -> set[str]:
        """What lies in the storage's folder, but for what SQLite removes when the last process closes it properly."""
        found = {path.relative_to(self.kept).as_posix() for path in self.kept.rglob("*")}
        return {name for name in found if not name.endswith(("-wal", "-shm"))}

    def run(self, kills: int) -> None:
        """Goes on until there were so many kills, or enough was found."""
        while self.counts["kills"] < kills and len(self.faults) < ENOUGH:
            self.chain(kills)

    def chain(self, kills: int) -> None:
        """A run, its kill, and resumes until one completes; then what is there is read back."""
        finished: set[Name] = set()
        began: set[StepId] = set()
        resume = False
        while True:
            killing = self.counts["kills"] < kills and (not resume or self.random.random() < RESUME_KILLED)
            delay = self.random.uniform(0, self.duration) if killing else None
            outcome, findings = self.trial(resume=resume, kill_after=delay)
            self.counts["resumes"] += resume
            self.counts["steps run again"] += len(outcome.began & began)
            self.note("finished, run again", sorted(map(str, outcome.began & finished)))
            began |= outcome.began
            finished |= findings.posted
            if not outcome.killed:
                break
            self.counts["kills"] += 1
            self.counts["of resumes"] += resume
            resume = True
        if self.is_whole(outcome):
            last, _ = self.trial(resume=True)
            self.note("finished, run again", sorted(map(str, last.began)))
            if self.is_whole(last):
                self.note("litter", sorted(self.files() - self.clean))

    def is_whole(self, outcome: TrialOutcome) -> bool:
        """Whether a round that was not killed completed; its values are compared then."""
        if outcome.result is None or outcome.result.incomplete:
            fault = "unreadable" if "CheckpointUnreadable" in outcome.error else "other failures"
            self.note(fault, [outcome.error or "; ".join(outcome.result.incomplete if outcome.result else ())])
            return False
        pairs = zip(self.expected.values, outcome.result.values, strict=True)
        self.note("values lost or changed", list(filter(None, (difference(*pair) for pair in pairs))))
        return True

    def note(self, fault: str, found: list[Any]) -> None:
        """Counts what was found, and keeps it for the reader."""
        self.counts[fault] += len(found)
        self.faults += [f"{fault}: {one}" for one in found]


def main() -> int:
    """Prints the table; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="for each storage and shape")
    parser.add_argument("--seed", default="dotflow", help="of the moments at which it is killed")
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, metavar="SHAPE", help=", ".join(SHAPES))
    chosen = parser.parse_args()
    began, faults = time.monotonic(), 0
    sizes = f"{STEPS} steps of 1 to 3 ms, or maps of {ITEMS} items, or {ROUNDS} rounds"
    print(f"Python {sys.version.split()[0]}, {sys.platform}, seed {chosen.seed!r}: {sizes}.\n")
    print(f"| storage | shape | undisturbed | {' | '.join(COLUMNS)} |")
    print(f"|---|---|---|{'---|' * len(COLUMNS)}", flush=True)
    told = []
    for storage, make_storage in STORAGES.items():
        for shape in chosen.shapes or SHAPES:
            with tempfile.TemporaryDirectory() as folder:
                trial = Trial(Path(folder), make_storage, shape, f"{chosen.seed} {storage} {shape}")
                trial.run(chosen.kills)
            faults += sum(trial.counts[fault] for fault in FAULTS)
            told += [f"{storage}, {shape}: {line}" for line in trial.faults]
            cells = [storage, shape, f"{trial.duration * 1000:.0f} ms", *(str(trial.counts[name]) for name in COLUMNS)]
            print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nMeasured in {time.monotonic() - began:.0f} s.")
    print("\n".join(told[:ENOUGH]))
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
