"""A schedule of the command line: which one it is, what is seen of it, and its exit code."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from dotflow import clock
from dotflow.abc.scheduler import Scheduler
from dotflow.cli.exit_codes import Exit
from dotflow.cli.run.load import RunRequest, build, load
from dotflow.cli.run.once import Terminated, is_live, termination
from dotflow.cli.run.preview import moment, preview_lines
from dotflow.cli.run.summary import plain
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.providers.schedulers.cron import SchedulerCron
from dotflow.providers.schedulers.none import SchedulerDefault


def preview(options: Mapping[str, Any]) -> Exit:
    """Prints when it would fire. A workflow need not be given, unless its own schedule is meant."""
    scheduler = _of_options(options) or _own(load(RunRequest.of(options)).config.scheduler)
    if not isinstance(scheduler, SchedulerCron):
        raise click.UsageError(f"--preview is for cron schedules, and this workflow has a {type(scheduler).__name__}.")
    for line, note in preview_lines(scheduler.preview(options["preview"]), clock.now()):
        marked = f"  {click.style(note, fg='yellow') if is_live() else note}" if note else ""
        click.echo(line + marked)
    return Exit.COMPLETED


def keep_schedule(options: Mapping[str, Any]) -> Exit:
    """Runs the workflow when it is due, until a signal ends it."""
    given = _of_options(options)
    workflow = build(RunRequest.of(options))
    scheduler = workflow.config.scheduler = given or _own(workflow.config.scheduler)
    _say_next(scheduler)
    click.echo("Ctrl-C ends the schedule, after the run that is going on; a second one stops that, too.", err=True)

    def say(tasks: Sequence[Task]) -> None:
        _say_end(tasks)
        _say_next(scheduler)

    try:
        with termination():
            workflow.schedule(
                mode=options["mode"],
                keep_going=options["keep_going"],
                resume=options["resume"],
                on_success=say,
                on_failure=say,
            )
    except KeyboardInterrupt as error:
        return Exit.TERMINATED if isinstance(error, Terminated) else Exit.INTERRUPTED
    click.echo("The schedule has ended.", err=True)
    return Exit.COMPLETED


def _of_options(options: Mapping[str, Any]) -> SchedulerCron | None:
    given = {name: options[name] for name in ("overlap", "timezone") if options[name] is not None}
    if options["cron"] is not None:
        return SchedulerCron(options["cron"], **given)
    for name in given:
        raise click.UsageError(f"--{name} goes with --cron.")
    return None


def _own(scheduler: Scheduler) -> Scheduler:
    if isinstance(scheduler, SchedulerDefault):
        raise click.UsageError("say when to run: --cron '30 2 * * *', for example.")
    return scheduler


def _say_next(scheduler: Scheduler) -> None:
    """When the next run begins, if one will."""
    if not isinstance(scheduler, SchedulerCron) or scheduler.is_ending:
        return
    if scheduler.has_queued:
        click.echo("Next: now, the one that was queued", err=True)
        return
    for firing in scheduler.preview(1):
        note = f" ({firing.note})" if firing.note else ""
        click.echo(f"Next: {moment(firing.at)}{note}", err=True)


def _say_end(tasks: Sequence[Task]) -> None:
    """What became of one run, as `start` says it."""
    began = min((task.started_at for task in tasks if task.started_at is not None), default=None)
    ended = max((task.finished_at for task in tasks if task.finished_at is not None), default=None)
    seconds = (ended - began).total_seconds() if began and ended else 0.0
    failed = any(task.status is TypeStatus.FAILED for task in tasks)
    for line in plain(TypeStatus.FAILED if failed else TypeStatus.COMPLETED, tasks, seconds):
        click.echo(line)  # which flushes, if there is a stdout at all
