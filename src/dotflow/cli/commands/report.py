"""`dotflow report`: one run of the past as a page."""

import sys

import click

from dotflow.cli.command import Command, option
from dotflow.cli.options import HISTORY_OPTION, RunArgument, open_history
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.providers.storages.safe_name import safe_name
from dotflow.report.document import read_document
from dotflow.report.page import make_page, write_page
from dotflow.report.text import size_text


@click.command(cls=Command)
@click.argument("run", type=RunArgument(), default="last")
@option(
    "-o", "--output", metavar="FILE", example="-o run.html",
    help="The file, or - for stdout; run-ID.html in the current folder by default. An earlier file is replaced.",
)  # fmt: skip
@HISTORY_OPTION
def report(run: str, output: str | None, history: str | None) -> None:
    """Write a run of the past as one HTML file: what went wrong, timeline, graph, tasks, output, environment.

    Without RUN, it is the last one.

    \b
    dotflow report failed
    dotflow report 7f3a9c12 -o run.html
    dotflow report last -o - > run.html

    The file fetches nothing, so it can be mailed or archived. It holds what the run printed, and short texts of values.

    Exit code: 0, or 2 if there is no such run, or the file can't be written.
    """
    if output == "":
        raise click.UsageError("--output needs the path of a file, or -.")
    document = read_document(open_history(history), run, history)
    path = f"run-{safe_name(document['run']['run_id'][:ID_LENGTH])}.html" if output is None else output
    try:
        if path == "-":
            sys.stdout.buffer.write(make_page(document).encode())
            return
        written = write_page(path, document)
    except BrokenPipeError:  # the reader of stdout has ended
        raise
    except (OSError, ValueError) as error:  # a path with a NUL
        cause = getattr(error, "strerror", None) or error
        raise click.ClickException(f"Can't write the report to {path}: {cause}.") from error
    if written.is_file():
        click.echo(f"Wrote {written}, {size_text(written.stat().st_size)}.")
