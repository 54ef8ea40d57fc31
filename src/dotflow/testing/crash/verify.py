"""verify: which trials are run, and what has to be true of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dotflow.core.text import shorten
from dotflow.testing.contracts.equality import difference
from dotflow.testing.crash.harness import Harness, TrialOutcome
from dotflow.testing.crash.kill_points import AFTER, BEFORE
from dotflow.testing.crash.ledger import Findings, Ledger, Name
from dotflow.testing.crash.trial import RunResult, TrialOptions

DETERMINISTIC: Final = (
    "To be compared, a step has to return the same in every run: no random numbers without a seed, no clock, no ids, "
    "nothing that an earlier run left behind."
)

MAX_ITEMS: Final = 10  # items of one task that a message names

AFTER_UNDISTURBED: Final = "Resumed after an undisturbed run"

#: Runs in which a kill point may be reached: with parallel tasks it may depend on which one is first.
MAX_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """How often a workflow was killed and resumed.

    Attributes:
        crashes: How often it was killed.
        boundaries: How many of these kills were between two operations, not inside of one.
        resumes: How often it was resumed afterwards.
        reruns: How many steps ran again in total, because they had no checkpoint that counts.
        missed: How many kill points were not reached again, because the run took another way.
    """

    crashes: int
    boundaries: int
    resumes: int
    reruns: int
    missed: int

    def __str__(self) -> str:
        missed = f"; {self.missed} kill points were not reached again" if self.missed else ""
        return (
            f"survived {self.crashes} crashes, {self.boundaries} between two operations and "
            f"{self.crashes - self.boundaries} inside of writes; in {self.resumes} resumes {self.reruns} "
            f"steps ran again, none of which had a checkpoint that counts{missed}"
        )


def verify(harness: Harness) -> CrashReport:
    """Kills and resumes the harness's pipeline at every kill point.

    Raises AssertionError at the first thing that is not as promised.
    """
    ledger = Ledger()
    first = harness.run(TrialOptions())
    expected = _completed(first, "An undisturbed run")
    posted = ledger.follow(first.operations).posted
    harness.preload(expected.modules)
    options = TrialOptions(workflow_id=expected.workflow_id)
    resume = options._replace(resume=True)
    _check_stored(posted, harness.run(resume), expected, ledger)
    repeated = harness.run(options)
    second = _completed(repeated, "A second undisturbed run")
    ledger.follow(repeated.operations)
    differences = _differences(expected, second)
    if differences:
        raise AssertionError(f"Two undisturbed runs differ:\n{differences}\n{DETERMINISTIC}")
    crashes = boundaries = reruns = missed = 0
    for point in second.kill_points:
        crash = _crash(harness, options._replace(kill_at=point), ledger)
        if crash is None:
            missed += 1
            continue
        resumed = harness.run(resume)
        trial = f"Killed {point}, then resumed"
        _check_findings(ledger.follow(resumed.operations), resumed, _completed(resumed, trial), expected, trial)
        crashes += 1
        boundaries += point.number in (BEFORE, AFTER)
        reruns += len(crash.began & resumed.began)
    return CrashReport(crashes=crashes, boundaries=boundaries, resumes=crashes, reruns=reruns, missed=missed)


def _crash(harness: Harness, options: TrialOptions, ledger: Ledger) -> TrialOutcome | None:
    """Returns a trial that was killed at its kill point; None if it does not get there again."""
    for _ in range(MAX_TRIES):
        outcome = harness.run(options)
        ledger.follow(outcome.operations)
        if outcome.killed:
            return outcome
        _completed(outcome, f"A run that was to be killed {options.kill_at}")
    return None


def _completed(outcome: TrialOutcome, trial: str) -> RunResult:
    """Returns the result of a run that has to complete."""
    result = outcome.result
    if result is None:
        raise AssertionError(f"{trial} {outcome.error or 'was killed from outside'}")
    if result.incomplete:
        raise AssertionError(f"{trial} did not complete all tasks:\n" + "\n".join(result.incomplete))
    return result


def _check_stored(posted: set[Name], resumed: TrialOutcome, expected: RunResult, ledger: Ledger) -> None:
    """Checks that another process finds what an undisturbed run has posted."""
    storage = expected.storage
    if expected.is_saved and not posted:
        raise AssertionError(
            f"An undisturbed run posted nothing to the storage ({storage}). If build_workflow takes the storage, it "
            f"has to put it into the workflow's Config: DotFlow(Config(storage=storage))."
        )
    result = _completed(resumed, AFTER_UNDISTURBED)
    findings = ledger.follow(resumed.operations)
    if posted and posted <= findings.lost:
        raise AssertionError(
            f"{storage} keeps nothing beyond its process: another process, which resumed the workflow after an "
            f"undisturbed run, found none of its {len(posted)} checkpoints. Use a storage that does, such as "
            f"StorageFile, and open the same path or address in every process."
        )
    _check_findings(findings, resumed, result, expected, AFTER_UNDISTURBED)


def _check_findings(
    findings: Findings, resumed: TrialOutcome, result: RunResult, expected: RunResult, trial: str
) -> None:
    """Checks that a resumed run has the result that is expected, and ran again what was not finished, no more.

    Args:
        findings: What the run found in the storage.
        resumed: The resumed run.
        result: Its result.
        expected: The result of an undisturbed run.
        trial: What was done, for readers.
    """
    storage = result.storage
    if findings.lost:
        raise AssertionError(
            f"{trial}: {_list(findings.lost, expected)} was not found, though post() had returned. {storage} lost the "
            f"checkpoint, or get() and contains() don't find it."
        )
    if findings.stale:
        raise AssertionError(
            f"{trial}: {_list(findings.stale, expected)} was found, though start() had deleted the checkpoint and no "
            f"new one was written. {storage} still had it after delete() or clear() had returned."
        )
    if findings.altered:
        raise AssertionError(
            f"{trial}: {_list(findings.altered, expected)} was found, but not as the last post() saved it. {storage} "
            f"returned an older checkpoint, or changed its inputs."
        )
    again = findings.valid & resumed.began
    if again:
        raise AssertionError(
            f"{trial}: {_list(again, expected)} ran again, though {storage} had the checkpoint and the run did not "
            f"delete it. That is an error of dotflow: please report it."
        )
    differences = _differences(expected, result, resumed)
    if differences:
        raise AssertionError(f"{trial}: the result differs from that of an undisturbed run.\n{differences}")


def _list(names: set[Name], expected: RunResult) -> str:
    """Returns the names of tasks, of the items of each mapped task, and of other values."""
    steps = {name for name in names if not isinstance(name, str)}
    parts = []
    for task_id in sorted({task_id for task_id, _ in steps}):
        items = sorted(item for step, item in steps if step == task_id and item is not None)
        some = ", ".join(map(str, items[:MAX_ITEMS])) + (", ..." if len(items) > MAX_ITEMS else "")
        name = f"task {task_id} ({expected.names[task_id]})"
        parts.append(f"{'items' if len(items) > 1 else 'item'} {some} of {name}" if items else name)
    parts += [f"the value under the key {name!r}" for name in sorted(name for name in names if isinstance(name, str))]
    return ", ".join(parts)


def _differences(expected: RunResult, result: RunResult, resumed: TrialOutcome | None = None) -> str:
    """Returns a line for each task that returned another value."""
    if expected.names != result.names:
        return f"the steps were {expected.names}, and are {result.names} now"
    lines = []
    for task_id, statuses in enumerate(zip(expected.statuses, result.statuses, strict=True)):
        if statuses[0] != statuses[1] and task_id not in result.left_out:
            name = f"task {task_id} ({expected.names[task_id]})"
            lines.append(f"{name}: expected {shorten(repr(statuses[0]))}, came {shorten(repr(statuses[1]))}")
    for task_id, values in enumerate(zip(expected.values, result.values, strict=True)):
        if task_id in result.left_out:
            continue
        text = difference(*values, moments=False) or _changed_file(expected.files[task_id], result.files[task_id])
        if text and resumed is not None:
            has_run = any(step[0] == task_id for step in resumed.began)
            text += f". {DETERMINISTIC if has_run else f'It was restored from {result.storage}.'}"
        if text:
            lines.append(f"task {task_id} ({expected.names[task_id]}): {text}")
    return "\n".join(lines)


def _changed_file(expected: Mapping[str, str], files: Mapping[str, str]) -> str:
    """Returns the first file in a value that has another content than expected, or is gone."""
    for path, digest in expected.items():
        if files.get(path) != digest:
            return f"the file {path} has another content" if files.get(path) else f"the file {path} is gone"
    return ""
