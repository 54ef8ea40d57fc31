"""The buttons of the pages: what each of them would do, in words, and the POST routes that do it through `Control`."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from dotflow.abc.archive import Archive
from dotflow.abc.history import History
from dotflow.abc.operations import WorkflowPause
from dotflow.control import Control
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import InvalidArgument, NotServable, OrderRefused
from dotflow.graph.params import value_text
from dotflow.records.record import BAD, GOOD, RunRecord, RunSummary, TaskRecord
from dotflow.report.document import to_json
from dotflow.report.next_steps import can_resume, resume_command, serve_command
from dotflow.report.orders import (
    LONG_LOOK,
    PAUSED,
    answer_text,
    order_text,
    pause_text,
    resume_text,
    unpaused_text,
    waiting_text,
)
from dotflow.ui.security import JSON, MAX_BODY, TOO_LONG, Scope

BODY_TIMEOUT: Final = 10.0  # seconds for the whole of an order
MAX_CLICKS: Final = 1000  # submissions that are remembered
MAX_NAMES: Final = 3  # tasks in a text
MAX_QUESTIONS: Final = 10  # with buttons; the next ones get theirs when these have answers
KEPT: Final = "What has completed does not run again, as far as its storage still has it."
ONLY_LOOK: Final = "You may look at the runs, but give them no orders."
#: What a task or item is left with that a resume does not run again.
DONE: Final = (*GOOD, TypeAttemptState.SKIPPED)
FAILED: Final = (*BAD, TypeAttemptState.RETRY)

ORDERS: Final = ("cancel", "pause", "resume", "approve", "reject")  # to a run

Given = Mapping[str, Any]
Button = dict[str, Any]
Field = dict[str, str]

COMMENT: Final[Field] = {"name": "comment", "label": "Comment", "kind": "text", "value": ""}
VALUE: Final[Field] = {"name": "value", "label": "Value as JSON, if the step takes one", "kind": "json", "value": ""}


def run_buttons(
    run: RunRecord, pause: WorkflowPause | None, defaults: Mapping[str, Any], look: float = 0.0
) -> Iterator[Button]:
    """Yields the buttons of the page of a run.

    Args:
        run: The run.
        pause: The pause of its workflow; None where it is not paused.
        defaults: The defaults of the parameters of its workflow.
        look: For how many seconds a resume watches first whether its process has ended.
    """

    def button(
        what: str, label: str, says: str, grey: str = "", fields: Sequence[Field] = (COMMENT,), **sends: Any
    ) -> Button:
        path = f"runs/{quote(run.run_id, safe='')}/{what}"
        return _button(path, label, says, grey, fields, {"state": run.state, **sends})

    questions = run.open_questions
    for question in questions[:MAX_QUESTIONS]:
        asked: dict[str, Any] = {"step": question.step, "nth": question.id.nth}
        which = f" '{question.step}'" if len(questions) > 1 else ""
        runs, fails = ("goes on",) * 2 if question.id.call else ("runs", "fails")
        yes = f"Yes to: {question.text} '{question.step}' {runs} then."
        yield button("approve", f"Approve{which}", yes, fields=(COMMENT, VALUE), **asked)
        no = f"No to: {question.text} '{question.step}' {fails} then."
        yield button("reject", f"Reject{which}", no, **asked)
    ordered = run.ordered and f"It was ordered to {run.ordered}."
    is_newest = run.newest == run.run_id and not run.superseded
    if is_newest and run.state is TypeRunState.RUNNING:
        says = "Its running steps end and are saved, and nothing new begins. Resume goes on with it."
        yield button("pause", "Pause", says, ordered)
    waits_for_answer = run.state is TypeRunState.PAUSED and questions
    can_go_on = can_resume(run) or (not run.is_open and resume_command(run) is not None)
    if is_newest and can_go_on and not waits_for_answer:
        label = "Retry what failed" if run.failures else "Resume"
        first = f" Its process is watched for {look:.0f} s first." if look > LONG_LOOK else ""
        yield button("resume", label, _continued(run) + first, _unserved(run))
    if is_newest and (run.is_open or run.state is TypeRunState.PAUSED):
        says = CANCELS.get(run.state, "It ends as cancelled. Resume can still go on with it.")
        yield button("cancel", "Cancel", says, ordered if run.ordered == "cancel" else "")
    if run.base:
        if run.params is not None:
            yield _submit_button(run, _shown(run, defaults))
        yield workflow_button(run.base, pause)


CANCELS: Final = {
    TypeRunState.QUEUED: "It leaves the queue.",
    TypeRunState.RUNNING: "Its running steps are ended, and nothing new begins. Resume can still go on with it.",
}


def workflow_button(workflow: str, pause: WorkflowPause | None) -> Button:
    """Returns the button that pauses a workflow, or ends its pause."""
    if pause is None:
        return _button(f"workflows/{quote(workflow, safe='')}/pause", "Pause workflow", PAUSED)
    says = f"It is {pause}. Its queued runs begin; scheduled runs that were dropped are not caught up."
    return _button(f"workflows/{quote(workflow, safe='')}/resume", "Resume workflow", says)


def _button(
    path: str,
    label: str,
    says: str,
    grey: str = "",
    fields: Sequence[Field] = (COMMENT,),
    sends: Given | None = None,
) -> Button:
    """Returns a button.

    Args:
        path: The address of its order, below `api/`.
        label: Its text.
        says: What it will do.
        grey: Why it can't be pressed, with what to type instead; "" if it can.
        fields: What a person can add.
        sends: What its order has, with what is added.
    """
    fields_of = [dict(field) for field in fields]
    return {"path": path, "label": label, "says": says, "grey": grey, "fields": fields_of, "sends": sends or {}}


def _submit_button(run: RunRecord, shown: Mapping[str, str]) -> Button:
    fields = [{"name": name, "label": name, "kind": "param", "value": text} for name, text in shown.items()]
    says = f"Queues a new run of '{run.base}'. This one stays as it is."
    path, sends = f"workflows/{quote(run.base, safe='')}/submit", {"run": run.run_id}
    grey = "" if run.is_served else f"No process serves '{run.base}'. Type `{serve_command(run)}`."
    return _button(path, "Submit again", says, grey, fields, sends)


def _shown(run: RunSummary, defaults: Mapping[str, Any]) -> dict[str, str]:
    """Returns the parameters of a run as texts, with the defaults of others; "" for one that has none."""
    values = {**defaults, **(run.params or {})}
    return {name: "" if value is ... else value_text(value) for name, value in values.items()}


def _unserved(run: RunRecord) -> str:
    """Returns why a run can't be resumed from a page, and what to type instead; "" if it can."""
    if run.is_served and can_resume(run):
        return ""
    what = "No process can go on with it." if run.is_served or not run.base else f"No process serves '{run.base}'."
    return f"{what} Type `{resume_command(run) or serve_command(run)}`."


