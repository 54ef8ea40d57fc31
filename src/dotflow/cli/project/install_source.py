"""Where the running dotflow came from, and so how a new project asks for it.

A project that asked an index for "dotflow" would get whatever is called that there, which need not be this library. So
only what was installed from an index is asked for by name and version. What came from a repository or an address is
asked for there, and what came from this machine travels with the project, as a wheel: a path would lead nowhere in a
container, in CI and on a colleague's machine.
"""

import json
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import dotflow

HERE: Final = Path(dotflow.__file__).resolve().parent


class Origin(NamedTuple):
    """How a project asks for dotflow.

    Attributes:
        requirement: What stands among its dependencies; None for a wheel that it brings along.
        needs_git: Whether installing it takes git.
    """

    requirement: str | None
    needs_git: bool = False


def origin() -> Origin:
    """That of the running dotflow."""
    found = installed()
    if found is None:
        return Origin(None)
    return origin_of(found.version, direct_url(found))


def origin_of(version: str, record: Mapping[str, Any] | None) -> Origin:
    """What follows from an installation's version and its direct_url.json; None if it has none.

    The record is that of packaging.python.org/specifications/direct-url: an installer writes it unless it took the
    package from an index.
    """
    if record is None:
        major, minor, *_ = version.split(".")
        return Origin(f"dotflow>={major}.{minor},<{int(major) + 1}")
    url = str(record.get("url", ""))
    if urlsplit(url).scheme in {"", "file"}:
        return Origin(None)
    inside = f"subdirectory={record['subdirectory']}" if "subdirectory" in record else ""
    match record:
        case {"vcs_info": {"vcs": str(vcs), "commit_id": str(commit)}}:
            return Origin(f"dotflow @ {vcs}+{url}@{commit}" + (f"#{inside}" if inside else ""), needs_git=vcs == "git")
        case {"archive_info": Mapping() as archive}:
            digest = dict(archive.get("hashes") or {}).get("sha256")
            fragment = "&".join(part for part in (f"sha256={digest}" if digest else "", inside) if part)
            return Origin(f"dotflow @ {url}" + (f"#{fragment}" if fragment else ""))
        case _:
            return Origin(None)


def installed() -> Distribution | None:
    """The installation that the running code belongs to; None where it runs from its sources.

    Another dotflow may be installed while this one runs from a folder on PYTHONPATH.
    """
    try:
        found = distribution("dotflow")
    except PackageNotFoundError:
        return None
    if Path(str(found.locate_file("dotflow"))).resolve() == HERE:
        return found
    record = direct_url(found) or {}
    editable = bool((record.get("dir_info") or {}).get("editable"))
    folder = Path(unquote(urlsplit(str(record.get("url", ""))).path)).resolve()
    return found if editable and HERE.is_relative_to(folder) else None


def direct_url(found: Distribution) -> Mapping[str, Any] | None:
    """What an installer noted of where it took a package from; None if that was an index."""
    text = found.read_text("direct_url.json")
    record: Mapping[str, Any] | None = None if text is None else json.loads(text)
    return record
