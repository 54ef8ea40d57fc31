"""`dotflow cancel`, `pause` and `resume`: orders to runs in any process; `approve` and `reject`: answers to them."""

import json
from collections.abc import Callable
from typing import Any, Final

import click

from dotflow.abc.archive import Archive
from dotflow.abc.operations import WorkflowPause
from dotflow.cli.command import Command, Exit, F, option
from dotflow.cli.options import HISTORY_OPTION, RunArgument, StepArgument, WorkflowArgument, open_history, with_options
from dotflow.cli.screen import safe
from dotflow.control import Control
from dotflow.core.text import GENERATED
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import OrderRefused
from dotflow.records.environment import host_name
from dotflow.records.record import RunRecord, RunSummary
from dotflow.report.orders import (
    LONG_LOOK,
    PAUSED,
    answer_text,
    order_text,
    resume_text,
    resume_workflow_command,
    unpaused_text,
    waiting_text,
)
from dotflow.report.text import as_command

# fmt: off
ORDER_OPTIONS: Final[tuple[Callable[[F], F], ...]] = (
    option("--by", metavar="NAME", example="--by anna", help="Who wants it; by default the user of the system."),
    option("--comment", metavar="TEXT", default="", example="--comment 'wrong day'",
           help="Why: it is kept with the run, or the pause."),
    HISTORY_OPTION,
)
WORKFLOW_OPTION: Final = option(
    "--workflow", type=WorkflowArgument(), metavar="NAME", example="--workflow nightly",
    help="A workflow by its id, in place of a run.",
)
# fmt: on


@click.command(cls=Command)
@click.argument("run", type=RunArgument())
@option("--wait", is_flag=True, example="dotflow cancel last --wait", help="Wait for its end, and print how it ended.")
@with_options(ORDER_OPTIONS)
def cancel(run: str, history: str | None, *, wait: bool, **order: Any) -> int:
    """Cancel a run.

    \b
    dotflow cancel 4f0c9a21 --comment "wrong day"

    What is queued or paused is cancelled at once. A running run looks for orders once a second: a step in a process of
    its own is ended; a step in the program's own thread ends by itself first. Finished steps keep their values.

    Exit code: 0 cancelled or ordered, 2 if there is no such run, or it has ended. With --wait 1 if it ended otherwise.
    """
    return _order("cancel", run, history, wait=wait, **order)


def _check_one(run: str | None, workflow: str | None) -> None:
    if (run is None) == (not workflow):
        raise click.UsageError("Pass one of the two: RUN, or --workflow NAME.")


@click.command(cls=Command)
@click.argument("run", type=RunArgument(), required=False)
@WORKFLOW_OPTION
@with_options(ORDER_OPTIONS)
def pause(run: str | None, workflow: str | None, history: str | None, **order: Any) -> None:
    """Pause a run: its running steps end and are saved, and nothing new begins. Or pause a workflow.

    \b
    dotflow pause last
    dotflow resume last
    dotflow pause --workflow nightly --comment "the warehouse moves"
    dotflow resume --workflow nightly

    Of a paused workflow queued runs wait, and servers drop its scheduled runs. What has begun goes on, and so
    does a `dotflow schedule`, which needs no server.

    Exit code: 0 paused or ordered, 2 if there is no such run or workflow, or the run has ended.
    """
    _check_one(run, workflow)
    if run is not None:
        _order("pause", run, history, **order)
    elif workflow is not None:
        _pause_workflow(workflow, history, **order)


@click.command(cls=Command)
@click.argument("run", type=RunArgument(), required=False)
@WORKFLOW_OPTION
@option(
    "--rerun", type=StepArgument(), multiple=True, metavar="STEP", example="--rerun table",
    help="This task runs again, and what needs it; one option for each.",
)  # fmt: skip
@with_options(ORDER_OPTIONS)
def resume(run: str | None, workflow: str | None, rerun: tuple[str, ...], history: str | None, **order: Any) -> None:
    """Go on with a run that was paused, cancelled or interrupted, or failed or crashed: no finished step runs again.

    \b
    dotflow resume failed
    dotflow resume 4f0c9a21 --rerun table

    It queues a run that continues the other one, and `dotflow serve` runs it. A run that has completed needs --rerun.

    With --workflow, it ends the pause of a workflow. Scheduled runs that were dropped meanwhile are not caught up.

    Exit code: 0 queued or resumed, 2 if there is no such run or workflow, or the run can't be continued.
    """
    _check_one(run, workflow)
    if run is not None:
        _resume_run(run, rerun, history, **order)
    elif workflow is not None:
        if rerun:
            raise click.UsageError("--rerun is about a run. Leave it out, or pass a RUN.")
        _resume_workflow(workflow, history, **order)


@click.command(cls=Command)
@click.argument("run", type=RunArgument())
@click.argument("step", type=StepArgument(), required=False)
@option(
    "--value", metavar="JSON", example="--value '{\"rows\": 300}'", help="What the step takes as `approval.value`.",
)  # fmt: skip
@with_options(ORDER_OPTIONS)
def approve(run: str, step: str | None, value: str | None, history: str | None, by: str | None, comment: str) -> None:
    """Answer yes to the question of a task that waits for an approval. The first answer counts.

    \b
    STEP  the task that waits, or an item such as page[3].check; not needed where it is the only one

    \b
    dotflow runs --paused
    dotflow approve 4f0c9a21
    dotflow approve 4f0c9a21 publish --comment "looks right"

    A paused run goes on as soon as a process serves its workflow, or with `dotflow start ... --resume`.

    Exit code: 0 answered, 2 if there is no such run, it waits for no answer, or has one.
    """
    archive = open_history(history)
    asked = archive.summary(run).run_id
    found = Control(archive).approve(asked, step, _value_of(value), by=by, comment=comment)
    _print(answer_text(True, archive, found, history), archive, found, history)


