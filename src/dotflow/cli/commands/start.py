"""`dotflow start`: one run."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from io import TextIOWrapper
from typing import Any

import click

from dotflow import clock
from dotflow.cli.command import Command, Exit
from dotflow.cli.formatting import one_line
from dotflow.cli.load import build, resume_of
from dotflow.cli.options import RECORDING_OPTIONS, TIMEOUT_OPTION, WORKFLOW_OPTIONS, with_options
from dotflow.cli.running import Terminated, collector_for, details_hint, is_live, recording, termination
from dotflow.cli.summary import summary_lines
from dotflow.core.approval import Question
from dotflow.core.attempt_id import ID_LENGTH, triggered_by
from dotflow.core.masks import environment_masks
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.engine.background import interrupt_all
from dotflow.engine.run import Run, nothing_ran
from dotflow.workflow import DotFlow


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@with_options((*WORKFLOW_OPTIONS, TIMEOUT_OPTION, *RECORDING_OPTIONS))
def start(**options: Any) -> int:
    """Run steps or a workflow, and wait for the end.

    In a terminal it shows the progress, and then a summary. Elsewhere, and with NO_COLOR=1, the log goes to stderr and
    the summary to stdout, in plain lines.

    \b
    dotflow start --step jobs.extract --step jobs.load --storage file --workflow-id nightly
    dotflow start --workflow jobs:build_workflow --mode parallel
    dotflow start --workflow jobs:nightly --param day=2026-11-25

    Exit code: 0 completed, 1 a task or an item failed, 2 nothing was run, 3 paused, 130 interrupted (Ctrl-C), 143
    terminated.
    """
    with recording(options):
        resume = resume_of(options)
        workflow, params = build(options)
        title = workflow.name or options["workflow"] or options["workflow_id"] or ", ".join(options["step"])
        title = environment_masks().mask(" ".join([title, *options["param"]]))
        arguments = {name: options[name] for name in ("mode", "keep_going", "rerun", "timeout")}
        arguments["only"] = options["only"] or None
        return run_once(workflow, title, **arguments, resume=resume, cache=not options["no_cache"], params=params)


ANEW_HINT = "Leave out --resume to run them anew, or use --resume-unfinished, which begins anew after a completed run."
ANSWER_HINT = "`{}` answers, or `dotflow reject`. Then run the same command {}, unless a server does."
RESUME_HINT = "Run the same command {} to go on from here."


def run_once(workflow: DotFlow, title: str, **start_arguments: Any) -> Exit:
    """Runs a workflow, shows its progress in a terminal, and prints a summary.

    Args:
        workflow: The workflow.
        title: The title of the live view.
        **start_arguments: The arguments of `workflow.start`.
    """
    mode = start_arguments.get("mode")
    if mode == TypeExecution.BACKGROUND:
        click.echo("Mode background: this command runs the workflow in a thread, and waits for it.", err=True)
    started = clock.monotonic()
    live = is_live()
    exit_code, status, run = Exit.COMPLETED, "", None
    try:
        with termination(), triggered_by("command"):
            with _display(workflow, title, mode) if live else collector_for(workflow.config.history, mode):
                begun = workflow.start(**start_arguments)
                begun.wait()
            run = begun
        exit_code, status = _exit_code_of(run), str(run.status)
    except KeyboardInterrupt as error:
        interrupt_all()  # a background run, if Ctrl-C came before start() returned it
        exit_code = Exit.TERMINATED if isinstance(error, Terminated) else Exit.INTERRUPTED
        status = exit_code.name.capitalize()
    with suppress(OSError):  # main() reports it, and the exit code is that of the run
        how = _how_to_resume(start_arguments)
        hint = RESUME_HINT.format(how)
        if run is not None and (questions := run.questions):
            hint = ANSWER_HINT.format(_answer_command(run, questions), how)
        why = "" if run is None or run.questions else one_line(workflow.masks().mask(_why_stopped(run)))
        if run is not None and (changed := run.restored_with_other_code()):
            from dotflow.report.stale_code import changed_text  # here: most runs need no reader of records

            why = "\n".join(filter(None, [why, one_line(changed_text(changed))]))
        _print_summary(workflow, status, clock.monotonic() - started, why, hint, live=live)
    return exit_code


def _exit_code_of(run: Run) -> Exit:
    if run.status is TypeStatus.COMPLETED:
        return Exit.COMPLETED
    has_failed = any(task.status is TypeStatus.FAILED for task in run.tasks)
    return Exit.PAUSED if run.status is TypeStatus.PAUSED and not has_failed else Exit.FAILED


def _why_stopped(run: Run) -> str:
    """Returns why a run was stopped, such as an order from outside, unless the error of a task says so."""
    reason = run.reason
    if not reason or any(task.error and reason in task.error.message for task in run.tasks):
        return ""
    return f"{reason[0].upper()}{reason[1:]}."


def _display(workflow: DotFlow, title: str, mode: object) -> AbstractContextManager[object]:
    """Returns the live view, which replaces the log lines in the terminal."""
    from dotflow.cli.live.display import Display
    from dotflow.cli.live.progress import Progress
    from dotflow.cli.live.view import render

    config = workflow.config
    progress = Progress(workflow.task)
    config.listeners.append(progress)
    if sys.stderr is not None and sys.stderr.isatty():  # lines in a file don't disturb the view
        config.log = config.log.without_console()
    start = partial(collector_for, config.history, mode)
    return Display(sys.stdout, lambda *terminal: render(progress, title, clock.monotonic(), *terminal), start)


def _answer_command(run: Run, questions: Sequence[Question]) -> str:
    from dotflow.report.text import as_command

    step = [] if len(questions) == 1 else [questions[0].step]
    return as_command("approve", run.run_id[:ID_LENGTH], *step, history=questions[0].history)


def _how_to_resume(start_arguments: Mapping[str, Any]) -> str:
    if start_arguments.get("rerun"):
        return "with --resume in place of --rerun"
    return "again" if start_arguments.get("resume") else "with --resume"


def _print_summary(workflow: DotFlow, status: str, seconds: float, why: str, resume_hint: str, *, live: bool) -> None:
    tasks = workflow.result_task()
    if isinstance(sys.stdout, TextIOWrapper):
        with suppress(OSError):  # a step has closed what led it back to a file: it remains the collector's pipe
            sys.stdout.reconfigure(errors="backslashreplace")  # for characters that its encoding lacks
    can_resume = workflow.is_named and workflow.config.storage.outlives_process
    details = details_hint(workflow.config.history, tasks[0].run_id if tasks else None)
    hint = "\n".join(filter(None, [why, details, resume_hint if can_resume else ""]))
    if status == TypeStatus.COMPLETED:
        restored = nothing_ran(tasks)
        hint = f"{restored}. {ANEW_HINT}" if restored else ""
    if live:
        from dotflow.cli.live.view import print_summary

        print_summary(status, tasks, seconds, hint)
    else:
        for line in summary_lines(status, tasks, seconds, hint):
            click.echo(line)
