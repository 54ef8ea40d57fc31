"""Errors for type checkers: the facts that they are constructed from. mypy and Pyright read this file."""

from typing import assert_type

from dotflow.errors import CheckpointUnreadable, LeaseLost, StepTimeout, UnknownArgument, WorkerDied

died = WorkerDied("load", -9)
assert_type(died.step, str)
assert_type(died.exit_code, int | None)
assert_type(died.lost, str)
WorkerDied(step="load", exit_code=None, lost="tcp://10.0.0.5:8786")
assert_type(UnknownArgument("add", "colour", ("step",)).accepted, tuple[str, ...])
assert_type(CheckpointUnreadable("it is empty").at(where="0.json"), CheckpointUnreadable)
LeaseLost("The workflow 'nightly' is lost", "its lease ran out")

WorkerDied("load")  # type: ignore[call-arg]
WorkerDied("load", "-9")  # type: ignore[arg-type]
StepTimeout("load", 1.5, nonsense=1)  # type: ignore[call-arg]


class NotFound(WorkerDied):
    """A user's own error has facts of its own."""

    host: str = ""


assert_type(NotFound("load", None, host="alpha").host, str)
