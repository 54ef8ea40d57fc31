"""The running dotflow as a wheel, made from what is installed, without a network or a build tool."""

import base64
import hashlib
import io
import tomllib
import zipfile
from collections.abc import Mapping
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any, Final

import click

from dotflow.cli.project.install_source import HERE, installed

#: As packaging.python.org/specifications/binary-distribution-format has them.
TAG: Final = "py3-none-any"
WHEEL: Final = f"Wheel-Version: 1.0\nGenerator: dotflow\nRoot-Is-Purelib: true\nTag: {TAG}\n"
BEGINNING: Final = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip knows: the same files make the same wheel

DESCRIPTIONS: Final = ("METADATA", "entry_points.txt", "licenses/LICENSE")


def pack() -> tuple[str, bytes]:
    """The wheel's file name and what is in it."""
    found = installed()
    version, about = _from_installation(found) if found is not None else _from_sources(HERE.parent.parent)
    files = {f"dotflow/{path.relative_to(HERE).as_posix()}": path.read_bytes() for path in _sources()}
    files |= {f"dotflow-{version}.dist-info/{name}": text.encode() for name, text in about.items()}
    return f"dotflow-{version}-{TAG}.whl", zipped(files, record=f"dotflow-{version}.dist-info/RECORD")


def zipped(files: Mapping[str, bytes], record: str) -> bytes:
    """An archive of *files*, and of a list of them, with their digests, that stands at *record*."""
    lines = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},{len(content)}"
        for name, content in files.items()
    ]
    listed = {**files, record: "\n".join([*lines, f"{record},,", ""]).encode()}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in listed.items():
            member = zipfile.ZipInfo(name, BEGINNING)
            member.external_attr = 0o100644 << 16
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def metadata_of(project: Mapping[str, Any]) -> str:
    """The METADATA that follows from a pyproject's [project]."""
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Requires-Python: {project['requires-python']}"]
    lines += [f"Requires-Dist: {needed}" for needed in project["dependencies"]]
    for extra, needs in project["optional-dependencies"].items():
        lines += [f"Provides-Extra: {extra}"]
        lines += [f"Requires-Dist: {needed}; extra == '{extra}'" for needed in needs]
    return "\n".join([*lines, ""])


def _sources() -> list[Path]:
    return [path for path in sorted(HERE.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


def _from_installation(found: Distribution) -> tuple[str, dict[str, str]]:
    about = {name: text for name in DESCRIPTIONS if (text := found.read_text(name)) is not None}
    return found.version, {"WHEEL": WHEEL, **about}


def _from_sources(root: Path) -> tuple[str, dict[str, str]]:
    """Where nothing is installed: what a build would write."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    except (OSError, KeyError):
        raise click.ClickException(
            f"This dotflow, in {HERE}, is not installed, so a new project can't be told where to get it. Install it "
            "with pip, and try again."
        ) from None
    scripts = "".join(f"{name} = {target}\n" for name, target in project["scripts"].items())
    about = {"METADATA": metadata_of(project), "entry_points.txt": f"[console_scripts]\n{scripts}"}
    return project["version"], {"WHEEL": WHEEL, **about}
