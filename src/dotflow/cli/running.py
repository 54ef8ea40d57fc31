"""What commands that run workflows share: the history and the output of their runs, and signals."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from dotflow.abc.history import HISTORY_VARIABLE, NO_HISTORY, History
from dotflow.cli.options import DEFAULT_HISTORY
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.types.capture import TypeCapture
from dotflow.core.types.execution import TypeExecution

if TYPE_CHECKING:
    from dotflow.capture.collector_main import Sink


@contextmanager
def recording(options: Mapping[str, Any]) -> Iterator[None]:
    """Sets the environment variable from which each Config without a history takes one: here, and in the steps.

    --history and --no-history come first, then the variable as it is, and the default. A relative path counts from the
    current folder, which a step may change.

    Raises:
        UsageError: Both options are there.
    """
    path, has_none = options["history"], options.get("no_history", False)
    if path is not None and has_none:
        raise click.UsageError("Can't use --history with --no-history. Remove one of them.")
    from dotflow.providers.histories.default import absolute

    before = os.environ.get(HISTORY_VARIABLE)
    chosen = NO_HISTORY if has_none else path or before or DEFAULT_HISTORY
    if chosen != NO_HISTORY:
        with suppress(FileNotFoundError):  # the current folder was removed, which building the workflow reports
            chosen = absolute(chosen)
    os.environ[HISTORY_VARIABLE] = chosen
    try:
        yield
    finally:
        if before is None:
            del os.environ[HISTORY_VARIABLE]
        else:
            os.environ[HISTORY_VARIABLE] = before


def details_hint(history: History | None, run_id: str | None) -> str:
    """Returns the line with the command that shows a run; "" if the history does not have it."""
    from dotflow.providers.histories.sql.history import SQLHistory
    from dotflow.report.text import as_command

    if run_id is None or not isinstance(history, SQLHistory) or not history.contains(run_id):
        return ""
    return f"Details: {as_command('show', run_id[:ID_LENGTH], history=history.option)}"


def collector_for(history: History | None, mode: object, sink: "Sink | None" = None) -> AbstractContextManager[object]:
    """Returns the collector of this process, which records for the history if that wants it and it is possible.

    In parallel mode the output is that of the workers, and there is nothing to record here. Without a sink, nothing
    is started where there is nothing to record.
    """
    is_wanted = (
        history is not None
        and history.store is not None
        and history.output_limit > 0
        and history.capture in (TypeCapture.AUTO, TypeCapture.FD)
        and mode != TypeExecution.PARALLEL
    )
    if not is_wanted and sink is None:
        return nullcontext()
    from dotflow.capture.collector import Collector, can_record

    recorded = history if is_wanted and history is not None and can_record(history) else None
    return nullcontext() if recorded is None and sink is None else Collector(recorded, sink)


class Terminated(KeyboardInterrupt):
    """SIGTERM: it stops the run as Ctrl-C does, with an exit code of its own."""


@contextmanager
def termination() -> Iterator[None]:
    """Turns SIGTERM into Terminated; a second one ends the process at once.

    It raises Terminated at its end, too, if that arrives as another KeyboardInterrupt.
    """
    received = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = True
        signal.signal(signal.SIGTERM, previous)
        raise Terminated

    previous = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL  # None: set outside of Python
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as error:
        if received:
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def is_live() -> bool:
    """Returns whether stdout is a terminal that can show the live view, with its characters."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or os.name == "nt":
        return False
    try:
        return sys.stdout.isatty() and sys.stdout.encoding.lower().startswith("utf")
    except (AttributeError, ValueError):  # None, or closed
        return False
