"""`dotflow approve` and `reject`: answers to the questions of tasks that wait for an approval."""

import click

from dotflow.cli.command import Command, option
from dotflow.cli.commands.orders import ORDER_OPTIONS
from dotflow.cli.options import with_options


@click.command(cls=Command, short_help="Answer yes to a task that waits for an approval.")
@click.argument("run")
@click.argument("step", required=False)
@option(
    "--value", metavar="JSON", example="--value '{\"rows\": 300}'", help="What the step takes as `approval.value`.",
)  # fmt: skip
@with_options(ORDER_OPTIONS)
def approve(run: str, step: str | None, value: str | None, history: str | None, by: str | None, comment: str) -> None:
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
    from dotflow.cli.control.answers import answer  # not needed for the help

    answer(run, step, history, is_yes=True, value=value, by=by, comment=comment)


@click.command(cls=Command, short_help="Answer no to a task that waits for an approval.")
@click.argument("run")
@click.argument("step", required=False)
@with_options(ORDER_OPTIONS)
def reject(run: str, step: str | None, history: str | None, by: str | None, comment: str) -> None:
    """Answer no to the question of a task that waits for an approval: the task fails. The first answer counts.

    \b
    RUN   an id, the beginning of one, or last
    STEP  the task that waits, or an item such as page[3].check; not needed where it is the only one

    \b
    dotflow reject 4f0c9a21 --comment "the day is not over"

    `dotflow resume RUN --rerun STEP` asks again.

    Exit code: 0 answered, 2 if there is no such run, it waits for no answer, or has one.
    """
    from dotflow.cli.control.answers import answer  # not needed for the help

    answer(run, step, history, is_yes=False, value=None, by=by, comment=comment)
