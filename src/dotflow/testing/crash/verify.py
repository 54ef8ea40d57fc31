"""verify: which trials are run, and what has to be true of each."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dotflow.core.text import shorten
from dotflow.testing.contracts.equality import difference
from dotflow.testing.crash.harness import Harness, TrialOutcome
from dotflow.testing.crash.kill_points import AFTER, BEFORE
from dotflow.testing.crash.ledger import Findings, Ledger, Name, SavedCall
from dotflow.testing.crash.trial import RunResult, TrialOptions

DETERMINISTIC: Final = (
    "To be compared, a step has to return the same in every run: no random numbers without a seed, no clock, no ids, "
    "nothing that an earlier run left behind."
)

CURE: Final = "Make it a call: an @action whose value is kept."
VARIES: Final = "What the calls of a durable step depend on has to be a call, too: a clock, a random number, an id."

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
        note: The first call of a durable step that was another one in a second undisturbed run, and why that matters;
            empty without one.
    """

    crashes: int
    boundaries: int
    resumes: int
    reruns: int
    missed: int
    note: str = ""

    def __str__(self) -> str:
        missed = f"; {self.missed} kill points were not reached again" if self.missed else ""
        return (
            f"survived {self.crashes} crashes, {self.boundaries} between two operations and "
            f"{self.crashes - self.boundaries} inside of writes; in {self.resumes} resumes {self.reruns} "
            f"steps ran again, none of which had a checkpoint that counts{missed}{self.note and f'. {self.note}'}"
        )


def verify(harness: Harness) -> CrashReport:
    """Kills and resumes the harness's pipeline at every kill point.

    Raises AssertionError at the first thing that is not as promised.
    """
    ledger = Ledger()
    first = harness.run(TrialOptions())
    expected = _completed(first, "An undisturbed run")
    posted = ledger.follow(first.operations, is_new=True).posted
    first_calls = ledger.calls
    harness.preload(expected.modules)
    options = TrialOptions(workflow_id=expected.workflow_id)
    resume = options._replace(resume=True)
    _check_stored(posted, harness.run(resume), expected, ledger)
    repeated = harness.run(options)
    second = _completed(repeated, "A second undisturbed run")
    ledger.follow(repeated.operations, is_new=True)
    calls = ledger.calls
    note = _changed_call(first_calls, calls)
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
        result = _completed(resumed, trial)
        _check_findings(ledger.follow(resumed.operations), resumed, result, expected, trial)
        _check_orphans(calls, ledger.calls, trial, note)
        crashes += 1
        boundaries += point.number in (BEFORE, AFTER)
        reruns += len(crash.began & resumed.began)
    return CrashReport(crashes=crashes, boundaries=boundaries, resumes=crashes, reruns=reruns, missed=missed, note=note)


def _crash(harness: Harness, options: TrialOptions, ledger: Ledger) -> TrialOutcome | None:
    """Returns a trial that was killed at its kill point; None if it does not get there again."""
    for _ in range(MAX_TRIES):
        outcome = harness.run(options)
        ledger.follow(outcome.operations, is_new=True)
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

    def named(names: set[Name]) -> str:
        return _list(names, expected, findings.labels)

    if findings.lost:
        raise AssertionError(
            f"{trial}: {named(findings.lost)} was not found, though post() had returned. {storage} lost the "
            f"checkpoint, or get() and contains() don't find it."
        )
    if findings.stale:
        raise AssertionError(
            f"{trial}: {named(findings.stale)} was found, though start() had deleted the checkpoint and no "
            f"new one was written. {storage} still had it after delete() or clear() had returned."
        )
    if findings.altered:
        raise AssertionError(
            f"{trial}: {named(findings.altered)} was found, but not as the last post() saved it. {storage} "
            f"returned an older checkpoint, or changed its inputs."
        )
    again = findings.valid & resumed.began
    if again:
        raise AssertionError(
            f"{trial}: {named(again)} ran again, though {storage} had the checkpoint and the run did not "
            f"delete it. That is an error of dotflow: please report it."
        )
    differences = _differences(expected, result, resumed)
    if differences:
        raise AssertionError(f"{trial}: the result differs from that of an undisturbed run.\n{differences}")


def _changed_call(first: Sequence[SavedCall], second: Sequence[SavedCall]) -> str:
    """Returns which call of an undisturbed run was another one in a second run, and why; empty if none was."""
    only_first = Counter((call.of, call.arguments) for call in first)
    only_second = Counter((call.of, call.arguments) for call in second)
    only_first, only_second = only_first - only_second, only_second - only_first
    before = next((call for call in first if only_first[call.of, call.arguments]), None)
    now = next((call for call in second if only_second[call.of, call.arguments]), None)
    if before is not None:
        now = next((call for call in second if call.of == before.of and only_second[call.of, call.arguments]), None)
    if before is None or now is None:
        made = before or now
        run = "first" if before else "second"
        return "" if made is None else f"{made.label}, {made}, was made in the {run} undisturbed run only. {VARIES}"
    names = [json.loads(call.arguments) if call.arguments else {} for call in (before, now)]
    changed = [repr(name) for name, value in names[0].items() if names[1].get(name) != value]
    argument = f"argument {changed[0]}" if len(changed) == 1 else f"arguments {', '.join(changed)}"
    return (
        f"{before.label[0].upper()}{before.label[1:]} was {before} in one undisturbed run, and {now} in another: its "
        f"{argument} {'comes' if len(changed) == 1 else 'come'} from a clock or at random. {CURE}"
    )


def _check_orphans(expected: Sequence[SavedCall], calls: Sequence[SavedCall], trial: str, note: str) -> None:
    """Checks that after a crash and a resume no call is kept beside those of an undisturbed run."""
    more = Counter(call.of for call in calls) - Counter(call.of for call in expected)
    for of, count in more.items():
        made = [str(call) for call in calls if call.of == of]
        names = ", ".join(made[:MAX_ITEMS]) + (", ..." if len(made) > MAX_ITEMS else "")
        raise AssertionError(
            f"{trial}: {of[0]} has made {count} {'call' if count == 1 else 'calls'} more than an undisturbed run: the "
            f"resume did not ask for what was kept. It made {names}. {note or VARIES}"
        )


def _list(names: set[Name], expected: RunResult, labels: Mapping[str, str]) -> str:
    """Returns the names of tasks, of the items of each mapped task, of calls, and of other values."""
    steps = {name for name in names if not isinstance(name, str)}
    parts = []
    for task_id in sorted({task_id for task_id, _ in steps}):
        items = sorted(item for step, item in steps if step == task_id and item is not None)
        some = ", ".join(map(str, items[:MAX_ITEMS])) + (", ..." if len(items) > MAX_ITEMS else "")
        name = f"task {task_id} ({expected.names[task_id]})"
        parts.append(f"{'items' if len(items) > 1 else 'item'} {some} of {name}" if items else name)
    keys = sorted(name for name in names if isinstance(name, str))
    parts += [labels.get(key, f"the value under the key {key!r}") for key in keys]
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
