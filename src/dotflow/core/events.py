"""The events of a task and a run, one class each.

Named tuples, not frozen dataclasses, which cost three times as much: there are two for every task.
`item` is the index of an item of a mapped task; None in an event of the task itself. `usage` is None unless the history
asks for it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dotflow.core.attempt_id import AttemptId
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.failure import Failure
from dotflow.core.files import NO_STATES, States
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.outcome import Usage
from dotflow.core.policy import Policy
from dotflow.core.types.run_state import TypeRunState, TypeWait
from dotflow.core.types.status import TypeStatus

if TYPE_CHECKING:  # few tasks ask
    from dotflow.core.approval import Question


class AttemptStarted(NamedTuple):
    """An attempt of the task begins; `attempt` counts from 1. `fallback` names the step that makes it instead.

    `call` is the request to make it, with its arguments, but without its secrets. `waited` is for how many seconds it
    waited for its limits before.
    """

    task_id: int
    attempt: int
    previous: Context
    at: datetime
    tick: float  # the same time on the monotonic clock, in seconds
    item: int | None = None
    fallback: str | None = None
    call: Call | None = None
    waited: float = 0.0


class AttemptHeld(NamedTuple):
    """An attempt waits for a limit, and will have waited for a second when it asks again; of a line only the first one.

    At most one a second for each line. Only the history and listeners receive it.

    Attributes:
        task_id, attempt, item: The attempt, which has not begun.
        name: The limit.
        reason: What of it: `10/min`, `3 at once`, `closed until 12:04:10 (429)`.
        waiting: How many attempts wait in its line, this one included.
        due: When it asks again, on the monotonic clock, in seconds.
        at: The moment.
        tick: The same time on the monotonic clock, in seconds.
    """

    task_id: int
    attempt: int
    name: str
    reason: str
    waiting: int
    due: float
    at: datetime
    tick: float
    item: int | None = None


class AttemptRuns(NamedTuple):
    """The attempt runs since this moment: after its AttemptStarted it waited for its worker, in a pack on a cluster.

    Of an attempt that was short, it comes together with its end.
    """

    task_id: int
    attempt: int
    at: datetime
    tick: float
    item: int | None = None


class AttemptRepeated(NamedTuple):
    """One of the actions of a class failed and is tried again, within the same attempt."""

    task_id: int
    attempt: int
    failure: Failure
    item: int | None = None


class AttemptWaits(NamedTuple):
    """A step with `poll` was not ready and is asked again, a durable one sleeps, or a cluster has given the call back.

    `asked` is how often the attempt has asked it. `note` is what it answered last, or waits for; "" for nothing.
    """

    task_id: int
    attempt: int
    asked: int
    note: str
    at: datetime
    tick: float
    item: int | None = None


class AttemptFailed(NamedTuple):
    """An attempt failed, and there will be another one in `retry_in` seconds.

    `tick` is the time of its end on the monotonic clock; None for the time of the event.
    """

    task_id: int
    attempt: int
    failure: Failure
    retry_in: float
    item: int | None = None
    usage: Usage | None = None
    tick: float | None = None


class TaskCompleted(NamedTuple):
    """The step returned; `context.time` is the time of its return."""

    task_id: int
    context: Context
    tick: float
    item: int | None = None
    usage: Usage | None = None


class TaskRestored(NamedTuple):
    """The task's value was restored, so the task does not run; `source` is "checkpoint" or "cache"."""

    task_id: int
    context: Context
    previous: Context
    item: int | None = None
    source: str = "checkpoint"


class TaskFailed(NamedTuple):
    """The last attempt failed."""

    task_id: int
    attempt: int
    failure: Failure
    at: datetime
    tick: float
    item: int | None = None
    usage: Usage | None = None


#: The reason of a task without a checkpoint that a resume leaves out.
NOT_NEEDED: Final = "no task that runs needs it"
NOT_ASKED_FOR: Final = "not asked for"


class TaskSkipped(NamedTuple):
    """The task does not run, which is no failure."""

    task_id: int
    reason: str
    item: int | None = None


