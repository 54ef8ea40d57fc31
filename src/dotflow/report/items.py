"""The items of a map in a document: columns with a value for each item, and the items that are shown in full."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from dotflow.records.record import BAD, AttemptRecord, RunRecord, TaskRecord, duration_of

MAX_DETAILS: Final = 500  # items of a run with their attempts
MB: Final = 1e6


def items_object(run: RunRecord, task: TaskRecord) -> dict[str, Any] | None:
    """Returns the items of a map as columns; None for every other task.

    A column has a value for each item from 0 to the last one that has begun; None for one that has not. A column is
    None if it has no values. Numbers are short: a document with 100,000 items has some 2 MB.
    """
    if task.count is None:
        return None
    rows = [_row(run, task.items.get(item, ())) for item in range(max(task.items, default=-1) + 1)]
    states, attempts, *others = zip(*rows, strict=True) if rows else ((),) * 6
    names = list(dict.fromkeys(filter(None, states)))
    numbers: dict[str | None, int | None] = {name: number for number, name in enumerate(names)} | {None: None}
    columns = dict(zip(("began", "duration", "cpu", "peak_mb"), others, strict=True))
    return {
        "states": names,
        "state": [numbers[state] for state in states],
        "attempts": None if all(count == 1 for count in attempts) else list(attempts),
        **{
            name: list(column) if any(value is not None for value in column) else None
            for name, column in columns.items()
        },
    }


def listed_items(tasks: Sequence[TaskRecord]) -> dict[int, list[int]]:
    """Returns the items of each task that are shown in full: those that failed, then those that were repeated."""
    ends = [(task.task_id, item, attempts) for task in tasks for item, attempts in task.items.items()]
    failed = ((task, item) for task, item, attempts in ends if attempts[-1].state in BAD)
    repeated = ((task, item) for task, item, attempts in ends if len(attempts) > 1 and attempts[-1].state not in BAD)
    items: dict[int, list[int]] = {task.task_id: [] for task in tasks}
    for task_id, item in sorted([*islice(failed, MAX_DETAILS), *islice(repeated, MAX_DETAILS)][:MAX_DETAILS]):
        items[task_id].append(item)
    return items


def _row(run: RunRecord, attempts: Sequence[AttemptRecord]) -> tuple[Any, ...]:
    """Returns the columns of an item: its last state, the number of its attempts, and numbers of all of them."""
    if not attempts:
        return (None, 0, None, None, None, None)
    first, last = attempts[0], attempts[-1]
    began = None if first.began is None else (first.began - run.began).total_seconds()
    times = [attempt.cpu for attempt in attempts if attempt.cpu is not None]
    peak = max((attempt.peak for attempt in attempts if attempt.peak is not None), default=None)
    return (
        last.state,
        last.attempt,
        None if began is None else round(began, 3),
        _short(duration_of(attempts)),
        _short(sum(times)) if times else None,
        _short(None if peak is None else peak / MB),
    )


def _short(number: float | None) -> float | int | None:
    """Returns a number with three digits."""
    if number is None:
        return None
    short = float(f"{number:.3g}")
    return int(short) if short.is_integer() else short