def _continued(run: RunRecord) -> str:
    """Returns what a resume would run: "3 of 300 items of 'load' run again."."""
    if not run.has_begun:
        return "It is queued again: nothing of it has run."
    left = [each for each in map(_left, run.steps) if each.number]
    idle = sum(task.state is None for task in run.steps)
    names = [each.text for each in left]
    if len(names) > MAX_NAMES:
        names[MAX_NAMES - 1 :] = [f"{len(names) - MAX_NAMES + 1} more tasks"]
    texts = [KEPT]
    if idle:
        texts.insert(0, f"{idle} {'task follows that has' if idle == 1 else 'tasks follow that have'} not begun.")
    texts[:0] = [each.follows for each in left if each.follows]
    if left:
        verb = "runs" if len(left) == left[0].number == 1 else "run"
        again = " again" if all(each.is_again for each in left) else ""
        texts.insert(0, f"{' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))} {verb}{again}.")
    return " ".join(texts)


class _Left(NamedTuple):
    """What a resume would run of a task that has begun."""

    text: str
    number: int
    is_again: bool
    follows: str = ""  # what of a map follows beside its items that failed


def _left(task: TaskRecord) -> _Left:
    if task.state in DONE or task.state is None:
        return _Left("", 0, False)
    if task.count is None or not task.items:
        return _Left(f"'{task.name}'", 1, task.state in FAILED)
    count = task.rounds or task.count
    left = count - sum(number for state, number in task.counts.items() if state in DONE)
    failed = sum(number for state, number in task.counts.items() if state in FAILED)
    of = f"at most {count:,} rounds" if task.rounds else f"{count:,} items"
    again = failed or left
    more, word = left - again, "round" if task.rounds else "item"
    follows = f"{'At most ' if task.rounds else ''}{more:,} more {word}{'s follow' if more > 1 else ' follows'}."
    return _Left(f"{again:,} of {of} of '{task.name}'", again, failed > 0, follows if more else "")


