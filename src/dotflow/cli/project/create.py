"""A new project: the template's files in the project's own words, written all together or not at all."""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from dotflow.cli.project.install_source import Origin
from dotflow.cli.project.names import Names

TEMPLATE: Final = Path(__file__).parents[1] / "template"
ENDING: Final = ".tmpl"  # so that no tool takes the template for a part of dotflow
SAMPLE: Final = Names(project="my-project", package="my_project")  # what the template itself is called
IMAGE: Final = "python:3.13-slim"
IMAGE_WITH_GIT: Final = "python:3.13"

#: Where the wheel is that a project brings along, as hatchling writes it: a path from the project's own folder.
BROUGHT: Final = "dotflow @ {root:uri}/wheels/%s"
#: Without it hatchling refuses a dependency that says where it is.
ALLOWED: Final = "\n[tool.hatch.metadata]\nallow-direct-references = true\n"
#: ruff takes that path for a mistake.
EXCUSED: Final = '\n[tool.ruff.lint.per-file-ignores]\n"pyproject.toml" = ["RUF200"]  # {root:uri} is hatchling\'s\n'


def rendered(names: Names, origin: Origin, wheel: tuple[str, bytes] | None) -> dict[str, bytes]:
    """The files of a project, by their path in it.

    Args:
        names: What it is called.
        origin: How it asks for dotflow.
        wheel: The file name and content of the wheel that it brings along; needed where the origin has no requirement.
    """
    files = {}
    for path in sorted(TEMPLATE.rglob(f"*{ENDING}")):
        place = path.relative_to(TEMPLATE).as_posix().removesuffix(ENDING)
        files[_in_words_of(names, place)] = _in_words_of(names, path.read_text("utf-8")).encode()
    requirement = origin.requirement or BROUGHT % (wheel or ("",))[0]
    _fill(files, "Dockerfile", "IMAGE", IMAGE_WITH_GIT if origin.needs_git else IMAGE)
    _fill(files, "pyproject.toml", '"DOTFLOW"', json.dumps(requirement))  # a JSON string is one of TOML, too
    if " @ " in requirement:
        files["pyproject.toml"] += ALLOWED.encode()
    if wheel is not None:
        files["pyproject.toml"] += EXCUSED.encode()
        files[f"wheels/{wheel[0]}"] = wheel[1]
    return files


def _in_words_of(names: Names, text: str) -> str:
    return text.replace(SAMPLE.package, names.package).replace(SAMPLE.project, names.project)


def _fill(files: dict[str, bytes], path: str, blank: str, words: str) -> None:
    files[path] = files[path].replace(blank.encode(), words.encode(), 1)


def make(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes *files* into a new folder, or one that is empty but for a .git.

    They are written in a folder beside it, or inside it, and moved when all are there.

    Raises:
        click.ClickException: The folder is not empty, or something can't be written; nothing is left behind.
    """
    try:
        is_new = not os.path.lexists(folder)
        _check(folder, is_new)
        # Also a claim: of two at once the second can't make it.
        stage = (folder.parent if is_new else folder) / f".{folder.resolve().name}.partial"
        _claim(stage)
        _write_and_move(folder, stage, files, is_new)
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(f"Can't make the project in {folder}: {reason}. Nothing was made.") from error


def add(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes *files* into a folder beside what is there; no file that is there is touched.

    Raises:
        click.ClickException: Some of them are there already, or something can't be written; nothing is left behind.
    """
    there = [place for place in files if _stands_in_the_way(folder, place)]
    if there:
        raise click.ClickException(
            f"Nothing was written, since nothing is ever overwritten, and these are here already: {', '.join(there)}. "
            f"Move them away, or make the project in a folder of its own: dotflow init {SAMPLE.project}."
        )
    made: list[Path] = []
    try:
        for place, content in files.items():
            _write_new(folder / place, content, made)
    except BaseException as error:  # a full disk, Ctrl-C: whatever it is, it goes on from here
        for path in reversed(made):
            with contextlib.suppress(OSError):  # a folder into which something has come meanwhile stays
                path.unlink() if not path.is_dir() else path.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise click.ClickException(f"Can't make the project here: {reason}. Nothing was made.") from error
        raise


def _stands_in_the_way(folder: Path, place: str) -> bool:
    """Whether something has the place of a file, or a file that of a folder on the way to it."""
    path = folder / place
    return os.path.lexists(path) or any(os.path.lexists(above) and not above.is_dir() for above in path.parents)


def _write_new(path: Path, content: bytes, made: list[Path]) -> None:
    """Writes a file that is not there yet, with its folders, and notes in *made* what it makes."""
    for above in reversed([each for each in path.parents if not each.exists()]):
        above.mkdir()
        made.append(above)
    with path.open("xb") as file:
        made.append(path)
        file.write(content)


def _check(folder: Path, is_new: bool) -> None:
    if is_new:
        if not folder.parent.is_dir():
            raise click.ClickException(
                f"{folder} can't be made: there is no folder {folder.parent}. Make it first, with mkdir -p."
            )
    elif not folder.exists():
        raise click.ClickException(f"{folder} is a link that leads nowhere. Remove it, or choose another name.")
    elif not folder.is_dir():
        raise click.ClickException(f"{folder} is a file. Choose another name, or move it away.")
    else:
        _check_empty(folder)


def _check_empty(folder: Path, but: str | None = None) -> None:
    there = sorted({entry.name for entry in folder.iterdir()} - {".git", but})
    if there:
        shown = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
        cure = (
            "'dotflow init' alone makes it beside that"
            if folder == Path()
            else "choose another name, or an empty folder"
        )
        raise click.ClickException(f"{folder} is not empty: {shown}. Nothing is ever overwritten: {cure}.")


def _claim(stage: Path) -> None:
    try:
        stage.mkdir()
    except FileExistsError:
        raise click.ClickException(
            f"{stage} is there: another 'dotflow init' is at work, or one was killed. Wait for it, or remove it."
        ) from None


def _write_and_move(folder: Path, stage: Path, files: Mapping[str, bytes], is_new: bool) -> None:
    moved: list[Path] = []
    try:
        for place, content in files.items():
            path = stage / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if is_new:
            stage.rename(folder)  # fails where something has come there meanwhile
            return
        _check_empty(folder, but=stage.name)
        for entry in sorted(stage.iterdir()):
            moved.append(folder / entry.name)
            entry.rename(folder / entry.name)
        stage.rmdir()
    except BaseException:  # a full disk, Ctrl-C: whatever it is, it goes on from here
        for path in [stage, *moved]:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise
