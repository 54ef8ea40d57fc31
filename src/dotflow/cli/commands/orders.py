"""`dotflow cancel`, `pause` and `resume`: orders to runs in any process."""

from collections.abc import Callable
from typing import Final

import click

from dotflow.cli.command import Command, F, option
from dotflow.cli.history.options import HISTORY_OPTION
from dotflow.cli.options import with_options

# fmt: off
ORDER_OPTIONS: Final[tuple[Callable[[F], F], ...]] = (
    option("--by", metavar="NAME", example="--by anna", help="Who wants it; by default the user of the system."),
    option("--comment", metavar="TEXT", default="", example="--comment 'wrong day'",
           help="Why: it is kept with the run."),
    HISTORY_OPTION,
)
# fmt: on


@click.command(cls=Command, short_help="Cancel a run that is queued, running or paused.")
@click.argument("run")
@with_options(ORDER_OPTIONS)
def cancel(run: str, history: str | None, by: str | None, comment: str) -> None:
    """Cancel a run.

    \b
    RUN  an id, the beginning of one, last, or failed

    \b
    dotflow cancel 4f0c9a21 --comment "wrong day"

    What is queued or paused is cancelled at once. A running run looks for orders once a second: a step in a process of
    its own is ended; a step in the program's own thread ends by itself first. Finished steps keep their values.

    Exit code: 0 cancelled or ordered, 2 if there is no such run, or it has ended.
    """
    from dotflow.cli.control.orders import order  # not needed for the help

    order("cancel", run, history, by, comment)


@click.command(cls=Command, short_help="Pause a run that is queued or running.")
@click.argument("run")
@with_options(ORDER_OPTIONS)
def pause(run: str, history: str | None, by: str | None, comment: str) -> None:
    """Pause a run: its running steps end and are saved, and nothing new begins.

    \b
    RUN  an id, the beginning of one, or last

    \b
    dotflow pause last
    dotflow resume last

    Exit code: 0 paused or ordered, 2 if there is no such run, or it has ended.
    """
    from dotflow.cli.control.orders import order  # not needed for the help

    order("pause", run, history, by, comment)


@click.command(cls=Command, short_help="Queue a run that continues another one.")
@click.argument("run")
@option(
    "--rerun", multiple=True, metavar="STEP", example="--rerun table",
    help="This task runs again, and what needs it; one option for each.",
)  # fmt: skip
@with_options(ORDER_OPTIONS)
def resume(run: str, rerun: tuple[str, ...], history: str | None, by: str | None, comment: str) -> None:
    """Go on with a run that was paused, cancelled or interrupted, or failed or crashed: no finished step runs again.

    \b
    RUN  an id, the beginning of one, last, or failed: the last one that failed

    \b
    dotflow resume failed
    dotflow resume 4f0c9a21 --rerun table

    It queues a run that continues the other one, and `dotflow serve` runs it. A run that has completed needs --rerun.

    Exit code: 0 queued, 2 if there is no such run, or it can't be continued.
    """
    from dotflow.cli.control import orders  # not needed for the help

    orders.resume(run, rerun, history, by, comment)
