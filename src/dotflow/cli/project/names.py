"""What a new project may be called, and what its import package is called then."""

import importlib.util
import keyword
import re
import sys
import unicodedata
from collections.abc import Callable
from typing import Final, NamedTuple

import click

#: As in packaging.python.org/specifications/name-normalization
PROJECT_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
MAX_LENGTH: Final = 60  # characters; beyond it the lines of the made project would no longer be as a formatter has them

#: What the made project consists of or is checked with: a package of that name would stand in its way.
IN_USE: Final = frozenset(
    {"build", "conftest", "dist", "hatchling", "mypy", "output", "pip", "pytest", "ruff", "setuptools", "src"}
    | {"test", "tests", "wheel", "wheels"}
)


class Names(NamedTuple):
    """A project's name, as pip and readers know it, and the name that is imported."""

    project: str
    package: str


def is_installed(package: str) -> bool:
    """Whether an import of that name finds something already; a mere folder on the path does not count."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def names_of(project: str, installed: Callable[[str], bool] = is_installed) -> Names:
    """The names of a project that is called *project*.

    Args:
        project: What the user typed, or the last part of the path that they typed.
        installed: Whether a package of that import name is there already.

    Raises:
        click.UsageError: It can't be called that; the message says why and proposes another name.
    """
    package = _package(project)
    objection = _objection(project, package, installed)
    if objection is None:
        return Names(project, package)
    suggestion = _suggestion(project, installed)
    hint = f" Did you mean '{suggestion}'?" if suggestion else ""
    message = f"A project can't be called {project!r}: {objection}.{hint}"
    raise click.UsageError(message, click.get_current_context(silent=True))


def nearest_names(text: str, default: str, installed: Callable[[str], bool] = is_installed) -> Names:
    """Makes the names of a project out of any text, such as a folder's name.

    Args:
        text: It is the project's name itself where that will do, else what is like it.
        otherwise: What the project is called where nothing of the text will do.
        installed: Whether a package of that import name is there already.
    """
    return names_of(_suggestion(text, installed) or default, installed)


def _package(project: str) -> str:
    return re.sub(r"[-_.]+", "_", project).lower()


def _objection(project: str, package: str, installed: Callable[[str], bool]) -> str | None:
    """What speaks against the name; None if nothing does."""
    if not PROJECT_NAME.fullmatch(project):
        return "a name is made of the letters a to z, digits and, between them, '-', '_' or '.'"
    if len(project) > MAX_LENGTH:
        return f"it has {len(project)} characters, and {MAX_LENGTH} are the most"
    if package[0].isdigit():
        return f"it would be imported as '{package}', and that can't begin with a digit"
    if keyword.iskeyword(package):
        return f"it would be imported as '{package}', which is a word of Python's grammar"
    if package in sys.stdlib_module_names:
        return f"it would be imported as '{package}', like the module of Python's own"
    if package == "dotflow":
        return "that is this library's own name"
    if package in IN_USE:
        return f"'{package}' is what the project itself has a use for"
    if installed(package):
        return f"it would be imported as '{package}', and a package of that name is installed here already"
    return None


def _suggestion(project: str, installed: Callable[[str], bool]) -> str | None:
    """A name like it that could be used."""
    letters = unicodedata.normalize("NFKD", project).encode("ascii", "ignore").decode()
    ascii_name = re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._")
    digits, rest = re.fullmatch(r"([\d._-]*)(.*)", ascii_name).groups()  # type: ignore[union-attr]  # it always matches
    rotated = f"{rest}-{digits.strip('-._')}"
    for candidate in (ascii_name, rotated, f"{ascii_name}-pipeline", f"pipeline-{ascii_name}"):
        if _objection(candidate, _package(candidate), installed) is None:
            return candidate
    return None
