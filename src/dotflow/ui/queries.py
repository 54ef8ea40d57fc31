"""What each path under `/api/` returns. docs/how-to/runs-in-a-browser.md describes it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from dotflow import clock
from dotflow.abc.archive import Archive, Since, TaskState
from dotflow.core.durations import to_seconds
from dotflow.errors import InvalidArgument
from dotflow.records.record import OutputKey, RunRecord
from dotflow.report.differences import differences
from dotflow.report.document import document, moment, run_object
from dotflow.report.next_steps import command_objects
from dotflow.report.output import left_out, output_objects, share_out

Query = Mapping[str, str]

DEFAULT_RUNS: Final = 50  # in a list
MAX_RUNS: Final = 500
RECENT: Final = 20  # runs of a workflow whose durations are shown
MAX_SHOWN: Final = 12  # workflows with durations
GRID: Final = 30  # runs of a workflow
MAX_TAIL: Final = 1_000_000  # bytes of output in one response


def list_runs(archive: Archive, query: Query) -> dict[str, Any]:
    """Returns runs, the newest first, and the durations of the last runs of workflows."""
    about = {"made": moment(clock.now()), "history": str(getattr(archive, "path", ""))}
    limit = min(max(1, _number(query, "limit", DEFAULT_RUNS)), MAX_RUNS)
    states = sorted({*query.get("state", "").split(",")} - {""})
    runs = archive.runs(
        state=states or None,
        workflow=query.get("workflow") or None,
        since=_since(query.get("since", "")),
        before=_moment("before", query["before"]) if query.get("before") else None,
        search=query.get("search", ""),
        limit=limit + 1,
    )
    has_more = len(runs) > limit
    runs = runs[:-1] if has_more else runs
    workflows = archive.workflows()
    base = query.get("workflow", "").partition("@")[0]
    shown = [base] if base in workflows else workflows[:MAX_SHOWN]
    recent = archive.recent(shown, RECENT)
    return {
        **about,
        "runs": [run_object(run) for run in runs],
        "has_more": has_more,
        "workflows": workflows,
        "durations": {
            workflow: [[run.run_id, run.state, run.duration] for run in reversed(latest)]
            for workflow, latest in recent.items()
            if latest  # they may be forgotten by now
        },
    }


def show_run(archive: Archive, query: Query, option: str | None) -> dict[str, Any]:
    """Returns the document of a run; of its output only whose it is, and how much.

    *option* is the value of --history in the commands.
    """
    run = archive.load(query["run"])
    commands = command_objects(archive, run, option)
    return document(run, output=_output_members(archive, run), commands=commands)


def show_output(archive: Archive, query: Query) -> dict[str, Any]:
    """Returns the output of an attempt, or the parts after a `seq`; of more than MAX_TAIL bytes the end."""
    run = archive.summary(query["run"])
    item = _number(query, "item", -1)
    key = OutputKey(_number(query, "task", -1), None if item < 0 else item, _number(query, "attempt", 1))
    after = _number(query, "after", -1)
    size = archive.output_sizes(run.run_id).get(key, 0)
    chunks = archive.output_tails(run.run_id, {key: MAX_TAIL}) if size else []
    new = [chunk for chunk in chunks if chunk.seq > after]
    return {
        "output": output_objects(run, new, {key: size}),
        "last": max((chunk.seq for chunk in chunks), default=after),
    }


def show_workflow(archive: Archive, query: Query) -> dict[str, Any]:
    """Returns the last runs of a workflow, the oldest first, and the states of their tasks."""
    runs = archive.runs(workflow=_required(query, "id"), limit=GRID)[::-1]
    columns = [_by_name(tasks) for tasks in archive.task_states([run.run_id for run in runs])]
    names = dict.fromkeys(name for tasks in reversed(columns) for name in tasks)  # in the order of the last run
    return {
        "workflow_id": query["id"],
        "runs": [run_object(run) for run in runs],
        "tasks": [{"name": name, "cells": [_cell(tasks.get(name)) for tasks in columns]} for name in names],
    }


def show_differences(archive: Archive, query: Query) -> dict[str, Any]:
    """Returns two runs and what differs between them."""
    before, after = archive.load(_required(query, "a")), archive.load(_required(query, "b"))
    found = differences(archive, before, after)
    return {
        "before": run_object(before),
        "after": run_object(after),
        "differences": [difference._asdict() for difference in found],
    }


def _output_members(archive: Archive, run: RunRecord) -> dict[str, Any]:
    sizes = archive.output_sizes(run.run_id)
    shares = share_out(run, sizes)
    entries = [{**key._asdict(), "size": sizes[key], "left_out": sizes[key], "parts": []} for key in shares]
    return {"output": entries, "output_left_out": left_out(sizes, shares)}


def _by_name(tasks: Sequence[TaskState]) -> dict[str, TaskState]:
    """Returns tasks by their names; one that several have gets their numbers."""
    counts = Counter(task.name for task in tasks)
    return {task.name if counts[task.name] == 1 else f"{task.name} ({task.task_id})": task for task in tasks}


def _cell(task: TaskState | None) -> list[Any] | None:
    return None if task is None else [task.state, task.duration]


def _number(query: Query, name: str, default: int) -> int:
    text = query.get(name) or str(default)
    if not text.removeprefix("-").isdecimal() or len(text) > len(str(2**31)):
        raise InvalidArgument(name, text, "a number with up to ten digits")
    return int(text)


def _required(query: Query, name: str) -> str:
    if not query.get(name):
        raise InvalidArgument(name, query.get(name), f"a text: ?{name}=...")
    return query[name]


def _since(text: str) -> Since | None:
    """Returns an age such as "2d" as it is, and a date or a time as a moment."""
    return (text if to_seconds(text) is not None else _moment("since", text)) if text else None


def _moment(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone() if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        age = ", or an age such as 2d" if name == "since" else ""
        raise InvalidArgument(name, text, f"a moment such as 2026-11-25T02:00:00Z{age}") from None