class Actions:
    """The orders of people at the pages of a history.

    Args:
        history: The history.
        write: Returns the name of who has sent a request, or None for one who may only read.

    Raises:
        NotServable: The history has no queue.
    """

    def __init__(self, history: Archive, write: Callable[[Scope], str | None]) -> None:
        self._archive = history
        if not isinstance(history, History):
            raise NotServable("The pages can take no orders", f"{type(history).__name__} has no queue")
        self._control = Control(history)
        self._write = write
        self._clicks: dict[str, None] = {}
        self._lock = threading.Lock()  # of the clicks

    def routes(self) -> list[Route]:
        """Returns the routes, which only take POST."""
        orders: dict[str, Callable[[Request, Given, str], Response]] = {
            **{f"runs/{{run}}/{what}": partial(self._order, what) for what in ORDERS},
            "workflows/{name:path}/pause": self._pause,
            "workflows/{name:path}/resume": self._resume,
            "workflows/{name:path}/submit": self._submit,
        }
        return [Route(f"/api/{path}", self._endpoint(order), methods=["POST"]) for path, order in orders.items()]

    def user_of(self, scope: Scope) -> str | None:
        """Returns the name of who has sent a request; None for one who may only read."""
        name = self._write(scope)
        if name is not None and not isinstance(name, str):
            raise InvalidArgument("write", self._write, f"a function that returns a name or None, not {name!r}")
        return name or None

    def of_run(self, run: RunRecord) -> list[Button]:
        """Returns the buttons of the page of a run."""
        look = self._control.seconds_to_look(run.run_id) if run.state is TypeRunState.CRASHED else 0.0
        if not run.base:
            return list(run_buttons(run, None, {}, look))
        return list(run_buttons(run, self._control.pause_of(run.base), self._control.params(run.base), look))

    def of_workflow(self, workflow: str) -> list[Button]:
        """Returns those of the page of a workflow."""
        return [workflow_button(workflow, self._control.pause_of(workflow))]

    def _endpoint(self, order: Callable[[Request, Given, str], Response]) -> Callable[[Request], Any]:
        async def respond(request: Request) -> Response:
            by = await run_in_threadpool(self.user_of, request.scope)
            if by is None:
                return _answer(403, error=ONLY_LOOK)
            body = bytearray()
            try:
                with anyio.fail_after(BODY_TIMEOUT):
                    async for chunk in request.stream():
                        body += chunk
                        if len(body) > MAX_BODY:
                            return _answer(413, error=TOO_LONG)
            except (TimeoutError, ClientDisconnect):
                return _answer(408, error=f"The order did not arrive within {BODY_TIMEOUT:g} seconds.")
            return await run_in_threadpool(order, request, _given(bytes(body)), by)

        return respond

    def _order(self, what: str, request: Request, given: Given, by: str) -> Response:
        """Carries out an order to a run, which must be as the page showed it. *what* is one of ORDERS."""
        run, order = request.path_params["run"], getattr(self._control, what)
        how = {"by": by, "comment": _text(given, "comment", ""), "seen": _text(given, "state")}
        if what in ("approve", "reject"):
            step, nth = _text(given, "step"), given.get("nth")
            if type(nth) is not int:
                raise InvalidArgument("nth", nth, "a number")
            value = [given.get("value")] if what == "approve" else []
            found: RunSummary = order(run, step, *value, nth=nth, **how)
            text = answer_text(what == "approve", self._archive, found, self._archive.option)
        else:
            found = order(run, **how)
            text = resume_text(found) if what == "resume" else order_text(what, found)
        return self._done(text, found)

    def _pause(self, request: Request, given: Given, by: str) -> Response:
        name, comment = request.path_params["name"], _text(given, "comment", "")
        if (before := self._control.pause_of(name)) is not None:
            return _answer(409, error=f"The workflow '{name}' is {before} already.")
        pause = self._control.pause_workflow(name, by=by, comment=comment)
        return _answer(200, text=pause_text(name, pause))

    def _resume(self, request: Request, given: Given, by: str) -> Response:
        name = request.path_params["name"]
        pause = self._control.resume_workflow(name, by=by, comment=_text(given, "comment", ""))
        text = unpaused_text(name, pause)
        return _answer(409, error=text) if pause is None else _answer(200, text=text)

    def _submit(self, request: Request, given: Given, by: str) -> Response:
        """Submits a run like another one, whose parameters are those that are not given."""
        name, run = request.path_params["name"], self._archive.summary(_text(given, "run"))
        if run.base != name or run.params is None:
            raise InvalidArgument("run", run.run_id, f"a run of '{name}' whose parameters the history has")
        params, click = _changed(run, self._control.params(name), given.get("params", {})), _text(given, "click")
        self._count(click, run)
        try:
            found = self._control.run(self._control.submit(name, params, by=by))
        except BaseException:  # the click may come again, with other parameters
            self._clicks.pop(click, None)
            raise
        return self._done(f"The run {found.short_id} of {found.workflow} is {found.state.lower()}.", found)

    def _count(self, click: str, run: RunSummary) -> None:
        """Raises OrderRefused for the second half of a double click."""
        with self._lock:
            if click in self._clicks:
                raise OrderRefused("submit", run.run_id, "this click has submitted a run already")
            self._clicks[click] = None
            if len(self._clicks) > MAX_CLICKS:
                del self._clicks[next(iter(self._clicks))]

    def _done(self, text: str, run: RunSummary) -> Response:
        waits = waiting_text(self._archive, run, self._archive.option)
        return _answer(200, text=f"{text} {waits}".strip(), run=run.run_id)


