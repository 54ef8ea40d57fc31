"""The names of a new project and of its import package."""

import importlib.util
import keyword
import re
import sys
import unicodedata
from typing import Final, NamedTuple

import click

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
