"""`dotflow replay`: one step of a past run, again."""

from typing import Any

import click

from dotflow.cli.command import Command, option
from dotflow.cli.history.options import HISTORY_OPTION, open_history


@click.command(cls=Command)
@click.argument("run", metavar="RUN")
@click.argument("step", metavar="STEP[#ITEM]")
@option(
    "--pdb", "is_debugged", is_flag=True,
    help="Open the debugger where the step raises; without its timeout.",
)  # fmt: skip
@option(
    "--input", "edited", type=click.File(encoding="utf-8"), metavar="FILE", example="--input edited.json",
    help="The inputs: what `dotflow show RUN STEP --input --json` printed, edited.",
)  # fmt: skip
@option(
    "--attempt", type=click.IntRange(1), metavar="N", example="--attempt 1",
    help="The attempt that it is compared with; the last one by default.",
)  # fmt: skip
@option("--no-timeout", is_flag=True, help="Without the step's timeout, for breakpoint().")
@option(
    "-w", "--workflow", metavar="PATH", example="--workflow jobs.nightly:build",
    help="The workflow, if it can't be found by the command or the program that started it.",
)  # fmt: skip
@option(
    "--step", "named", metavar="PATH", example="--step jobs.nightly:load",
    help="The step that is run, where the history is not your own.",
)  # fmt: skip
@option("--param", multiple=True, metavar="NAME=VALUE", example="--param day=2026-11-25", help="Its parameters.")
@option(
    "--import", "modules", multiple=True, metavar="MODULE", example="--import shop.models",
    help="A module with the class of an input, which the module of the step does not import.",
)  # fmt: skip
@HISTORY_OPTION
def replay(run: str, step: str, history: str | None, attempt: int | None, **options: Any) -> int:
    """Run a step of a past run again: one attempt, here, with the inputs that it had and today's code.

    RUN is an id, the beginning of one, `last` or `failed`. It is the real step: what it writes, it writes. The run's
    storage, log and notifications stay as they are; the history gets a note.

    \b
    dotflow replay failed load
    dotflow replay failed fetch#411 --pdb
    dotflow replay 4f0c load --input edited.json

    \b
    Only code that the command line names is run, and your own that your own history names: .output/history.db of the
    current folder, or the file of DOTFLOW_HISTORY. Before anything else is run, you are asked; without a terminal it is
    refused. A step that asks for an approval runs only with a yes that its run has.

    Exit code: 0 the step returned, 1 it raised, 2 nothing was run, 3 code was imported or run, but not the step.
    """
    from dotflow.cli.replay.consent import Consent
    from dotflow.cli.replay.step import replay_step  # not needed for the help
    from dotflow.cli.replay.target import find_target

    archive = open_history(history)
    consent = Consent(archive.why_foreign())  # before the file is opened, which may change what is beside it
    has_timeout = not options.pop("no_timeout")
    target = find_target(archive, run, step, attempt)
    return replay_step(archive, target, consent, has_timeout=has_timeout, **options)
