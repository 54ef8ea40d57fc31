"""The proof: which rounds are played, and what has to be true of each."""

from functools import partial
from typing import Final

from dotflow.testing.contracts.equality import difference
from dotflow.testing.crash.harness import Round, Stage
from dotflow.testing.crash.kill_points import AFTER, BEFORE, Point
from dotflow.testing.crash.report import CrashReport
from dotflow.testing.crash.trial import Order, Result

DETERMINISTIC: Final = (
    "To be compared, a step has to return the same in every run: no random numbers without a seed, no clock, no ids, "
    "nothing that an earlier run left behind."
)

#: Runs in which a moment may come: side by side, it may depend on who was first.
TRIES: Final = 3


def prove(stage: Stage) -> CrashReport:
    """Kills and resumes the stage's pipeline at every moment there is.

    Raises AssertionError at the first thing that is not as promised.
    """
    first = stage.play(Order(scouting=True))
    expected = _completed(first, "An undisturbed run")
    stage.set_prints_aside()
    stage.import_ahead(expected.modules)
    order = partial(Order, workflow_id=expected.workflow_id)
    _check_kept(first, stage.play(order(resume=True)), expected)
    second = _completed(stage.play(order(scouting=True)), "A second undisturbed run")
    told = _differences(expected, second)
    if told:
        raise AssertionError(f"Two undisturbed runs differ:\n{told}\n{DETERMINISTIC}")
    crashes = boundaries = reruns = missed = 0
    for point in second.points:
        crash = _killed(stage, order(at=point))
        if crash is None:
            missed += 1
            continue
        crashes += 1
        boundaries += _is_boundary(point)
        resumed = stage.play(order(resume=True))
        _check_resumed(crash, resumed, expected, f"Killed {point}, then resumed")
        reruns += len(crash.began & resumed.began)
    stage.drop_prints()
    return CrashReport(crashes=crashes, boundaries=boundaries, resumes=crashes, reruns=reruns, missed=missed)


def _killed(stage: Stage, order: Order) -> Round | None:
    """A run that was killed where it was to be; None where it does not come there again."""
    for _ in range(TRIES):
        crash = stage.play(order)
        if crash.killed:
            return crash
        _completed(crash, f"A run that was to be killed {order.at}")
    return None


def _is_boundary(point: Point) -> bool:
    return point.number in (BEFORE, AFTER)


def _completed(played: Round, what: str) -> Result:
    """The result of a run that had to complete."""
    result = played.result
    if result is None:
        raise AssertionError(f"{what} {played.wrong or 'was killed by nobody knows whom'}")
    if result.open:
        raise AssertionError(f"{what} did not complete all tasks:\n" + "\n".join(result.open))
    return result


def _check_kept(first: Round, resumed: Round, expected: Result) -> None:
    """What an undisturbed run has posted is there for another process."""
    storage = expected.storage
    if not first.posted:
        raise AssertionError(
            f"An undisturbed run posted nothing to the storage ({storage}). Where build_workflow takes the storage, it "
            f"has to put it into the workflow's Config: DotFlow(Config(storage=storage))."
        )
    if resumed.result is not None and first.posted <= resumed.began:
        raise AssertionError(
            f"{storage} keeps nothing beyond its process: another process, which resumed the workflow after an "
            f"undisturbed run, found none of its {len(first.posted)} checkpoints. Take a storage that does, such as "
            f"StorageFile, and one that leads to the same place wherever it is made."
        )
    _check_resumed(first, resumed, expected, "Resumed after an undisturbed run")


def _check_resumed(before: Round, resumed: Round, expected: Result, what: str) -> None:
    """A resumed run completes, runs nothing again that was finished, skips nothing else, and comes to the same."""
    result = _completed(resumed, what)
    again = before.posted & resumed.began
    if again:
        raise AssertionError(
            f"{what}: {_listed(again, expected)} ran again, though post() had returned and the checkpoint had to be "
            f"there. {result.storage} lost it, or get() and contains() don't find it."
        )
    void = set(range(len(expected.names))) - resumed.began - before.posting
    if before.started and void:
        raise AssertionError(
            f"{what}: {_listed(void, expected)} did not run, though no checkpoint had been written since start() had "
            f"voided those of the run before. {result.storage} still had one when delete() or clear() had returned."
        )
    told = _differences(expected, result, resumed)
    if told:
        raise AssertionError(f"{what}: the result is another one than that of an undisturbed run.\n{told}")


def _listed(places: set[int], expected: Result) -> str:
    return ", ".join(f"task {place} ({expected.names[place]})" for place in sorted(places))


def _differences(expected: Result, result: Result, resumed: Round | None = None) -> str:
    """Which tasks returned something else, a line each."""
    if expected.names != result.names:
        return f"the steps were {expected.names}, and are {result.names} now"
    lines = []
    for place, values in enumerate(zip(expected.values, result.values, strict=True)):
        told = difference(*values, moments=False)
        if told:
            line = f"task {place} ({expected.names[place]}): {told}"
            if resumed is not None:
                line += f". {DETERMINISTIC if place in resumed.began else f'It was restored from {result.storage}.'}"
            lines.append(line)
    return "\n".join(lines)
