"""Call: a request to make one attempt."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from dotflow.core.action import AnyAction
from dotflow.core.attempt_id import AttemptId
from dotflow.core.calls import Port
from dotflow.core.context import Context
from dotflow.core.files import FileWatch
from dotflow.core.types.capture import TypeCapture

#: Under it, `Call.secrets` has what the idempotency keys of a task are made from. No secret is called so.
KEY_BASE: Final = "="


class Carrier(NamedTuple):
    """The trace context of an attempt, as plain text, which can be sent to any worker.

    Attributes:
        entry: The function that enters the trace context, as "package.module:function". It takes the headers. It
            returns a function without arguments, which is called at the end of the attempt.
        headers: The headers, such as a traceparent.
    """

    entry: str
    headers: Mapping[str, str]


class TraceIds(NamedTuple):
    """The ids of a trace and of a span in it, as the tracing tool shows them."""

    trace: str
    span: str


def plain_carrier(carrier: Carrier | None) -> Carrier | None:
    """Returns a copy. Raises TypeError here, and not in the step's worker, for anything but plain text."""
    if carrier is None:
        return None
    entry, headers = carrier
    for text in (entry, *headers, *headers.values()):
        if text.__class__ is not str:
            raise TypeError(f"a Carrier holds plain str only, but this one holds a {type(text).__name__}")
    return Carrier(entry, dict(headers))


class Watch(NamedTuple):
    """What the history wants of an attempt: its usage and its output.

    Attributes:
        attempt: The attempt.
        capture: How its output is captured.
        output_limit: The number of bytes of output that are kept, half of its beginning and half of its end.
    """

    attempt: AttemptId
    capture: TypeCapture = TypeCapture.NONE
    output_limit: int = 0


class Call(NamedTuple):
    """A request to make one attempt of a step.

    A named tuple, not a frozen dataclass, which costs three times as much: there is one for every task. Worker
    processes are sent Calls, too: see `processes/encoding.py`.

    Attributes:
        task_id: The task.
        lane: The lane. Its calls run one after the other, preferably in the same worker.
        step: The action to run.
        initial_context: The step's `initial_context`.
        previous_context: The step's `previous_context`.
        workflow_id: The task's workflow.
        carrier: The trace context; None without a tracer.
        number: The number of the call's task or item, unique in the run.
        arguments: The values of its other parameters, by name; None for no values, and no shared ones either.
        shared: The arguments that all items of a map share: one object for all of their calls.
        fallback: The number of the task's fallback that *step* is, from 1; 0 where it is the task's own step.
        secrets: The values of the secrets that the task takes, by their names, or by `parameter=` for what a run
            parameter fills, and what its idempotency keys are made from; None if it takes none of these.
        files: What the attempt records of files; None for nothing.
        port: The way to the coordinator, of a durable step; None for others.
        environ: The variables that a process of its own has in addition; None for none.
        watch: What the history wants of the attempt; None without one.
    """

    task_id: int
    lane: int
    step: AnyAction
    initial_context: Context
    previous_context: Context
    workflow_id: str
    carrier: Carrier | None = None
    number: int = 0
    arguments: Mapping[str, Any] | None = None
    shared: Mapping[str, Any] | None = None
    fallback: int = 0
    secrets: Mapping[str, str] | None = None
    files: FileWatch | None = None
    port: Port | None = None
    environ: Mapping[str, str] | None = None
    watch: Watch | None = None