class TaskPaused(NamedTuple):
    """The run pauses before the task's next attempt, or before all items of a map have ended. A resume goes on.

    Or the task waits for an approval, with its *question*, and goes on in this run or in the one that continues it.
    A durable step that asks several ones at once makes an event for each, with the *others* before it.
    An interrupt or a cancel that comes while the run cleans up fails the task: TaskFailed or MapEnded follows.
    A task that had not begun, and asks for no approval, makes no event.
    """

    task_id: int
    reason: str
    at: datetime
    tick: float
    item: int | None = None
    question: "Question | None" = None
    others: "tuple[Question, ...]" = ()


class MapOpened(NamedTuple):
    """The list of a mapped task is known, with this number of items.

    A map in rounds opens again in each `round`, with the number of all items so far; the new ones are of that round.
    So does one in a workflow for each item: `round` is the index of that item then.
    """

    task_id: int
    items: int
    at: datetime
    tick: float
    item: None = None
    round: int | None = None


class MapEnded(NamedTuple):
    """A mapped task has ended; `failure` is None if it completed.

    `items` is the number of items that it had, if fewer rounds have begun than there could have been. `reason` names
    the failed items of one that completed, since its `keep_going` allows them.
    """

    task_id: int
    context: Context
    failure: Failure | None
    at: datetime
    tick: float
    item: None = None
    items: int | None = None
    reason: str = ""


class AttemptOutput(NamedTuple):
    """A part of an attempt's output, soon after it was written. Only the history receives it, between other events.

    `stream` is 1 for stdout, 2 for stderr. `skipped` is the number of bytes of the stream before `data` that are lost:
    they came faster than they are recorded. Output that belongs to no single attempt of the run has the `task_id` -1.
    """

    task_id: int
    attempt: int
    stream: int
    data: bytes
    at: datetime
    item: int | None = None
    skipped: int = 0


class Traced(NamedTuple):
    """The ids of the trace of a run, and of the span of an attempt that has just begun.

    A `task_id` of -1 stands for the run itself. Only the history receives it.
    """

    task_id: int
    attempt: int
    trace: str
    span: str
    item: int | None = None


class CallsCounted(NamedTuple):
    """How many calls an attempt of a durable step has kept so far, and how many it was given back.

    It comes with the first call that is made after others were given back, with the first one that is kept, then at
    most once a second, and at the end. The log does not receive it.
    """

    task_id: int
    attempt: int
    kept: int
    given: int
    item: int | None = None


class CallBegan(NamedTuple):
    """A call in the body of a durable step is made now. One that was kept, and is given back, makes no event.

    The log does not receive it. No text in it shows a secret.

    Attributes:
        task_id, attempt, item: The attempt.
        number: Its number, from 1, of all that the task or the item has made. A resume goes on with it.
        name: Its action, as a line shows it.
        arguments: Its arguments, as a line shows them.
        depth: In how many durable calls it is made.
        key: Its key, under which its end is kept.
        at: The moment.
        tick: The same time on the monotonic clock, in seconds.
        identity: The identity of its action, `module:qualname`, with the name of its file in place of `__main__`.
    """

    task_id: int
    attempt: int
    number: int
    name: str
    arguments: str
    depth: int
    key: str
    at: datetime
    tick: float
    item: int | None = None
    identity: str = ""


class CallWaits(NamedTuple):
    """A call of an action with `poll` was not ready, and is asked again; or a step that has waited goes on with it.

    The log does not receive it. `asked` is how often the call has asked. `note` is what it answered last; "" for
    nothing.
    """

    task_id: int
    attempt: int
    number: int
    asked: int
    note: str
    item: int | None = None


class CallEnded(NamedTuple):
    """A call has ended: it returned, and is kept, or it has a *failure*. The log does not receive it.

    A call that its attempt has cut off has no end. `preview` shows the value that it returned. `input` is the JSON of
    the arguments of one that failed, whole and not masked, for a replay: "" where it is too large, or nothing is kept.
    One that `is_cached` was not made: its value came from the cache.
    """

    task_id: int
    attempt: int
    number: int
    preview: str
    failure: Failure | None
    tick: float
    item: int | None = None
    input: str = ""
    is_cached: bool = False


