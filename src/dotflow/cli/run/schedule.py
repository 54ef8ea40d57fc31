"""A schedule of the command line: its preview, its runs and its exit code."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, tzinfo
from typing import Any

import click

from dotflow import clock
from dotflow.abc.scheduler import Scheduler
from dotflow.cli.exit_codes import Exit
from dotflow.cli.run.load import build, load
from dotflow.cli.run.once import Terminated, is_live, termination
from dotflow.cli.run.planned import filled_now, params_of_firings
from dotflow.cli.run.recording import collector_for
from dotflow.cli.run.summary import summary_lines
from dotflow.core.durations import format_duration
from dotflow.core.task import Task
from dotflow.core.types.overlap import TypeOverlap
from dotflow.core.types.status import TypeStatus
from dotflow.graph.params import NO_PARAMS
from dotflow.providers.schedulers.cron import SchedulerCron
from dotflow.providers.schedulers.none import SchedulerDefault
from dotflow.workflow import DotFlow


def print_preview(options: Mapping[str, Any]) -> Exit:
    """Prints the next fire times, of --cron or else of the workflow's own schedule. What would run must be there."""
    scheduler: Scheduler | None = _from_options(options)
    if scheduler is None or options["step"] or options["workflow"]:
        own = load(filled_now(options, _zone_of(scheduler))).workflow.config.scheduler
        scheduler = scheduler or _require_scheduler(own)
    if not isinstance(scheduler, SchedulerCron):
        raise click.UsageError(
            f"--preview needs a cron schedule; this workflow has a {type(scheduler).__name__}. Add --cron."
        )
    fires, now = scheduler.preview(options["preview"]), clock.now()
    times = [format_time(fire.at) for fire in fires]
    width = max(map(len, times), default=0)
    for fire, time in zip(fires, times, strict=True):
        note = f"  {click.style(fire.note, fg='yellow') if is_live() else fire.note}" if fire.note else ""
        click.echo(f"{time:{width}}  in {format_duration((fire.at - now).total_seconds())}{note}")
    return Exit.COMPLETED


def format_time(at: datetime) -> str:
    """Returns a time with the name and offset of its zone: Sun 2026-11-01 01:30:00 EDT (-04:00)."""
    offset = at.strftime("%z")
    return f"{at:%a %Y-%m-%d %H:%M:%S} {at.tzname()} ({offset[:3]}:{offset[3:5]})"


def run_schedule(options: Mapping[str, Any]) -> Exit:
    """Runs the workflow whenever it is due, until a signal."""
    cron = _from_options(options)
    for name in ("resume_changed", "resume_unfinished", "rerun", "only"):
        if options[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} is for one run. Use it with dotflow start.")
    workflow, params = build(filled_now(options, _zone_of(cron)), is_scheduled=cron is None)
    scheduler = workflow.config.scheduler = cron or _require_scheduler(workflow.config.scheduler)
    if params and getattr(scheduler, "params", None) is not None:
        raise click.UsageError("The workflow's schedule has params of its own. Remove --param, or add --cron.")
    of_firings = params_of_firings(options["param"], workflow)
    if of_firings is not None:
        if not isinstance(scheduler, SchedulerCron):
            what = f"this workflow has a {type(scheduler).__name__}. Add --cron"
            raise click.UsageError(f"Words such as {{yesterday}} need a cron schedule; {what}.")
        scheduler.params, params = of_firings, NO_PARAMS

    def report(tasks: Sequence[Task]) -> None:
        _print_summary(tasks)
        _print_next(scheduler)

    try:
        with termination(), _captured(workflow, options["mode"]):
            # No earlier: Python ignores what a signal's handler raises in the middle of an import.
            _print_next(scheduler)
            click.echo("Ctrl-C ends the schedule after the current run; a second one stops that run.", err=True)
            workflow.schedule(
                mode=options["mode"],
                keep_going=options["keep_going"],
                timeout=options["timeout"],
                resume=options["resume"],
                params=params,
                cache=not options["no_cache"],
                on_success=report,
                on_failure=report,
            )
    except KeyboardInterrupt as error:
        return Exit.TERMINATED if isinstance(error, Terminated) else Exit.INTERRUPTED
    click.echo("The schedule has ended.", err=True)
    return Exit.COMPLETED


def _captured(workflow: DotFlow, mode: object) -> AbstractContextManager[object]:
    """Captures what steps print, if runs don't overlap: then nothing tells their output apart."""
    overlaps = getattr(workflow.config.scheduler, "overlap", None) == TypeOverlap.PARALLEL
    return nullcontext() if overlaps else collector_for(workflow.config.history, mode)


def _from_options(options: Mapping[str, Any]) -> SchedulerCron | None:
    arguments = {name: options[name] for name in ("overlap", "timezone") if options[name] is not None}
    if options["cron"] is not None:
        return SchedulerCron(options["cron"], **arguments)
    for name in arguments:
        raise click.UsageError(f"--{name} needs --cron.")
    return None


def _zone_of(cron: Scheduler | None) -> tzinfo | None:
    """Returns the zone of --cron; None, that of the machine, before the workflow's own schedule is known."""
    return cron._times.zone if isinstance(cron, SchedulerCron) else None


def _require_scheduler(scheduler: Scheduler) -> Scheduler:
    if isinstance(scheduler, SchedulerDefault):
        raise click.UsageError("No schedule. Add --cron '30 2 * * *', for example.")
    return scheduler


def _print_next(scheduler: Scheduler) -> None:
    if not isinstance(scheduler, SchedulerCron) or scheduler.is_ending:
        return
    if scheduler.has_queued:
        click.echo("Next: now (queued)", err=True)
        return
    for fire in scheduler.preview(1):
        note = f" ({fire.note})" if fire.note else ""
        click.echo(f"Next: {format_time(fire.at)}{note}", err=True)


def _print_summary(tasks: Sequence[Task]) -> None:
    started = min((task.started_at for task in tasks if task.started_at is not None), default=None)
    ended = max((task.finished_at for task in tasks if task.finished_at is not None), default=None)
    seconds = (ended - started).total_seconds() if started and ended else 0.0
    failed = any(task.status is TypeStatus.FAILED for task in tasks)
    for line in summary_lines(TypeStatus.FAILED if failed else TypeStatus.COMPLETED, tasks, seconds):
        click.echo(line)  # flushes; skips a closed stdout
