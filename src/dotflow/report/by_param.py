"""The runs of a workflow by a run parameter: which days have completed or failed, and which are missing."""

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

from dotflow.core.text import shorten
from dotflow.core.types.run_state import TypeRunState
from dotflow.graph.params import value_text
from dotflow.records.record import RunSummary
from dotflow.report.next_steps import params_in

MAX_DAYS: Final = 800  # days of a calendar, the last ones

#: States by what a reader has to know first: of several runs of a value, the first of these counts.
ORDER: Final = (
    TypeRunState.FAILED,
    TypeRunState.CRASHED,
    TypeRunState.UNKNOWN,
    TypeRunState.CANCELLED,
    TypeRunState.INTERRUPTED,
    TypeRunState.PAUSED,
    TypeRunState.RUNNING,
    TypeRunState.QUEUED,
    TypeRunState.COMPLETED,
)
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class ParamValue(NamedTuple):
    """A value of a run parameter.

    Attributes:
        value: The value as text: a date as 2026-11-25.
        run: The newest run of the value; None for a day that is missing. Where other parameters differ, the newest runs
            of all of them are looked at, and this is the one that needs a reader most.
        names: How many combinations of parameters have the value.
    """

    value: str
    run: RunSummary | None = None
    names: int = 0

    @property
    def state(self) -> TypeRunState | None:
        """The state of the run; None for a day that is missing."""
        return None if self.run is None else self.run.state


class ByParam(NamedTuple):
    """A run parameter with its values: if all are days, each day from the first one to the last one, today's and later
    ones only with a run.

    Attributes:
        param: The name of the parameter.
        is_days: Whether all values are days.
        values: The values in their order.
        left_out: The number of earlier days that have runs.
    """

    param: str
    is_days: bool
    values: Sequence[ParamValue]
    left_out: int = 0


def params_of(runs: Iterable[RunSummary]) -> list[str]:
    """Returns the names of the parameters that runs have, in the order of the newest run."""
    return list(dict.fromkeys(name for run in runs for name in param_texts(run)))


def by_param(runs: Iterable[RunSummary], param: str, today: date, since: datetime | None = None) -> ByParam:
    """Returns the values that runs of a workflow have of a parameter.

    Args:
        runs: The runs, the newest first.
        param: The name of the parameter.
        today: The day of the reader: earlier days without a run are missing.
        since: The day from which days up to yesterday are shown; of other values those with a run since then.
    """
    newest: dict[str, RunSummary] = {}
    for run in runs:
        newest.setdefault(run.workflow_id, run)
    found: dict[str, list[RunSummary]] = {}
    for run in newest.values():
        text = param_texts(run).get(param)
        if text is not None:
            found.setdefault(text, []).append(run)
    values = {
        text: ParamValue(text, min(of_value, key=lambda run: ORDER.index(run.state)), len(of_value))
        for text, of_value in found.items()
    }
    days = {day: values[text] for text in values if (day := _day(text)) is not None}
    if values and len(days) == len(values):
        return _calendar(param, days, today, None if since is None else since.astimezone().date())
    shown = [value for text, value in values.items() if since is None or found[text][0].began >= since]
    return ByParam(param, False, sorted(shown, key=_number_or_text))


def value_object(value: ParamValue) -> dict[str, Any]:
    """Returns a value as a JSON object."""
    run = value.run
    return {
        "value": shorten(value.value),
        "state": value.state,
        "run_id": run and run.run_id,
        "workflow_id": run and run.workflow_id,
        "error": run.error if run else "",
        "names": value.names,
    }


def day_ranges(days: Iterable[str]) -> list[str]:
    """Returns days as `dotflow backfill` takes them: 2026-11-03, 2026-11-07..2026-11-09."""
    ranges: list[list[date]] = []
    for day in map(date.fromisoformat, days):
        if ranges and day - ranges[-1][-1] == timedelta(1):
            ranges[-1][1:] = [day]
        else:
            ranges.append([day])
    return ["..".join(map(str, one)) for one in ranges]


def _calendar(param: str, days: dict[date, ParamValue], today: date, since: date | None) -> ByParam:
    last = max(*days, date.min if since is None else today - timedelta(1))
    earliest = date.fromordinal(max(1, last.toordinal() - MAX_DAYS + 1))
    start = max(earliest, since or earliest, min(days))
    shown = [day for day in days if day >= start]
    first = start if since is not None else min(shown, default=start)
    every = (first + timedelta(number) for number in range((last - first).days + 1))
    values = [days.get(day, ParamValue(str(day))) for day in every if day in days or day < today]
    return ByParam(param, True, values, len(days) - len(shown))


def param_texts(run: RunSummary) -> dict[str, str]:
    """Returns the parameters of a run by name, as texts. What the history does not have is in the id."""
    texts = params_in(run.workflow_id)
    for name, value in (run.params or {}).items():
        texts.pop(name, None)
        if value is not None:
            texts[name] = value_text(value)
    return texts


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None


def _number_or_text(value: ParamValue) -> tuple[bool, float, str]:
    try:
        return False, float(value.value), value.value
    except ValueError:
        return True, 0.0, value.value
