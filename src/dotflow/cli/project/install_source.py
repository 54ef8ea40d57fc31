"""Where the running dotflow came from, and so how a new project gets it.

The name "dotflow" on a package index may lead to another library. So a project requires dotflow by name and version
only if its own dotflow came from an index. Otherwise it carries a wheel: a path would lead nowhere in a container, in
CI and on a colleague's machine.
"""

import json
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import dotflow

HERE: Final = Path(dotflow.__file__).resolve().parent

#: packaging.python.org/specifications/direct-url: an installer writes it unless it took the package from an index.
DIRECT_URL: Final = "direct_url.json"


def index_requirement(installation: Distribution | None) -> str | None:
    """Returns the requirement that leads to an installation from an index; None for any other."""
    if installation is None or installation.read_text(DIRECT_URL) is not None:
        return None
    major, minor, *_ = installation.version.split(".")
    return f"dotflow[scheduler]>={major}.{minor},<{int(major) + 1}"


def installed() -> Distribution | None:
    """Returns the installation of the running code; None where that runs from its sources.

    Another dotflow may be installed while this one runs from a folder on PYTHONPATH.
    """
    try:
        found = distribution("dotflow")
    except PackageNotFoundError:
        return None
    if Path(str(found.locate_file("dotflow"))).resolve() == HERE:
        return found
    record = json.loads(found.read_text(DIRECT_URL) or "{}")
    is_editable = record.get("dir_info", {}).get("editable", False)
    folder = Path(unquote(urlsplit(record.get("url", "")).path)).resolve()
    return found if is_editable and HERE.is_relative_to(folder) else None
