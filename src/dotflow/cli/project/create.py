"""A new project: the template's files with the project's names, written all together or not at all."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from dotflow.cli.project.names import ProjectNames
from dotflow.cli.project.wheel import Wheel

TEMPLATE: Final = Path(__file__).parents[1] / "template"
SUFFIX: Final = ".tmpl"  # keeps tools from taking the template for a part of dotflow
SAMPLE: Final = ProjectNames(project="my-project", package="my_project")  # the names in the template

#: The requirement of a project that carries a wheel: hatchling puts the project's folder in place of {root:uri}.
WHEEL_REQUIREMENT: Final = "dotflow[scheduler] @ {root:uri}/wheels/%s"
#: hatchling refuses a direct reference without the first table, and ruff a placeholder without the second.
WHEEL_SETTINGS: Final = b"""
[tool.hatch.metadata]
allow-direct-references = true

[tool.ruff.lint.per-file-ignores]
"pyproject.toml" = ["RUF200"]  # {root:uri} is hatchling's
"""


def render(names: ProjectNames, dotflow: str | Wheel) -> dict[str, bytes]:
    """Returns the files of a project, by their path in it.

    Args:
        names: The names of the project.
        dotflow: The requirement that an index fulfils, or the wheel that the project carries.
    """
    files = {}
    for source in sorted(TEMPLATE.rglob(f"*{SUFFIX}")):
        path = source.relative_to(TEMPLATE).as_posix().removesuffix(SUFFIX)
        files[_replace_names(path, names)] = _replace_names(source.read_text("utf-8"), names).encode()
    if isinstance(dotflow, Wheel):
        files[f"wheels/{dotflow.name}"] = dotflow.content
        files["pyproject.toml"] += WHEEL_SETTINGS
    requirement = WHEEL_REQUIREMENT % dotflow.name if isinstance(dotflow, Wheel) else dotflow
    files["pyproject.toml"] = files["pyproject.toml"].replace(b"DOTFLOW", requirement.encode())
    return files


def _replace_names(text: str, names: ProjectNames) -> str:
    return text.replace(SAMPLE.package, names.package).replace(SAMPLE.project, names.project)


def make(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes *files* into a new folder, or one that is empty but for a .git.

    Raises:
        click.ClickException: The folder is not empty, or a file can't be written; nothing is left behind.
    """
    with _explained(folder):
        obstacle = _obstacle(folder)
        if obstacle is not None:
            raise click.ClickException(f"Can't make the project in {folder}: {obstacle}")
    add(folder, files)


def add(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes *files* into a folder, beside its own files, which stay as they are.

    Raises:
        click.ClickException: A file exists already, or can't be written; nothing is left behind.
    """
    existing = [path for path in files if _is_taken(folder / path)]
    if existing:
        raise click.ClickException(
            f"Can't make the project here: these files exist already: {', '.join(existing)}. "
            f"Move them away, or use a new folder: dotflow init {SAMPLE.project}."
        )
    created: list[Path] = []
    try:
        with _explained(folder):
            for path, content in files.items():
                _create(folder / path, content, created)
    except BaseException:  # Ctrl-C, too
        for made in reversed(created):
            with contextlib.suppress(OSError):  # another program has written into the folder meanwhile
                made.rmdir() if made.is_dir() else made.unlink()
        raise


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(f"Can't make the project in {folder}: {reason}. Nothing was made.") from error


def _is_taken(path: Path) -> bool:
    """Returns whether the path exists, or a file stands where it needs a folder."""
    return os.path.lexists(path) or any(os.path.lexists(parent) and not parent.is_dir() for parent in path.parents)


def _create(path: Path, content: bytes, created: list[Path]) -> None:
    """Writes a new file and its folders, and adds each of them to *created*."""
    for parent in reversed([folder for folder in path.parents if not folder.exists()]):
        parent.mkdir()
        created.append(parent)
    with path.open("xb") as file:
        created.append(path)
        file.write(content)


def _obstacle(folder: Path) -> str | None:
    """Returns why a project can't be made in a folder, and what to do; None if it can."""
    if not os.path.lexists(folder):
        return None if folder.parent.is_dir() else f"there is no folder {folder.parent}. Make it first, with mkdir -p."
    if not folder.exists():
        return "it is a link that leads nowhere. Remove it, or choose another name."
    if not folder.is_dir():
        return "it is a file. Choose another name, or move it away."
    names = sorted({entry.name for entry in folder.iterdir()} - {".git"})
    if not names:
        return None
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    cure = "Run 'dotflow init' without a name" if folder == Path() else "Choose another name, or an empty folder"
    return f"it is not empty: {listed}. {cure}."
