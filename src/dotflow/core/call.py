"""Call: everything that one attempt needs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dotflow.core.action import Action
from dotflow.core.context import Context


class Carrier(NamedTuple):
    """What a tracer gives an attempt to take along. Plain text: it travels wherever the step runs.

    Attributes:
        entry: What is called there, around the step, as "package.module:function". It is given the headers, and
            returns a function that is called without arguments when the attempt is over.
        headers: What it is to know, such as a traceparent.
    """

    entry: str
    headers: Mapping[str, str]


class Call(NamedTuple):
    """A request to make one attempt of a step.

    A named tuple, not a dataclass: one is made for every task, and a frozen dataclass costs three times as much.

    Attributes:
        task_id: The task it is for.
        lane: Calls of one lane come one after the other and want the same worker.
        step: The action to run.
        initial_context: What it is given as `initial_context`.
        previous_context: What it is given as `previous_context`.
        workflow_id: The workflow that the task belongs to.
        carrier: What the tracer gave it to take along; None without a tracer.
    """

    task_id: int
    lane: int
    step: Action[..., Any]
    initial_context: Context
    previous_context: Context
    workflow_id: str
    carrier: Carrier | None = None
