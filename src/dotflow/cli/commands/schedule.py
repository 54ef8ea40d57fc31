"""`dotflow schedule`: runs whenever they are due, their preview, and words such as {yesterday} in their parameters."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

import click

from dotflow import clock
from dotflow.abc.scheduler import Scheduler
from dotflow.cli.command import Command, Exit, option
from dotflow.cli.load import build, load, parse_params, values_for_workflow
from dotflow.cli.options import RECORDING_OPTIONS, TIMEOUT_OPTION, WORKFLOW_OPTIONS, with_options
from dotflow.cli.running import Terminated, collector_for, is_live, recording, termination
from dotflow.cli.summary import summary_lines
from dotflow.core.durations import format_duration
from dotflow.core.task import Task
from dotflow.core.types.overlap import TypeOverlap
from dotflow.core.types.status import TypeStatus
from dotflow.graph.params import NO_PARAMS, Params
from dotflow.providers.schedulers.cron import SchedulerCron
from dotflow.providers.schedulers.none import SchedulerDefault
from dotflow.workflow import DotFlow

MAX_PREVIEW: Final = 1000


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@option(
    "--cron", metavar="EXPRESSION", example="--cron '30 2 * * 1-5'",
    help="The schedule: five fields, six with seconds first, or @daily and the like.",
)  # fmt: skip
@option(
    "--overlap", type=click.Choice(list(map(str, TypeOverlap))), example="--overlap queue",
    help="What happens to a run that is due during another: drop it, queue one, or run both; skip by default.",
)  # fmt: skip
@option(
    "--timezone", metavar="ZONE", example="--timezone America/New_York",
    help="The time zone of the expression; that of this machine by default.",
)  # fmt: skip
@option(
    "--preview", type=click.IntRange(1, MAX_PREVIEW), metavar="N", example="--preview 10",
    help=f"Print the next N runs, up to {MAX_PREVIEW}, mark days with a DST change, and run nothing.",
)  # fmt: skip
@with_options((*WORKFLOW_OPTIONS, TIMEOUT_OPTION, *RECORDING_OPTIONS))
def schedule(**options: Any) -> int:
    """Run steps or a workflow whenever they are due, until Ctrl-C or SIGTERM.

    The first signal waits for the current run; a second one stops it. With --resume, an unfinished run is finished
    before the next scheduled run of its name. Words in --param such as {today}, {yesterday}, {planned}, {hour} and
    {last_hour} are filled for each scheduled run.

    \b
    dotflow schedule --step jobs.report --cron '30 2 * * *' --timezone Europe/Berlin
    dotflow schedule --workflow jobs:nightly --cron '30 2 * * *' --param day={yesterday}
    dotflow schedule --workflow jobs:build_workflow --cron @hourly --overlap queue
    dotflow schedule --cron '30 2 * * *' --timezone America/New_York --preview 10

    Exit code: 0 ended by a signal, 2 nothing was run, 130 or 143 stopped in the middle of a run.
    """
    if options["preview"] is not None:
        return print_preview(options)
    with recording(options):
        return run_schedule(options)


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
    for_moment = scheduled_params(options["param"], workflow)
    if for_moment is not None:
        if not isinstance(scheduler, SchedulerCron):
            what = f"this workflow has a {type(scheduler).__name__}. Add --cron"
            raise click.UsageError(f"Words such as {{yesterday}} need a cron schedule; {what}.")
        scheduler.params, params = for_moment, NO_PARAMS

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
    return cron.times.zone if isinstance(cron, SchedulerCron) else None


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


_WORD: Final = re.compile(r"\{([A-Za-z_]\w*)\}", re.ASCII)


def _hour(planned: datetime, before: timedelta = timedelta(0)) -> str:
    """Returns the beginning of the hour of a moment. Before a DST change, the hour before has the other offset."""
    earlier = (planned.astimezone(UTC) - before).astimezone(planned.tzinfo)
    return earlier.replace(minute=0, second=0, microsecond=0).isoformat()


#: Word -> its text for a planned moment, in the zone of the schedule.
WORDS: Final[Mapping[str, Callable[[datetime], str]]] = {
    "today": lambda planned: planned.date().isoformat(),
    "yesterday": lambda planned: (planned.date() - timedelta(days=1)).isoformat(),
    "planned": datetime.isoformat,
    "hour": _hour,
    "last_hour": lambda planned: _hour(planned, timedelta(hours=1)),
}


def fill(text: str, planned: datetime) -> str:
    """Returns a text with its words filled. Braces around anything but a name stay, as in JSON. Raises UsageError."""

    def word(match: re.Match[str]) -> str:
        if match[1] not in WORDS:
            known = ", ".join(f"{{{name}}}" for name in WORDS)
            raise click.UsageError(f"Can't use {match[0]} in --param: it is no word. Use one of {known}.")
        return WORDS[match[1]](planned)

    return _WORD.sub(word, text)


def filled_now(options: Mapping[str, Any], zone: tzinfo | None) -> dict[str, Any]:
    """Returns the options of a schedule whose words in --param are filled for this moment, as an example."""
    now = clock.now().astimezone(zone)
    return {**options, "param": [fill(text, now) for text in options["param"]]}


def scheduled_params(param: Sequence[str], workflow: DotFlow) -> Callable[[datetime], Params] | None:
    """Returns the function of a planned moment that makes the run parameters; None if --param has no words.

    Raises UsageError for a word in an argument of the function that has made the workflow.
    """
    texts = parse_params(param)
    with_words = {name for name, text in texts.items() if _WORD.search(text)}
    for name in with_words - workflow.params.keys():
        raise click.UsageError(
            f"Can't use --param {name}={texts[name]}: the function that makes the workflow takes '{name}', and is "
            "called once. Declare it: DotFlow(params={...})."
        )
    if not with_words:
        return None
    own = {name: text for name, text in texts.items() if name in workflow.params}

    def at(planned: datetime) -> Params:
        filled = {name: fill(text, planned) for name, text in own.items()}
        return values_for_workflow(workflow.params, filled, (), workflow.task)

    return at
