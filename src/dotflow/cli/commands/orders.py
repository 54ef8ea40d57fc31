"""`dotflow cancel`, `pause` and `resume`: orders to runs in any process; `approve` and `reject`: answers to them."""

from collections.abc import Callable
from typing import Any, Final

import click

from dotflow.cli.command import Command, F, option
from dotflow.cli.history.options import HISTORY_OPTION
from dotflow.cli.options import with_options

# fmt: off
ORDER_OPTIONS: Final[tuple[Callable[[F], F], ...]] = (
    option("--by", metavar="NAME", example="--by anna", help="Who wants it; by default the user of the system."),
    option("--comment", metavar="TEXT", default="", example="--comment 'wrong day'",
           help="Why: it is kept with the run, or the pause."),
    HISTORY_OPTION,
)
WORKFLOW_OPTION: Final = option(
    "--workflow", metavar="NAME", example="--workflow nightly", help="A workflow by its id, in place of a run.",
)
# fmt: on


@click.command(cls=Command, short_help="Cancel a run that is queued, running or paused.")
@click.argument("run")
@option("--wait", is_flag=True, example="dotflow cancel last --wait", help="Wait for its end, and print how it ended.")
@with_options(ORDER_OPTIONS)
def cancel(run: str, history: str | None, *, wait: bool, **order: Any) -> int:
    """Cancel a run.

    \b
    RUN  an id, the beginning of one, last, or failed

    \b
    dotflow cancel 4f0c9a21 --comment "wrong day"

    What is queued or paused is cancelled at once. A running run looks for orders once a second: a step in a process of
    its own is ended; a step in the program's own thread ends by itself first. Finished steps keep their values.

    Exit code: 0 cancelled or ordered, 2 if there is no such run, or it has ended. With --wait 1 if it ended otherwise.
    """
    from dotflow.cli.control import orders  # not needed for the help

    return orders.order("cancel", run, history, wait=wait, **order)


def _check_one(run: str | None, workflow: str | None) -> None:
    if (run is None) == (not workflow):
        raise click.UsageError("Pass one of the two: RUN, or --workflow NAME.")


@click.command(cls=Command, short_help="Pause a run that is queued or running, or a workflow.")
@click.argument("run", required=False)
@WORKFLOW_OPTION
@with_options(ORDER_OPTIONS)
def pause(run: str | None, workflow: str | None, history: str | None, **order: Any) -> None:
    """Pause a run: its running steps end and are saved, and nothing new begins. Or pause a workflow.

    \b
    RUN  an id, the beginning of one, or last

    \b
    dotflow pause last
    dotflow resume last
    dotflow pause --workflow nightly --comment "the warehouse moves"
    dotflow resume --workflow nightly

    Of a paused workflow queued runs wait, and servers drop its firings. What has begun goes on, and so does a
    `dotflow schedule`, which needs no server.

    Exit code: 0 paused or ordered, 2 if there is no such run or workflow, or the run has ended.
    """
    from dotflow.cli.control import orders  # not needed for the help

    _check_one(run, workflow)
    if run is not None:
        orders.order("pause", run, history, **order)
    elif workflow is not None:
        orders.pause_workflow(workflow, history, **order)


@click.command(cls=Command, short_help="Queue a run that continues another one, or resume a workflow.")
@click.argument("run", required=False)
@WORKFLOW_OPTION
@option(
    "--rerun", multiple=True, metavar="STEP", example="--rerun table",
    help="This task runs again, and what needs it; one option for each.",
)  # fmt: skip
@with_options(ORDER_OPTIONS)
def resume(run: str | None, workflow: str | None, rerun: tuple[str, ...], history: str | None, **order: Any) -> None:
    """Go on with a run that was paused, cancelled or interrupted, or failed or crashed: no finished step runs again.

    \b
    RUN  an id, the beginning of one, last, or failed: the last one that failed

    \b
    dotflow resume failed
    dotflow resume 4f0c9a21 --rerun table

    It queues a run that continues the other one, and `dotflow serve` runs it. A run that has completed needs --rerun.

    With --workflow, it ends the pause of a workflow. Firings that were dropped meanwhile are not made up for.

    Exit code: 0 queued or resumed, 2 if there is no such run or workflow, or the run can't be continued.
    """
    from dotflow.cli.control import orders  # not needed for the help

    _check_one(run, workflow)
    if run is not None:
        orders.resume(run, rerun, history, **order)
    elif workflow is not None:
        if rerun:
            raise click.UsageError("--rerun is about a run. Leave it out, or pass a RUN.")
        orders.resume_workflow(workflow, history, **order)


@click.command(cls=Command, short_help="Answer yes to a task that waits for an approval.")
@click.argument("run")
@click.argument("step", required=False)
@option(
    "--value", metavar="JSON", example="--value '{\"rows\": 300}'", help="What the step takes as `approval.value`.",
)  # fmt: skip
@with_options(ORDER_OPTIONS)
def approve(run: str, step: str | None, value: str | None, history: str | None, **order: Any) -> None:
    """Answer yes to the question of a task that waits for an approval. The first answer counts.

    \b
    RUN   an id, the beginning of one, or last
    STEP  the task that waits, or an item such as page[3].check; not needed where it is the only one

    \b
    dotflow runs --paused
    dotflow approve 4f0c9a21
    dotflow approve 4f0c9a21 publish --comment "looks right"

    A paused run goes on as soon as a process serves its workflow, or with `dotflow start ... --resume`.

    Exit code: 0 answered, 2 if there is no such run, it waits for no answer, or has one.
    """
    from dotflow.cli.control import orders  # not needed for the help

    orders.approve(run, step, history, value, **order)


@click.command(cls=Command, short_help="Answer no to a task that waits for an approval.")
@click.argument("run")
@click.argument("step", required=False)
@with_options(ORDER_OPTIONS)
def reject(run: str, step: str | None, history: str | None, **order: Any) -> None:
    """Answer no to the question of a task that waits for an approval: the task fails. The first answer counts.

    \b
    RUN   an id, the beginning of one, or last
    STEP  the task that waits, or an item such as page[3].check; not needed where it is the only one

    \b
    dotflow reject 4f0c9a21 --comment "the day is not over"

    `dotflow resume RUN --rerun STEP` asks again.

    Exit code: 0 answered, 2 if there is no such run, it waits for no answer, or has one.
    """
    from dotflow.cli.control import orders  # not needed for the help

    orders.reject(run, step, history, **order)
