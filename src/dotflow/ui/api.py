"""The JSON under `/api/`: what the page draws, and polls."""

import functools
import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dotflow import clock
from dotflow.abc.archive import Archive, NotedNumber, Since, TaskState
from dotflow.abc.history import History
from dotflow.control import Control
from dotflow.core.durations import to_seconds
from dotflow.core.failure import name_of
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import DefinitionError, DotflowError, HistoryError, InvalidArgument, NotInHistory, OrderRefused
from dotflow.records.record import OutputKey, RunRecord, RunSummary
from dotflow.report.by_param import by_param, params_of, value_object
from dotflow.report.differences import by_name, differences
from dotflow.report.document import (
    call_object,
    document,
    left_out,
    load_newest,
    moment,
    output_objects,
    question_object,
    run_object,
    share_out,
    to_json,
)
from dotflow.ui.actions import Actions
from dotflow.ui.overview import overview

Query = Mapping[str, str]

DEFAULT_RUNS: Final = 50  # in a list
MAX_RUNS: Final = 500
RECENT: Final = 20  # runs of a workflow whose durations are shown
MAX_SHOWN: Final = 12  # workflows with durations
GRID: Final = 30  # runs of a workflow
BY_PARAM: Final = 1000  # runs of a workflow whose parameters are looked at
MAX_VALUES: Final = 100  # values of a parameter that are no days
LOOK: Final = 10  # seconds after which the list is read again where nothing has changed
MAX_WAITING: Final = 20  # questions that a response has
DEFAULT_CALLS: Final = 50  # of a durable step in one response
MAX_CALLS: Final = 500
MAX_TAIL: Final = 1_000_000  # bytes of output in one response


def list_runs(archive: Archive, query: Query) -> dict[str, Any]:
    """Returns runs, the newest first, and the durations of the last runs of workflows."""
    about: dict[str, Any] = {"made": moment(clock.now()), "history": str(getattr(archive, "path", ""))}
    limit = min(max(1, _number(query, "limit", DEFAULT_RUNS)), MAX_RUNS)
    states = sorted({*query.get("state", "").split(",")} - {""})
    if query.get("overview"):
        states = states or sorted({*TypeRunState} - {TypeRunState.QUEUED})
        about |= overview(archive)
    find = functools.partial(
        archive.runs,
        state=states or None,
        workflow=query.get("workflow") or None,
        since=_since(query.get("since", "")),
        before=_moment("before", query["before"]) if query.get("before") else None,
        search=query.get("search", ""),
        newest=True,
    )
    runs, has_more = _page(find, limit)
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


def _page(find: Callable[..., list[RunSummary]], limit: int) -> tuple[list[RunSummary], bool]:
    """Returns runs, and whether there are more. Those of one moment are on one page, since `before` is a moment."""
    count = limit + 1
    while len(runs := find(limit=count)) == count and runs[-1].began == runs[limit - 1].began:
        count *= 2
    page = [run for index, run in enumerate(runs) if index < limit or run.began == runs[limit - 1].began]
    return page, len(page) < len(runs)


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


def show_calls(archive: Archive, query: Query) -> dict[str, Any]:
    """Returns calls of a durable step with smaller numbers than `before`, the last ones."""
    run = archive.summary(query["run"])
    item, before = _number(query, "item", -1), _number(query, "before", 2**31 - 1)
    step = f"{_number(query, 'task', -1)}{'' if item < 0 else f'#{item}'}"
    limit = min(max(1, _number(query, "limit", DEFAULT_CALLS)), MAX_CALLS)
    page = archive.calls(run.run_id, step, before=before, limit=limit)
    return {"total": page.total, "calls": [call_object(run, call) for call in page.calls]}


def _notes(columns: Sequence[Mapping[str, TaskState]], noted: Sequence[Sequence[NotedNumber]]) -> list[dict[str, Any]]:
    """Returns the numbers that tasks have noted, each with its value in each run."""
    nothing: list[float | None] = [None] * len(columns)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for index, (tasks, numbers) in enumerate(zip(columns, noted, strict=True)):
        names = {task.task_id: name for name, task in tasks.items()}
        for task_id, name, items, number in numbers:
            task = names.get(task_id, str(task_id))
            new = {"task": task, "name": name, "of_items": False, "values": nothing.copy()}
            row = found.setdefault((task, name), new)
            row["values"][index] = number
            row["of_items"] |= items > 1
    return list(found.values())


def _params(runs: Sequence[RunSummary]) -> Iterator[dict[str, Any]]:
    """Yields the parameters by which runs differ; of values that are no days, those not completed first."""
    for name in params_of(runs):
        found = by_param(runs, name, clock.now().astimezone().date())
        values, left_out = found.values, found.left_out
        if not found.is_days:
            values = sorted(values, key=lambda value: value.state is TypeRunState.COMPLETED)[:MAX_VALUES]
            left_out = len(found.values) - len(values)
        if found.is_days or len(values) > 1:
            objects = [value_object(value) for value in values]
            yield {"param": name, "is_days": found.is_days, "values": objects, "left_out": left_out}


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
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        age = ", or an age such as 2d" if name == "since" else ""
        raise InvalidArgument(name, text, f"a moment such as 2026-11-25T02:00:00Z{age}") from None


Find = Callable[[Archive, Query], dict[str, Any]]

#: The error -> the status of the response, which has its words.
STATUSES: Final[Mapping[type[Exception], int]] = {
    NotInHistory: 404,
    OrderRefused: 409,
    DefinitionError: 400,
    HistoryError: 503,
    Exception: 500,  # which the server logs, too
}

MADE: Final = "made"  # the only member that differs where nothing has changed


