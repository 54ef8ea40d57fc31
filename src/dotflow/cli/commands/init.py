"""`dotflow init`: a small complete project."""

import contextlib
import importlib.util
import keyword
import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import click

from dotflow.cli.command import Command
from dotflow.cli.wheel import Wheel, index_requirement, installed, pack

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


#: As in packaging.python.org/specifications/name-normalization
PROJECT_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
MAX_LENGTH: Final = 60  # characters; with longer names a formatter would change the project's lines

#: Names that the project and its tools use themselves.
IN_USE: Final = frozenset(
    {"build", "conftest", "dist", "hatchling", "mypy", "output", "pip", "pytest", "ruff", "setuptools", "src"}
    | {"test", "tests", "wheel", "wheels"}
)


class ProjectNames(NamedTuple):
    """The name of a project, and of the package that is imported."""

    project: str
    package: str


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


def is_installed(package: str) -> bool:
    """Returns whether a package can be imported; a mere folder on the path does not count."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def names_of(project: str) -> ProjectNames:
    """Returns the names of a project.

    Raises:
        click.UsageError: The name is invalid; the message suggests another one.
    """
    package = _package(project)
    objection = _objection(project, package)
    if objection is None:
        return ProjectNames(project, package)
    near = nearest(project)
    hint = f" Did you mean '{near}'?" if near else ""
    message = f"Invalid project name {project!r}: {objection}.{hint}"
    raise click.UsageError(message, click.get_current_context(silent=True))


def _package(project: str) -> str:
    return re.sub(r"[-_.]+", "_", project).lower()


def _objection(project: str, package: str) -> str | None:
    if not PROJECT_NAME.fullmatch(project):
        return "use the letters a to z, digits and, between them, '-', '_' or '.'"
    if len(project) > MAX_LENGTH:
        return f"it has {len(project)} characters, and the limit is {MAX_LENGTH}"
    if package[0].isdigit():
        return f"its package '{package}' can't begin with a digit"
    if keyword.iskeyword(package):
        return f"its package '{package}' would be a keyword of Python"
    if package in sys.stdlib_module_names:
        return f"its package '{package}' would hide a module of Python"
    if package == "dotflow":
        return "this library has that name"
    if package in IN_USE:
        return f"the project itself uses '{package}'"
    if is_installed(package):
        return f"a package '{package}' is installed already"
    return None


def nearest(project: str) -> str | None:
    """Returns the valid name of a project that is nearest to a text; None if none is near."""
    letters = unicodedata.normalize("NFKD", project).encode("ascii", "ignore").decode()
    ascii_name = re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._")
    for candidate in (ascii_name, f"{ascii_name}-pipeline", f"pipeline-{ascii_name}"):
        if _objection(candidate, _package(candidate)) is None:
            return candidate
    return None
