"""The calls of a replay: what was kept is given back, and others are made only where the command says so."""

import contextlib
import inspect
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial, reduce
from typing import Any, Final

import click

from dotflow import clock
from dotflow.abc.archive import Archive
from dotflow.abc.storage import Storage
from dotflow.calls.body import Body
from dotflow.calls.keys import ROOT_DIGITS, root_of, shown_arguments
from dotflow.calls.port import LocalPort
from dotflow.cli.calls import FoundCall
from dotflow.cli.load import make_folder_importable
from dotflow.cli.replay.find_step import StepFinder, Target
from dotflow.codec.json import decode
from dotflow.core.action import IDEMPOTENCY_KEY, AnyAction, action_of
from dotflow.core.approval import question_text
from dotflow.core.call import Call
from dotflow.core.callables import parameters, unwrapped
from dotflow.core.calls import Asking, CallAnswer, CallRequest, Polling, TypeRequest
from dotflow.core.context import Context
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.call_state import TypeCallState
from dotflow.errors import CheckpointUnreadable, NotInHistory
from dotflow.records.record import AttemptRecord, ErrorRecord
from dotflow.resume.calls import is_waiting
from dotflow.resume.checkpoint_keys import CALL, OF_CALL
from dotflow.resume.stored_inputs import TaskInputs

STATES: Final = {
    TypeCallState.MADE: TypeAttemptState.COMPLETED,
    TypeCallState.CACHED: TypeAttemptState.COMPLETED,
    TypeCallState.RUNNING: TypeAttemptState.RUNNING,
}
DONE: Final = CallAnswer(TypeRequest.DONE)
BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class CallNotMade(Exception):
    """The body asks for a call that was not kept, and the replay makes none."""


class KeptCalls:
    """Gives back the calls that a storage has kept of a workflow, and keeps nothing. It is the coordinator of a body.

    Args:
        storage: The storage; None for no kept calls.
        workflow_id: The id of the workflow's run.
        makes: Whether it lets other calls be made, which may wait between two polls.
    """

    def __init__(self, storage: Storage | None, workflow_id: str, *, makes: bool) -> None:
        self._storage = storage
        self.makes = makes
        listed = () if storage is None else storage.list_keys(f"{workflow_id}/")
        found = [(place, match[0][len(CALL) :]) for place in listed if (match := OF_CALL.search(place))]
        # The beginning of a key names the step, and what follows is enough to tell it apart.
        self._places = {key[ROOT_DIGITS:]: place for place, key in found}
        self._keys = {key for _, key in found}

    def base_of(self, keys: Iterable[str]) -> str:
        """Returns what the keys of a step's calls are made from, by those of some; a new one without kept calls."""
        roots = {key[:ROOT_DIGITS] for key in keys}
        for key in sorted(key for key in self._keys if key[:ROOT_DIGITS] in roots):
            base = (self._read(key)._links or {}).get("base", "")
            if base and base not in self._keys and root_of(base) in roots:  # it is no call in a durable one
                return base
        return str(uuid.uuid4())

    def _read(self, key: str) -> Context:
        place = self._places.get(key[ROOT_DIGITS:])
        return Context() if place is None or self._storage is None else self._storage.get(place)

    def answer(self, request: CallRequest) -> CallAnswer:
        """Returns what was kept of a call; if nothing was, an error, or that it is to be made.

        No sleep takes any time. A question has the answer that was kept, since there is nobody to ask.
        """
        if request.kind not in (TypeRequest.ASK, TypeRequest.WAIT):
            return DONE
        if isinstance(request.value, Polling):
            return self._poll(request.value)
        try:
            context = self._read(request.key)
        except CheckpointUnreadable as error:
            return CallAnswer(TypeRequest.REFUSE, error)
        links = context._links or {}
        if "base" in links and not is_waiting(context):
            return CallAnswer(TypeRequest.GIVE, context.storage, "raised" in links)
        if isinstance(request.value, Asking):
            text = question_text(request.value.text, "", request.value.values, str)
            return CallAnswer(
                TypeRequest.REFUSE, CallNotMade(f"The question {text!r} has no answer, which it waits for.")
            )
        if request.kind is TypeRequest.WAIT:
            return CallAnswer(TypeRequest.GIVE)
        if self.makes:
            return CallAnswer(TypeRequest.MAKE, voided=uuid.uuid4().int)  # for a new idempotency key
        call = f"{request.name.rpartition(':')[2]}({shown_arguments(request.beginning)})"
        return CallAnswer(TypeRequest.REFUSE, CallNotMade(f"{call} was not kept. Pass --make to make such calls."))

    def _poll(self, polling: Polling) -> CallAnswer:
        """Waits until a call that was not ready is asked again, and returns whether its time is up."""
        left = math.inf if polling.timeout is None else polling.timeout - polling.since
        if left > 0:
            clock.sleep(min(polling.delay, left))
        return CallAnswer(TypeRequest.GIVE, left <= 0)

    def settle(self) -> None:
        """Does nothing."""


