"""How a new project gets dotflow: from an index, or as a wheel, packed without a network or a build tool.

The name "dotflow" on a package index may lead to another library. So a project requires dotflow by name and version
only if its own dotflow came from an index. Otherwise it carries a wheel: a path would lead nowhere in a container, in
CI and on a colleague's machine.
"""

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

import click

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


#: As packaging.python.org/specifications/binary-distribution-format has them.
TAG: Final = "py3-none-any"
WHEEL: Final = f"Wheel-Version: 1.0\nGenerator: dotflow\nRoot-Is-Purelib: true\nTag: {TAG}\n"
FIXED_TIME: Final = (1980, 1, 1, 0, 0, 0)  # zip's earliest date: the same files make the same wheel

METADATA_FILES: Final = ("METADATA", "entry_points.txt", "licenses/LICENSE")


class Wheel(NamedTuple):
    """A wheel: its file name and its content."""

    name: str
    content: bytes


def pack() -> Wheel:
    """Packs the running dotflow. Raises ClickException where it is not installed."""
    installation = installed()
    if installation is None:
        raise click.ClickException(
            f"Can't pack dotflow for the project: the one in {HERE} is not installed. Install it with pip."
        )
    version, folder = installation.version, f"dotflow-{installation.version}.dist-info"
    texts = {"WHEEL": WHEEL} | {name: installation.read_text(name) for name in METADATA_FILES}
    sources = [path for path in sorted(HERE.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    files = {f"dotflow/{path.relative_to(HERE).as_posix()}": path.read_bytes() for path in sources}
    files |= {f"{folder}/{name}": text.encode() for name, text in texts.items() if text is not None}
    return Wheel(f"dotflow-{version}-{TAG}.whl", zipped(files, record=f"{folder}/RECORD"))


def zipped(files: Mapping[str, bytes], record: str) -> bytes:
    """Returns an archive of *files* and, at *record*, the list of them with their digests."""
    lines = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},{len(content)}"
        for name, content in files.items()
    ]
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, record: "\n".join([*lines, f"{record},,", ""]).encode()}.items():
            member = zipfile.ZipInfo(name, FIXED_TIME)
            member.external_attr = 0o100644 << 16
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return target.getvalue()