@click.command(cls=Command)
@click.argument("run", type=RunArgument())
@click.argument("step", type=StepArgument(), required=False)
@with_options(ORDER_OPTIONS)
def reject(run: str, step: str | None, history: str | None, by: str | None, comment: str) -> None:
    """Answer no to the question of a task that waits for an approval: the task fails. The first answer counts.

    \b
    STEP  the task that waits, or an item such as page[3].check; not needed where it is the only one

    \b
    dotflow reject 4f0c9a21 --comment "the day is not over"

    `dotflow resume RUN --rerun STEP` asks again.

    Exit code: 0 answered, 2 if there is no such run, it waits for no answer, or has one.
    """
    archive = open_history(history)
    found = Control(archive).reject(archive.summary(run).run_id, step, by=by, comment=comment)
    _print(answer_text(False, archive, found, history), archive, found, history)


def _order(what: str, run: str, history: str | None, by: str | None, comment: str, *, wait: bool = False) -> Exit:
    """Cancels or pauses a run, and prints what happens next. *what* is the method of Control.

    With *wait* it prints how a run has ended that was cancelled: it may have been faster.
    """
    archive = open_history(history)
    control, before = Control(archive), archive.summary(run)
    _print_look(control, before)
    found = getattr(control, what)(before.run_id, by=by, comment=comment)
    click.echo(safe(order_text(what, found)))
    if found.ordered == what == "cancel" and (process := _process_here(archive.load(found.run_id))):
        click.echo(f"`kill -INT {process}` ends it at once.")
    if what == "pause" and not GENERATED.fullmatch(found.workflow_id):
        click.echo(f"`{as_command('resume', found.short_id, history=history)}` goes on with it.")
    if not wait or not found.ordered:
        return Exit.COMPLETED
    ended = control.wait(found.run_id)
    why = ended.reason or ended.error
    click.echo(safe(f"The run {ended.short_id} is {ended.state.lower()}{why and f': {why}'}."))
    return Exit.COMPLETED if ended.state is TypeRunState.CANCELLED else Exit.FAILED


def _pause_workflow(workflow: str, history: str | None, by: str | None, comment: str) -> None:
    """Pauses a workflow, and prints what that means."""
    pause = Control(open_history(history)).pause_workflow(workflow, by=by, comment=comment)
    click.echo(safe(f"The workflow '{workflow}' is {pause}."))
    click.echo(PAUSED)
    click.echo(safe(f"`{resume_workflow_command(workflow, history)}` ends the pause."))


def _resume_workflow(workflow: str, history: str | None, by: str | None, comment: str) -> None:
    """Ends the pause of a workflow, and prints who had paused it."""
    control = Control(open_history(history))
    pause = control.resume_workflow(workflow, by=by, comment=comment)
    click.echo(safe(unpaused_text(workflow, pause)))
    if pause is not None and not control.is_served(workflow):
        click.echo("No process serves it. Start `dotflow serve MODULE:WORKFLOW`.", err=True)


def pause_line(workflow: str, pause: WorkflowPause, history: str | None) -> str:
    """Returns what the pause of a workflow means for its queue, and what ends it."""
    ends = f"`{resume_workflow_command(workflow, history)}` ends the pause"
    return safe(f"The workflow '{workflow}' is {pause}: its queued runs wait. {ends}.")


def _resume_run(run: str, rerun: tuple[str, ...], history: str | None, by: str | None, comment: str) -> None:
    """Queues a run that continues another one, and prints which, and what runs it."""
    archive = open_history(history)
    control, before = Control(archive), archive.load(run)
    _print_look(control, before)
    try:
        found = control.resume(before.run_id, rerun, by=by, comment=comment)
    except OrderRefused as error:
        if not error.needs_steps:
            raise
        raise OrderRefused(error.verb, error.run_id, f"{error.reason}: --rerun STEP") from None
    _print(resume_text(found), archive, found, history)


def _print_look(control: Control, run: RunSummary) -> None:
    """Prints why an order takes some seconds: it watches a process that gave no sign of life."""
    if (seconds := control.seconds_to_look(run.run_id)) > LONG_LOOK:
        what = f"The process of the run {run.short_id} gave no sign of life for a minute"
        click.echo(f"{what}. Looks at it for {seconds:.0f} s.", err=True)


def _print(text: str, archive: Archive, found: RunSummary, history: str | None) -> None:
    """Prints what has happened and, on stderr, what the run waits for."""
    click.echo(safe(text))
    if waits := waiting_text(archive, found, history):
        click.echo(safe(waits), err=True)


def _value_of(text: str | None) -> object:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"Can't use --value {text}: it is no JSON ({error}). Quote a text: '\"yes\"'.") from None


def _process_here(run: RunRecord) -> str:
    """Returns the id of the process of a `dotflow start` on this machine; "" of any other run."""
    host, _, process = run.process.rpartition(":")
    is_here = host == host_name()
    return process if is_here and run.trigger == "command" and run.state is TypeRunState.RUNNING else ""