def _answer(status: int, **members: str) -> Response:
    return Response(to_json(members), status, media_type=JSON)


def _given(body: bytes) -> Given:
    """Returns the object of an order. Raises InvalidArgument."""
    try:
        given = json.loads(body)
        json.dumps(given, allow_nan=False, ensure_ascii=False).encode()  # refuses half a character, a lone surrogate
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise InvalidArgument("body", body[:100], "an object as JSON, with whole characters")
    return given


def _text(given: Given, name: str, default: str | None = None) -> str:
    """Returns a text of an order. Raises InvalidArgument."""
    text = given.get(name, default)
    if not isinstance(text, str) or (default is None and not text):
        raise InvalidArgument(name, text, "a text")
    return text


def _changed(run: RunSummary, defaults: Mapping[str, Any], texts: object) -> Mapping[str, Any]:
    """Returns the parameters of a run with those whose texts are other than the page has shown them."""
    params, shown = dict(run.params or {}), _shown(run, defaults)
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise InvalidArgument("params", texts, "an object of names and texts")
    changed = {name: text for name, text in texts.items() if text != shown.get(name)}
    return params | {name: _value(text, params.get(name, defaults.get(name))) for name, text in changed.items()}


def _value(text: str, before: object) -> Any:
    """Returns the value of a text: JSON in place of a list, a number or the like; the workflow has the last word."""
    if before is None or isinstance(before, bool | int | float | list | dict):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text