class Planned(NamedTuple):
    """A task at the beginning of a run.

    Attributes:
        name: Its name.
        group: Its group.
        lane: Its lane.
        identity: The identity of its step, `module:qualname`.
        needs: The tasks that must end before it starts.
        policy: Its retries, delays and timeout.
        code: The fingerprint of its step's code; "" without a history, or where it can't be made.
        contexts: The contexts that its step takes: "initial_context", "previous_context".
        rounds: How many rounds it has at most; 0 for a task outside of rounds.
        levels: What its items belong to, from outside to inside: the names of the workflows for each item, or in
            rounds, in which it stands, and its own where it has a list of its own. Empty for fewer than two.
    """

    name: str
    group: str
    lane: int = 0
    identity: str = ""
    needs: Sequence[int] = ()
    policy: Policy | None = None
    code: str = ""
    contexts: Sequence[str] = ()
    rounds: int = 0
    levels: Sequence[str] = ()


class RunStarted(NamedTuple):
    """A run begins. A `task_id` in its events is an index into `steps`.

    Attributes:
        workflow_id: The workflow.
        run_id: The run.
        tasks: The number of tasks.
        at: The moment.
        name: The name of the workflow.
        steps: The tasks.
        mode: "sequential", "background" or "parallel".
        resumed: Whether finished tasks of earlier runs are restored.
        parent: The attempt whose step started the run; None for none, and without a history that asks for it.
        trigger: "command" or "schedule"; "" for a program, or a step.
        storage: The type of the storage of its values, and where that is.
        saved: Returns the saved context of the task whose value an object is, as the storage has it: before a step
            changed the object. None if there is none. It is None itself if the storage does not outlive the process.
        masks: The secrets of the run. A history masks the texts that it makes of values.
        is_named: Whether the workflow was given its id. A generated one is in no other run.
        workflow: The id of the workflow without parameters and keys.
        params: The values of the run parameters without secrets, as text of the codec; None where it can't keep them.
        origin: The first run of the chain whose values a resume has found; "" where that is unknown.
        is_claimed: Whether the run was taken from the history's queue, which has it already.
        files: The states of the files that it is given from outside.
        goes_on: Whether values of earlier runs stay, though it may restore none: those that it was not asked for.
    """

    workflow_id: str
    run_id: str
    tasks: int
    at: datetime
    name: str | None = None
    steps: Sequence[Planned] = ()
    mode: str = ""
    resumed: bool = False
    parent: AttemptId | None = None
    trigger: str = ""
    storage: str = ""
    saved: Callable[[Any], Context | None] | None = None
    masks: Masks = NO_MASKS
    is_named: bool = True
    workflow: str = ""
    params: str | None = None
    origin: str = ""
    is_claimed: bool = False
    files: States = NO_STATES
    goes_on: bool = False


class RunEnded(NamedTuple):
    """A run has ended: COMPLETED, FAILED or PAUSED. `state` is more exact.

    `reason` is why it was stopped, for people; `waits` is what it waits for.
    """

    workflow_id: str
    run_id: str
    status: TypeStatus
    at: datetime
    state: TypeRunState = TypeRunState.COMPLETED
    reason: str = ""
    waits: TypeWait | None = None


TaskEvent = (
    AttemptStarted
    | AttemptRuns
    | AttemptRepeated
    | AttemptWaits
    | AttemptFailed
    | TaskCompleted
    | TaskRestored
    | TaskFailed
    | TaskSkipped
    | TaskPaused
    | MapOpened
    | MapEnded
)
RunEvent = RunStarted | RunEnded
#: The calls of durable steps.
CallEvent = CallsCounted | CallBegan | CallWaits | CallEnded
#: What only the history receives.
Detail = AttemptOutput | Traced
Event = TaskEvent | RunEvent | CallEvent | AttemptHeld | Detail


def masked(event: TaskEvent, masks: Masks) -> TaskEvent:
    """Returns the event with no secret in its failure, reason or note. Values stay as they are."""
    if isinstance(event, TaskSkipped | TaskPaused) or (isinstance(event, MapEnded) and event.reason):
        return event._replace(reason=masks.mask(event.reason))
    if isinstance(event, AttemptWaits):
        return event._replace(note=masks.mask(event.note))
    if isinstance(event, AttemptFailed | AttemptRepeated | TaskFailed | MapEnded) and event.failure is not None:
        return event._replace(failure=event.failure.masked(masks))
    return event
