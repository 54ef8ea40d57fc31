"""The history of what the command line runs: on by default, also for the workflows that its steps start; the output."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
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
        UsageError: --history is empty, or both options are there.
    """
    path, has_none = options["history"], options.get("no_history", False)
    if path is not None and has_none:
        raise click.UsageError("Can't use --history with --no-history. Remove one of them.")
    if path == "":
        raise click.UsageError("--history needs the path of a file.")
    before = os.environ.get(HISTORY_VARIABLE)
    chosen = NO_HISTORY if has_none else path or before or DEFAULT_HISTORY
    if chosen != NO_HISTORY:
        with suppress(FileNotFoundError):  # the current folder was removed, which building the workflow reports
            chosen = os.path.abspath(chosen)  # noqa: PTH100 (for links, as HistorySQLite has it)
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
    from dotflow.providers import HistorySQLite
    from dotflow.report.text import as_command

    if run_id is None or not isinstance(history, HistorySQLite) or not history.contains(run_id):
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
