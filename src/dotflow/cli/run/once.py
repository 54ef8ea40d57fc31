"""One run of the command line: what is seen of it while it goes on, what is said at its end, and its exit code."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from types import FrameType
from typing import Any

import click

from dotflow import clock
from dotflow.cli.exit_codes import Exit
from dotflow.cli.run.summary import summary_lines
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.engine.run import Run
from dotflow.workflow import DotFlow

RESUME_HINT = "The same command with --resume goes on from here."


class Terminated(KeyboardInterrupt):
    """SIGTERM: the run is stopped as by Ctrl-C, but the exit code says which of the two it was."""


@contextmanager
def termination() -> Iterator[None]:
    """SIGTERM stops what is running within, in order; a second one ends the process at once.

    Raises Terminated, whatever became of the first one on its way.
    """
    received = False

    def stop(number: int, render: FrameType | None) -> None:
        nonlocal received
        received = True
        signal.signal(signal.SIGTERM, previous)
        raise Terminated

    previous = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL  # None: it was set outside of Python
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
    """Whether a person looks at a terminal that can show a picture."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or os.name == "nt":
        return False
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def run_once(workflow: DotFlow, title: str, **start_arguments: Any) -> Exit:
    """Runs the workflow, shows its progress in a terminal, and says at the end what became of it.

    Args:
        workflow: What to run.
        title: What it is called above the picture.
        **start_arguments: Those of `workflow.start`.
    """
    if start_arguments.get("mode") == TypeExecution.BACKGROUND:
        click.echo("Mode background: the run goes on in a thread of this command, which waits for its end.", err=True)
    started = clock.monotonic()
    live = is_live()
    exit_code = Exit.COMPLETED
    try:
        with termination():
            run = _run_live(workflow, title, start_arguments) if live else _run(workflow, start_arguments)
        exit_code = Exit.COMPLETED if run.status is TypeStatus.COMPLETED else Exit.FAILED
    except KeyboardInterrupt as error:
        exit_code = Exit.TERMINATED if isinstance(error, Terminated) else Exit.INTERRUPTED
    with suppress(OSError):  # main() says so; whatever becomes of the summary, the exit code tells of the run
        _print_summary(workflow, exit_code, clock.monotonic() - started, live=live)
    return exit_code


def _run(workflow: DotFlow, start_arguments: dict[str, Any]) -> Run:
    run = workflow.start(**start_arguments)
    run.wait()
    return run


def _run_live(workflow: DotFlow, title: str, start_arguments: dict[str, Any]) -> Run:
    """The same under a live picture, which says all that the log would write to the terminal about tasks."""
    from dotflow.cli.live.display import Display
    from dotflow.cli.live.progress import Progress
    from dotflow.cli.live.view import render

    config = workflow.config
    progress = Progress(workflow.task, config.history)
    config.history = progress
    if sys.stderr is not None and sys.stderr.isatty():  # sent to a file, its lines disturb nobody
        config.log = config.log.without_console()
    with Display(sys.stdout, lambda *terminal: render(progress, title, clock.monotonic(), *terminal)):
        return _run(workflow, start_arguments)


def _print_summary(workflow: DotFlow, exit_code: Exit, seconds: float, *, live: bool) -> None:
    tasks = workflow.result_task()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding lacks is shown in another way
    status = exit_code.name.capitalize()
    can_resume = workflow.is_named and workflow.config.storage.outlives_process
    hint = RESUME_HINT if exit_code is not Exit.COMPLETED and can_resume else ""
    if live:
        from dotflow.cli.run.tables import print_summary

        print_summary(sys.stdout, status, tasks, seconds, hint)
    else:
        for line in summary_lines(status, tasks, seconds, hint):
            click.echo(line)
