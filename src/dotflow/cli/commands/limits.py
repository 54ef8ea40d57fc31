"""`dotflow limits`: what is used of the limits of steps, and who waits."""

from collections.abc import Sequence
from typing import Any, Final

import click

from dotflow.abc.limits import Held, LimitUse, PartUse
from dotflow.cli.command import Command, option
from dotflow.cli.options import HISTORY_OPTION, JSON_OPTIONS, open_history, print_json
from dotflow.cli.screen import Column, Screen, local, safe
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.limits import MICRO, ONE
from dotflow.errors import NotInHistory
from dotflow.providers.histories.sqlite.places import place_uses
from dotflow.report.document import moment

COLUMNS: Final = (
    Column("Limit", fits=1),
    Column("Used"),
    Column("Held by", fits=2),
    Column("Waits", fits=3),
    Column("Closed"),
)
SHOWN: Final = 3  # attempts of a limit that are named


@click.command(cls=Command)
@click.argument("name", required=False)
@option(
    "--open", "opened", metavar="NAME", example="--open openai",
    help="End the closing of this limit, which a Throttled has begun, and print nothing else.",
)  # fmt: skip
@JSON_OPTIONS
@HISTORY_OPTION
def limits(name: str | None, opened: str | None, as_json: bool, history: str | None) -> None:
    """List the limits and budgets of steps, @action(limit=..., budget=...), with what is used of them now.

    Below, what steps with @action(resources=...) have of this machine.

    \b
    dotflow limits
    dotflow limits openai
    dotflow limits --open openai

    NAME is the name of a limit; without one, all are listed that have been used of late. A limit without a name has
    that of its step: shop.jobs:fetch.

    Exit code: 0; 2 if the history can't be read, or knows no such limit.
    """
    archive = open_history(history)
    store = archive.limits()
    if store is None:
        raise NotInHistory("Can't list the limits", "this history does not count any")
    if opened is not None:
        if not store.open(opened):
            raise NotInHistory(f"Can't open the limit {opened!r}", "it is not closed")
        click.echo(f"The limit '{safe(opened)}' is open.")
        return
    found = [use for use in (*store.uses(), *place_uses()) if name in (None, use.name)]
    if name is not None and not found:
        raise NotInHistory(f"Can't find the limit {name!r}", "no step has used it of late")
    if as_json:
        print_json(map(limit_object, found))
    elif found:
        _print_table(found)
    else:
        click.echo(f"No limits in {safe(archive.database.place)}: no step with @action(limit=...) has begun.", err=True)


def limit_object(use: LimitUse) -> dict[str, Any]:
    """Returns a limit as JSON; a period is in seconds, and null for attempts at once, and for a run."""
    return {
        "name": use.name,
        "is_place": use.is_place,
        "parts": [
            {
                "text": one.part.text,
                "amount": _number(one.part.amount),
                "unit": one.part.unit or None,
                "period": one.part.period // MICRO if one.part.period > 0 else None,
                "used": _number(one.used),
                "estimated": _number(one.estimated),
                "is_budget": one.is_budget,
                "run_id": one.run or None,
            }
            for one in use.parts
        ],
        "held": list(map(_attempt, use.held)),
        "waits": list(map(_attempt, use.waits)),
        "closed": use.closed and moment(use.closed),
        "closed_by": use.closed_by or None,
    }


def _attempt(held: Held) -> dict[str, Any]:
    return {"run_id": held.run, "task": held.task, "since": moment(held.since)}


def _print_table(found: Sequence[LimitUse]) -> None:
    screen = Screen()
    for line in screen.table(COLUMNS, [_row(use) for use in found]):
        screen.line(line)


def _row(use: LimitUse) -> list[str]:
    closed = "" if use.closed is None else f"until {local(use.closed)} by {safe(use.closed_by)}"
    used = ", ".join(map(_used, use.parts))
    return [safe(use.name) + " (this machine)" * use.is_place, used, _named(use.held), _named(use.waits), closed]


def _used(use: PartUse) -> str:
    """Returns what is used of a part: `3 of 10/min`, `$4.97 of $5/run of 4f0c1234, $0.20 of it estimated`."""
    number = use.part.shown(use.used).removesuffix(f" {use.part.unit}")
    run = f" of {use.run[:ID_LENGTH]}" if use.run else ""
    estimated = f", {use.part.shown(use.estimated)} of it estimated" if use.estimated and use.part.period else ""
    return f"{number} of {use.part.text}{run}{estimated}"


def _number(amount: int) -> float:
    """Returns an amount in millionths as a number: a whole one where it is."""
    return amount / ONE if amount % ONE else amount // ONE


def _named(held: Sequence[Held]) -> str:
    names = ", ".join(f"{safe(one.run)} {safe(one.task)}" for one in held[:SHOWN])
    return f"{names} and {len(held) - SHOWN} more" if len(held) > SHOWN else names