class Api:
    """The responses about a history.

    The tag of a response is the revision of the history and a digest of what it says. With the same revision, nothing
    is read; with the same digest, nothing is sent.

    Args:
        archive: The history.
        option: The value of --history in the commands on the page; None where they need none.
        actions: What the buttons do; None for pages that only read.
    """

    def __init__(self, archive: Archive, option: str | None, actions: Actions | None = None) -> None:
        self._archive = archive
        self._actions = actions
        self._option = option
        self._control: Control | None = None
        if isinstance(archive, History) and archive.operations() is not None:
            self._control = Control(archive)
        self._nonce = secrets.token_hex(4)  # a revision counts for this process only
        self._late_at: datetime | None = None  # when the time of a question is up next
        self._late = 0  # how often that has changed the pages

    def routes(self) -> list[Route]:
        """Returns the routes."""
        finds: dict[str, Find] = {
            "runs": list_runs,
            "runs/{run}": self._show_run,
            "runs/{run}/output": show_output,
            "runs/{run}/calls": show_calls,
            "workflow": self._show_workflow,
            "diff": show_differences,
        }
        return [
            *(Route(f"/api/{path}", self._endpoint(find)) for path, find in finds.items()),
            Route("/api/me", self._me),
        ]

    def _show_run(self, archive: Archive, query: Query) -> dict[str, Any]:
        """Returns the document of a run; of its output only whose it is, and how much.

        The id of a run stands for the newest one of its chain, unless the query has `this`.
        """
        run = archive.load(query["run"]) if "this" in query else load_newest(archive, query["run"])
        buttons = {} if self._actions is None else {"buttons": self._actions.of_run(run)}
        output = _output_members(archive, run)
        return document(run, output=output, archive=archive, history=self._option) | buttons

    def _show_workflow(self, archive: Archive, query: Query) -> dict[str, Any]:
        """Returns the last runs of a workflow, the oldest first, the states of their tasks, and its days."""
        latest = archive.runs(workflow=_required(query, "id"), limit=BY_PARAM)
        runs = latest[:GRID][::-1]
        ids = [run.run_id for run in runs]
        columns = [by_name(tasks) for tasks in archive.task_states(ids)]
        names = dict.fromkeys(name for tasks in reversed(columns) for name in tasks)  # in the order of the last run
        found = {
            "workflow_id": query["id"],
            "runs": [run_object(run) for run in runs],
            "tasks": [{"name": name, "cells": [_cell(tasks.get(name)) for tasks in columns]} for name in names],
            "notes": _notes(columns, archive.noted_numbers(ids)),
            "params": list(_params(latest)),
        }
        if self._actions is not None and any(run.base == query["id"] for run in runs):
            found["buttons"] = self._actions.of_workflow(query["id"])
        return found

    def _me(self, request: Request) -> Response:
        """Answers who reads the page: by name, if they may give orders."""
        return _json(to_json({"by": None if self._actions is None else self._actions.user_of(request.scope)}))

    def _waiting(self) -> dict[str, Any]:
        """Returns the questions that wait for an answer, which each page shows."""
        found = [] if self._control is None else self._control.questions()
        moments = (self._late_at, *(one.until for one in found))  # its own, too: another thread may have read later
        self._late_at = min((moment for moment in moments if moment is not None), default=None)
        shown = [
            {"run_id": one.run_id, "workflow": one.workflow_id} | question_object(one) for one in found[:MAX_WAITING]
        ]
        return {"waiting": shown, "waiting_count": len(found)}

    def handlers(self) -> Mapping[Any, Callable[[Request, Exception], Response]]:
        """Returns what answers an error, by its type."""

        def handle(request: Request, error: Exception) -> Response:
            status = next(status for kind, status in STATUSES.items() if isinstance(error, kind))
            text = str(error) if isinstance(error, DotflowError) else f"{name_of(type(error))}: {error}"
            return _json(to_json({"error": text}), status)

        return dict.fromkeys(STATUSES, handle)

    def _revision(self, find: Find) -> str | None:
        """Returns the revision of the history, with what the clock alone changes on the pages.

        That is when the time of a question is up; for the list each LOOK, since a firing is late by the clock, too.
        """
        revision, now, late_at = self._archive.revision(), clock.now(), self._late_at
        if late_at is not None and late_at <= now:
            self._late_at = None  # first: after the count, all tags differ, so each page reads the questions again
            self._late += 1
        if revision is None:
            return None
        return f"{revision}-{self._late}" + (f"-{now.timestamp() // LOOK:.0f}" if find is list_runs else "")

    def _endpoint(self, find: Find) -> Callable[[Request], Response]:
        def respond(request: Request) -> Response:  # in a thread
            revision = self._revision(find)  # before the runs are read, so that a change in between is seen
            has_buttons = self._actions is not None and self._actions.user_of(request.scope) is not None
            if revision is not None and has_buttons:
                revision += "-w"  # who only reads has another document
            known = request.headers.get("if-none-match", "")
            same = re.search(f'"{self._nonce}-{re.escape(revision or "")}-[0-9a-f]+"', known)
            if revision is not None and same:
                return Response(status_code=304, headers={"etag": same[0]})
            # Before the run is read, whose questions may be late meanwhile. Output and calls are parts of a page.
            waiting = {} if find in (show_output, show_calls) else self._waiting()
            found = find(self._archive, {**request.query_params, **request.path_params}) | waiting
            if not has_buttons:
                found.pop("buttons", None)
            made = found.pop(MADE, None)
            text = to_json(found)
            digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
            tag = {"etag": f'"{self._nonce}-{revision}-{digest}"'}
            if f'-{digest}"' in known:
                return Response(status_code=304, headers=tag)
            return _json(text if made is None else text.replace("{", f'{{"{MADE}":"{made}",', 1), headers=tag)

        return respond


def _json(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, status, headers, media_type="application/json")
