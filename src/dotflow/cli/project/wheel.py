"""The running dotflow as a wheel, packed without a network or a build tool."""

import base64
import hashlib
import io
import tomllib
import zipfile
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import click

from dotflow import __version__
from dotflow.cli.project.install_source import HERE, installed

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
    """Packs the running dotflow."""
    installation = installed()
    if installation is None:
        version, metadata = __version__, _metadata_of_sources()
    else:
        texts = {name: installation.read_text(name) for name in METADATA_FILES}
        version, metadata = installation.version, {name: text for name, text in texts.items() if text is not None}
    folder = f"dotflow-{version}.dist-info"
    sources = [path for path in sorted(HERE.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    files = {f"dotflow/{path.relative_to(HERE).as_posix()}": path.read_bytes() for path in sources}
    files |= {f"{folder}/{name}": text.encode() for name, text in ({"WHEEL": WHEEL} | metadata).items()}
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


def metadata_of(project: Mapping[str, Any]) -> str:
    """Returns the METADATA that follows from the [project] of a pyproject.toml."""
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Requires-Python: {project['requires-python']}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    for extra, requirements in project["optional-dependencies"].items():
        lines += [f"Provides-Extra: {extra}"]
        lines += [f"Requires-Dist: {requirement}; extra == '{extra}'" for requirement in requirements]
    return "\n".join([*lines, ""])


def _metadata_of_sources() -> dict[str, str]:
    try:
        pyproject = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text("utf-8"))
        project = {"version": __version__, **pyproject["project"]}
    except (OSError, KeyError):
        raise click.ClickException(
            f"Can't pack dotflow for the project: the one in {HERE} is not installed. Install it with pip."
        ) from None
    scripts = "".join(f"{name} = {target}\n" for name, target in project["scripts"].items())
    return {"METADATA": metadata_of(project), "entry_points.txt": f"[console_scripts]\n{scripts}"}
