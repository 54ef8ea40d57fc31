"""`dotflow init`: a small complete project."""

import shlex
from pathlib import Path
from typing import Final

import click

from dotflow.cli.command import Command
from dotflow.cli.project.create import SAMPLE, add, make, render
from dotflow.cli.project.names import names_of, nearest
from dotflow.cli.project.wheel import index_requirement, installed, pack

EXAMPLES: Final = """
\b
dotflow init                     in the current folder, beside its own files
dotflow init my-project          a new folder my-project, with the package my_project
dotflow init ~/code/my-project   the same, elsewhere
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("name", required=False)
def init(name: str | None) -> None:
    """Make a project: a pipeline with its tests, ready to run.

    Without NAME it goes into the current folder and takes its name. NAME is another folder, new or empty; its last part
    is the name of the project. No file is overwritten, and nothing is downloaded.
    """
    folder = Path(name or "")
    own = _name_of(folder)
    names = names_of((nearest(own) or SAMPLE.project) if name is None else own)
    requirement = index_requirement(installed())
    files = render(names, requirement or pack())
    if name is None:
        add(folder, files)
    else:
        make(folder, files)
    click.echo(f"{names.project}/")
    for path in sorted(files):
        click.echo(f"  {path}")
    if requirement is None:
        click.echo(
            "\nThis dotflow did not come from a package index, so the project depends on its copy in wheels/. "
            "To use an index later, change the first line under 'dependencies' in pyproject.toml."
        )
    click.echo("\nNext:")
    here = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(click.format_filename(folder))}"]
    for command in [
        *here,
        "pip install -e '.[test]' && pytest",
        f"dotflow start --workflow {names.package}.pipeline:build_workflow",
    ]:
        click.echo(f"  {command}")


def _name_of(folder: Path) -> str:
    try:
        return folder.name if folder.name not in {"", ".."} else folder.resolve().name
    except OSError as error:  # the current folder was removed
        raise click.ClickException(f"Can't find the folder {folder}: {error.strerror}. Use cd to leave it.") from error
