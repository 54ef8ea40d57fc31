"""The proof: which rounds are outcome, and what has to be true of each."""

from functools import partial
from typing import Final

from dotflow.testing.contracts.equality import difference
from dotflow.testing.crash.harness import Harness, TrialOutcome
from dotflow.testing.crash.kill_points import AFTER, BEFORE, KillPoint
from dotflow.testing.crash.report import CrashReport
from dotflow.testing.crash.trial import RunResult, TrialOptions

DETERMINISTIC: Final = (
    "To be compared, a step has to return the same in every run: no random numbers without a seed, no clock, no ids, "
    "nothing that an earlier run left behind."
)

#: Runs in which a moment may come: side by side, it may depend on who was first.
MAX_TRIES: Final = 3


def verify(harness: Harness) -> CrashReport:
    """Kills and resumes the harness's pipeline at every moment there is.

    Raises AssertionError at the first thing that is not as promised.
    """
    first = harness.run(TrialOptions(discover=True))
    expected = _completed(first, "An undisturbed run")
    harness.set_prints_aside()
    harness.preload(expected.modules)
    options = partial(TrialOptions, workflow_id=expected.workflow_id)
    _check_kept(first, harness.run(options(resume=True)), expected)
    second = _completed(harness.run(options(discover=True)), "A second undisturbed run")
    difference_text = _differences(expected, second)
    if difference_text:
        raise AssertionError(f"Two undisturbed runs differ:\n{difference_text}\n{DETERMINISTIC}")
    crashes = boundaries = reruns = missed = 0
    for point in second.points:
        crash = _crash(harness, options(kill_at=point))
        if crash is None:
            missed += 1
            continue
        crashes += 1
        boundaries += _is_boundary(point)
        resumed = harness.run(options(resume=True))
        _check_resumed(crash, resumed, expected, f"Killed {point}, then resumed")
        reruns += len(crash.began & resumed.began)
    harness.drop_prints()
    return CrashReport(crashes=crashes, boundaries=boundaries, resumes=crashes, reruns=reruns, missed=missed)


def _crash(harness: Harness, options: TrialOptions) -> TrialOutcome | None:
    """A run that was killed where it was to be; None where it does not come there again."""
    for _ in range(MAX_TRIES):
        crash = harness.run(options)
        if crash.killed:
            return crash
        _completed(crash, f"A run that was to be killed {options.kill_at}")
    return None


def _is_boundary(point: KillPoint) -> bool:
    return point.number in (BEFORE, AFTER)


def _completed(outcome: TrialOutcome, what: str) -> RunResult:
    """The result of a run that had to complete."""
    result = outcome.result
    if result is None:
        raise AssertionError(f"{what} {outcome.error or 'was killed by nobody knows whom'}")
    if result.open:
        raise AssertionError(f"{what} did not complete all tasks:\n" + "\n".join(result.open))
    return result


def _check_kept(first: TrialOutcome, resumed: TrialOutcome, expected: RunResult) -> None:
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


def _check_resumed(before: TrialOutcome, resumed: TrialOutcome, expected: RunResult, what: str) -> None:
    """A resumed run completes, runs nothing again that was finished, skips nothing else, and comes to the same."""
    result = _completed(resumed, what)
    again = before.posted & resumed.began
    if again:
        raise AssertionError(
            f"{what}: {_task_list(again, expected)} ran again, though post() had returned and the checkpoint had to be "
            f"there. {result.storage} lost it, or get() and contains() don't find it."
        )
    void = set(range(len(expected.names))) - resumed.began - before.posting
    if before.started and void:
        raise AssertionError(
            f"{what}: {_task_list(void, expected)} did not run, though no checkpoint had been written since start() "
            f"had voided those of the run before. {result.storage} still had one when delete() or clear() had returned."
        )
    difference_text = _differences(expected, result, resumed)
    if difference_text:
        raise AssertionError(f"{what}: the result is another one than that of an undisturbed run.\n{difference_text}")


def _task_list(places: set[int], expected: RunResult) -> str:
    return ", ".join(f"task {place} ({expected.names[place]})" for place in sorted(places))


def _differences(expected: RunResult, result: RunResult, resumed: TrialOutcome | None = None) -> str:
    """Which tasks returned something else, a line each."""
    if expected.names != result.names:
        return f"the steps were {expected.names}, and are {result.names} now"
    lines = []
    for place, values in enumerate(zip(expected.values, result.values, strict=True)):
        difference_text = difference(*values, moments=False)
        if difference_text:
            line = f"task {place} ({expected.names[place]}): {difference_text}"
            if resumed is not None:
                line += f". {DETERMINISTIC if place in resumed.began else f'It was restored from {result.storage}.'}"
            lines.append(line)
    return "\n".join(lines)
