"""What differs between two runs, as values."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from dotflow.abc.archive import Archive, TaskState
from dotflow.records.record import RunRecord, TaskRecord, last_notes

AnyTask = TypeVar("AnyTask", TaskRecord, TaskState)

#: Kinds of differences that say nothing of the result.
MEASURES: Final = ("duration", "cpu", "memory")
RATIO: Final = 1.2  # of two measured numbers that differ
#: Measured kind -> the field of a task, and the difference that counts at the least: seconds, or bytes.
MEASURED: Final = {"duration": ("duration", 0.05), "cpu": ("cpu", 0.05), "memory": ("peak", 5_000_000)}
MAX_CALLS: Final = 1000  # of a task in a run: as many as are kept of an attempt
CODE: Final = 12  # characters of a fingerprint


class Difference(NamedTuple):
    """One difference. `before` and `after` are None where there is nothing.

    Attributes:
        kind: "run", "environment", "package", "task", "code", "state", "items", "error", "note", "value", "call", or
            one of MEASURES. A call is named by its step, its action and its arguments; equal ones have a number.
        name: The task, the package or the field.
        before, after: What it is in the two runs.
    """

    kind: str
    name: str
    before: Any
    after: Any


def differences(archive: Archive, before: RunRecord, after: RunRecord) -> Iterator[Difference]:
    """Yields what differs between two runs: the run, its environment, and then its tasks."""
    yield from _compare("run", _run_facts(before), _run_facts(after))
    first, second = dict(before.environment), dict(after.environment)
    packages = first.pop("packages", {}), second.pop("packages", {})
    yield from _compare("environment", first, second)
    yield from _compare("package", *packages)
    old, new = by_name(before.steps), by_name(after.steps)
    yield from _compare("task", *({name: task.identity for name, task in tasks.items()} for tasks in (old, new)))
    common = [name for name in old if name in new]
    for kind, fact in FACTS.items():
        yield from _compare(kind, *({name: fact(tasks[name]) for name in common} for tasks in (old, new)))
    yield from _compare("note", _notes(old, common), _notes(new, common))
    values = [_values(archive, run, tasks, common) for run, tasks in ((before, old), (after, new))]
    yield from _once(list(_compare("value", *values)), common)
    yield from _compare("call", *(_calls(archive, run, tasks, common) for run, tasks in ((before, old), (after, new))))
    for kind, (field, least) in MEASURED.items():
        for name in common:
            numbers = getattr(old[name], field), getattr(new[name], field)
            if _is_apart(*numbers, least):
                yield Difference(kind, name, *numbers)


def _run_facts(run: RunRecord) -> Mapping[str, Any]:
    names = ("workflow", "mode", "resumed", "storage", "state", "reason")
    return {name: getattr(run, name) for name in names}


def by_name(tasks: Sequence[AnyTask]) -> dict[str, AnyTask]:
    """Returns tasks by their names; one that several have gets their numbers."""
    counts = Counter(task.name for task in tasks)
    return {task.name if counts[task.name] == 1 else f"{task.name} ({task.task_id})": task for task in tasks}


def _values(archive: Archive, run: RunRecord, tasks: Mapping[str, TaskRecord], names: Sequence[str]) -> dict[str, str]:
    """Returns the digests of the values that tasks took and returned; without one, a preview of what one returned."""
    digests: dict[int, dict[str, str]] = defaultdict(dict)
    for copy in archive.copies(run.run_id, documents=False):
        if copy.item is None and copy.digest:
            digests[copy.task_id][copy.role] = copy.digest
    values: dict[str, str] = {}
    for name in names:
        last = tasks[name].last
        roles = {"returned": last.glimpse if last else ""} | digests[tasks[name].task_id]
        values.update((name if role == "returned" else f"{name} {role}", text) for role, text in roles.items())
    return values


def _calls(archive: Archive, run: RunRecord, tasks: Mapping[str, TaskRecord], names: Sequence[str]) -> dict[str, str]:
    """Returns what became of the calls of durable steps, those that earlier runs of the chain have made included."""
    before = run.chain[: run.chain.index(run.run_id) + 1] if run.chain else (run.run_id,)
    pages = [archive.all_calls(run_id, MAX_CALLS) for run_id in before]
    found: dict[str, str] = {}
    for name in names:
        key = tasks[name].task_id, None
        calls = {call.number: call for page in pages if key in page for call in page[key].calls}  # a later one counts
        counts = Counter[str]()
        for _, call in sorted(calls.items()):
            counts[call.shown] += 1
            nth = f" ({counts[call.shown]})" if counts[call.shown] > 1 else ""
            end = f"{call.exception}: {call.message}".rstrip(": ") or call.glimpse
            found[f"{name} {call.shown}{nth}"] = end or str(call.state).lower()
    return found


def _notes(tasks: Mapping[str, TaskRecord], names: Sequence[str]) -> dict[str, Any]:
    """Returns what tasks have noted, by task and note; not that of items, of which there may be many."""
    return {f"{name} {note}": value for name in names for note, value in last_notes(tasks[name].attempts).items()}


def _once(found: Sequence[Difference], returned: Sequence[str]) -> Iterator[Difference]:
    """Yields differences of values without the inputs of which the same difference is there already, by *returned*."""
    seen = {(difference.before, difference.after) for difference in found if difference.name in returned}
    for difference in found:
        pair = difference.before, difference.after
        if difference.name in returned or pair not in seen:
            yield difference
        seen.add(pair)


def _items(task: TaskRecord) -> str | None:
    counts = ", ".join(f"{count} {state.lower()}" for state, count in sorted(task.counts.items()))
    return None if task.count is None else f"{task.items_text}: {counts}"


FACTS: Final[Mapping[str, Callable[[TaskRecord], Any]]] = {
    "code": lambda task: task.code or None,
    "state": lambda task: task.state,
    "items": _items,
    "error": lambda task: (
        f"{task.last.errors[-1].exception}: {task.last.errors[-1].message}" if task.last and task.last.errors else None
    ),
}


def _compare(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield Difference(kind, name, before.get(name), after.get(name))


def _is_apart(before: float | None, after: float | None, least: float) -> bool:
    if before is None or after is None:
        return False
    return abs(before - after) > least and max(before, after) > RATIO * min(before, after)