class ReplayPort(LocalPort):
    """The way of a durable step in a replay to its kept calls.

    Args:
        calls: The calls.
        base: What their keys are made from.
    """

    def __init__(self, calls: KeptCalls, base: str) -> None:
        super().__init__(calls, is_slow=calls.makes, is_followed=True, must_copy=False)
        self._base = base

    def body_of(self, call: Call) -> Callable[..., Any]:
        step = call.step
        body = Body(self, step.name, self._base, root_of(self._base), None)
        return partial(body.run_coroutine if step.is_coroutine else body.run, step.function)


def keys_of(archive: Archive, target: Target) -> set[str]:
    """Returns the keys of calls that a step has made in a run, or in those that it continues."""
    run, step = target.run, target.task.number_of(target.item)
    before = run.chain[: run.chain.index(run.run_id)] if run.chain else ()
    for run_id in (run.run_id, *reversed(before)):
        with contextlib.suppress(NotInHistory):  # an earlier run may have had other tasks
            if calls := archive.calls(run_id, step).calls:
                return {call.key for call in calls}
    return set()


def call_target(found: FoundCall) -> Target:
    """Returns a call as what is replayed: as a task whose step is its action."""
    call = found.call
    errors = [ErrorRecord(call.exception, call.message, call.traceback)] if call.exception else []
    if call.state is TypeCallState.CUT_OFF:
        errors = [ErrorRecord("cut off", "", "")]
    state = STATES.get(call.state, TypeAttemptState.FAILED)
    then = AttemptRecord(None, call.attempt, state, call.began, call.duration, glimpse=call.glimpse, errors=errors)
    task = found.task.__class__(
        task_id=found.task.task_id, name=found.address, identity=call.identity, policy={}, attempts=[then], items={}
    )
    return Target(found.run, task, None, then)


class ActionFinder(StepFinder):
    """Finds the action of a call: by its name, or in the module of a step of its workflow."""

    def find(self) -> AnyAction:
        if self._options["named"]:
            return super().find()
        make_folder_importable()
        action = None if self._options["workflow"] else self._find_by_identity()
        if action is None:
            module, _, name = self._task.identity.partition(":")
            for task in self.loaded.workflow.task:
                of_step = unwrapped(task.step.function).__globals__
                stem = str(of_step.get("__file__", "")).rpartition("/")[2].removesuffix(".py")
                if module in (of_step.get("__name__"), stem) and "<" not in name:
                    first, *rest = name.split(".")
                    action = action or action_of(reduce(_attribute, rest, of_step.get(first)))
        if action is None:
            raise click.ClickException(
                f"Can't replay '{self._task.name}': its action {self._task.identity} can't be found. Pass --step."
            )
        return action


def _attribute(owner: Any, name: str) -> Any:
    return getattr(owner, name, None)


def call_inputs(step: AnyAction, address: str, arguments: Mapping[str, Any]) -> TaskInputs:
    """Returns the inputs of a call by its kept arguments, as JSON. Raises ClickException for one that was not kept."""
    values: dict[str, Any] = {}
    known = parameters(step.function)
    for name, value in decode(json.dumps(arguments)).items():
        kind = known[name].kind if name in known else None
        if kind is inspect.Parameter.VAR_KEYWORD:
            values.update(value)
        elif kind in BY_NAME:
            values[name] = Context(value) if name.endswith("_context") else value
        elif kind is not None or name == "self":
            raise click.ClickException(f"Can't replay '{address}': '{name}' can't be passed by its name.")
    for name, parameter in known.items():
        is_required = parameter.kind in BY_NAME and parameter.default is parameter.empty
        if is_required and name not in values and name != IDEMPOTENCY_KEY:
            raise click.ClickException(f"Can't replay '{address}': '{name}' was not kept, which its `key` leaves out.")
    return TaskInputs(arguments=values)


def default_storage(storage: Storage | None, finder: StepFinder) -> Storage | None:
    """Returns the storage of the run's values; where it is not known, that of today's workflow, if it lasts."""
    if storage is not None or finder.workflow is None:
        return storage
    found: Storage = finder.workflow.config.storage
    return found if found.outlives_process else None
