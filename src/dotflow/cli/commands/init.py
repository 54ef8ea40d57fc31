"""`dotflow init`: a small complete project that runs at once."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from dotflow.cli.command import Command
from dotflow.cli.project.create import SAMPLE, add, make, rendered
from dotflow.cli.project.install_source import Origin, origin
from dotflow.cli.project.names import Names, names_of, near_names
from dotflow.cli.project.wheel import pack

EXAMPLES: Final = """
\b
dotflow init                     in the folder where you are, beside what is there
dotflow init my-project          a new folder my-project, with the package my_project
dotflow init ~/code/my-project   the same, elsewhere
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("name", required=False)
@click.pass_context
def init(context: click.Context, name: str | None) -> None:
    """Make a project: a pipeline with its tests, ready to run.

    Without NAME it is made in the current folder and named after it; where one of its files is there already, nothing
    is written. NAME is another folder, which must not exist yet, or be empty; the last part of it is what the project
    is called. Nothing is fetched, and nothing is overwritten.
    """
    folder = Path() if name is None else Path(_given(context, name))
    names = near_names(_called(folder), SAMPLE.project) if name is None else names_of(_called(folder))
    source = origin()
    wheel = pack() if source.requirement is None else None
    files = rendered(names, source, wheel)
    if name is None:
        add(folder, files)
    else:
        make(folder, files)
    _tell(folder, names, source, files)


def _given(context: click.Context, name: str) -> str:
    if not name.strip():
        raise click.UsageError("NAME is empty. Say what the project is to be called: dotflow init my-project.", context)
    return name


def _called(folder: Path) -> str:
    """What a project in that folder is called: `.` and `..` have names, too."""
    try:
        return folder.name if folder.name not in {"", ".."} else folder.resolve().name
    except OSError as error:  # the folder where we are was removed
        raise click.ClickException(f"Can't tell where {folder} is: {error.strerror}.") from error


def _tell(folder: Path, names: Names, source: Origin, files: Iterable[str]) -> None:
    """What was made, and what to do next."""
    colour = False if os.environ.get("NO_COLOR") else None  # None: as the terminal has it
    click.echo(click.style(f"{names.project}/", bold=True), color=colour)
    for line in tree(files):
        click.echo(f"  {line}")
    if source.requirement is None or " @ " in source.requirement:
        where = source.requirement or "the copy of it in wheels/"
        click.echo(
            f"\nThis dotflow came from no package index, so the project depends on {where}. "
            "To take it from an index one day, change the first line under 'dependencies' in pyproject.toml."
        )
    click.echo("\nNext:")
    here = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(click.format_filename(folder))}"]
    for command in [
        *here,
        "pip install -e '.[test]' && pytest",
        f"dotflow start --workflow {names.package}.pipeline:build_workflow",
    ]:
        click.echo("  " + click.style(command, fg="cyan"), color=colour)


def tree(files: Iterable[str]) -> list[str]:
    """The files' paths as lines, those of a folder indented under it."""
    lines: list[str] = []
    shown = ""
    for path in sorted(files, key=lambda path: ("/" not in path, path)):
        folder, _, name = path.rpartition("/")
        if folder and folder != shown:
            lines.append(f"{folder}/")
            shown = folder
        lines.append(f"  {name}" if folder else name)
    return lines
