"""`dotflow diff`: what differs between two runs."""

import click

from dotflow.cli.command import Command, option
from dotflow.cli.exit_codes import Exit
from dotflow.cli.history.options import HISTORY_OPTION, JSON_OPTION


@click.command(cls=Command, short_help="Compare two runs.")
@click.argument("first")
@click.argument("second")
@option(
    "--exit-code", is_flag=True, example="dotflow diff last 4f0c9a21 --exit-code",
    help="Exit with 1 if anything differs but durations, CPU and memory.",
)  # fmt: skip
@JSON_OPTION
@HISTORY_OPTION
def diff(first: str, second: str, exit_code: bool, as_json: bool, history: str | None) -> int:
    """Compare two runs: only what differs is printed.

    \b
    dotflow diff 4f0c9a21 last

    Compared are code, environment, parameters, values and states. Durations, CPU time and memory of a step differ
    from a fifth on. Runs are named as in dotflow show.
    """
    from dotflow.cli.history.as_json import print_json
    from dotflow.cli.history.diff_page import print_differences
    from dotflow.cli.history.options import open_history
    from dotflow.report.differences import MEASURES, differences

    archive = open_history(history)
    before, after = archive.load(first), archive.load(second)
    changes = list(differences(archive, before, after))
    if as_json:
        print_json(difference._asdict() for difference in changes)
    else:
        print_differences(before, after, changes)
    is_different = any(difference.kind not in MEASURES for difference in changes)
    return Exit.FAILED if exit_code and is_different else Exit.COMPLETED
