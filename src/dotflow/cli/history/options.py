"""The options of the commands about runs of the past, and the history that they read."""

import os
from typing import TYPE_CHECKING, Final

import click

from dotflow.cli.command import option
from dotflow.cli.options import DEFAULT_HISTORY
from dotflow.providers.histories.default import HISTORY_VARIABLE, NO_HISTORY

if TYPE_CHECKING:
    from dotflow.providers import HistorySQLite

# fmt: off
HISTORY_OPTION: Final = option(
    "--history", metavar="PATH", example="--history logs/history.db",
    help=f"The file of the runs; ${HISTORY_VARIABLE} or {DEFAULT_HISTORY} by default.",
)
JSON_OPTION: Final = option(
    "--json", "as_json", is_flag=True, example="--json | jq .state", help="Print JSON, one object a line.",
)
# fmt: on


def open_history(path: str | None) -> "HistorySQLite":
    """Returns the history at the path of --history, or at the default one."""
    from dotflow.providers import HistorySQLite

    if path == "":
        raise click.UsageError("--history needs the path of a file.")
    variable = os.environ.get(HISTORY_VARIABLE, NO_HISTORY)
    return HistorySQLite(path or (variable if variable not in ("", NO_HISTORY) else DEFAULT_HISTORY))
