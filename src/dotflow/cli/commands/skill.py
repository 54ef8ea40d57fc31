"""`dotflow skill`: what a coding agent should know, as a file."""

from importlib.resources import files
from pathlib import Path
from typing import Final

import click

from dotflow.cli.command import Command, option

DEFAULT_FOLDER: Final = ".claude/skills"  # of Claude Code; Cursor and Copilot read it, too
SKILL: Final = Path("dotflow", "SKILL.md")


@click.command(cls=Command)
@option(
    "--install", "folder", is_flag=False, flag_value=DEFAULT_FOLDER, metavar="[FOLDER]",
    example="--install .agents/skills",
    help=f"Write it to {SKILL} below this folder of skills; {DEFAULT_FOLDER} by default, where Claude Code, Cursor and "
         "Copilot look. Codex, Gemini CLI and others look in .agents/skills. An earlier file is replaced.",
)  # fmt: skip
def skill(folder: str | None) -> None:
    """Print what a coding agent should know to find out why a run failed, and to go on with it.

    \b
    dotflow skill
    dotflow skill --install
    dotflow skill --install .agents/skills

    It is one file in the open format of agent skills, SKILL.md.

    Exit code: 0, or 2 if the file can't be written.
    """
    text = skill_text()
    if folder is None:
        click.echo(text, nl=False)
        return
    path = Path(folder) / SKILL
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise click.ClickException(f"Can't write the skill to {path}: {error.strerror}.") from error
    click.echo(f"Wrote {path}.")


def skill_text() -> str:
    """Returns the skill as Markdown with front matter."""
    return files("dotflow.cli").joinpath("skill.md").read_text()
