"""`dotflow completion`: tab completion of the command line, for bash, zsh and fish."""

import os
import shlex
from pathlib import Path
from typing import Final

import click

from dotflow.cli.command import Command, option
from dotflow.cli.completion import SHELLS, script

#: The files that shells read at their start; fish reads a folder of completions.
STARTS: Final = {"bash": "~/.bashrc", "zsh": "~/.zshrc"}


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@option("--install", is_flag=True, example="dotflow completion --install", help="Write it where the shell reads it.")
def completion(shell: str | None, install: bool) -> None:
    """Print the tab completion for bash, zsh or fish: of commands, runs, tasks and workflows.

    \b
    dotflow completion --install
    dotflow completion bash > dotflow.bash

    Without a shell, it is that of $SHELL. --install writes a file, and for bash and zsh a line that reads it at the end
    of ~/.bashrc or ~/.zshrc. New shells complete then.

    Exit code: 0, or 2 if it is another shell, or a file can't be written.
    """
    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise click.UsageError(f"Which shell is it? Pass one: {', '.join(SHELLS)}.")
    if not install:
        click.echo(script(shell), nl=False)
        return
    try:
        for path in install_in(shell):
            click.echo(f"Wrote {path}.")
    except OSError as error:
        raise click.ClickException(f"Can't write {error.filename}: {error.strerror}.") from error
    click.echo(f"A new {shell} completes what stands behind `dotflow`.")


def install_in(shell: str) -> list[Path]:
    """Writes the completion of a shell, and returns the files that were written. A second time changes nothing more."""
    home = Path.home()
    data, settings = _folder("XDG_DATA_HOME", home / ".local/share"), _folder("XDG_CONFIG_HOME", home / ".config")
    path = settings / "fish/completions/dotflow.fish" if shell == "fish" else data / f"dotflow/completion.{shell}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(shell))
    if shell not in STARTS:
        return [path]
    start, line = Path(STARTS[shell]).expanduser(), f"source {shlex.quote(str(path))}"
    before = start.read_text(errors="surrogateescape") if start.exists() else ""
    if line in before.splitlines():
        return [path]
    with start.open("a") as file:  # which may be a link to another file
        file.write(f"{'' if before.endswith(chr(10)) or not before else chr(10)}{line}\n")
    return [path, start]


def _folder(variable: str, default: Path) -> Path:
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else default
