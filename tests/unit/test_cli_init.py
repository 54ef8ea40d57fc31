"""The names of a new project, its dotflow and its files."""

import base64
import hashlib
import io
import tomllib
import zipfile
from importlib.metadata import Distribution
from pathlib import Path
from unittest import mock

import click
import pytest

from dotflow.cli.commands.init import ProjectNames, names_of, render
from dotflow.cli.wheel import Wheel, index_requirement, pack, zipped


def names_for(project: str, *installed: str) -> ProjectNames:
    with mock.patch("dotflow.cli.commands.init.is_installed", lambda package: package in installed):
        return names_of(project)


def refusal_of(project: str, *installed: str) -> str:
    with pytest.raises(click.UsageError) as refused:
        names_for(project, *installed)
    return refused.value.message


@pytest.mark.parametrize(
    ("project", "package"),
    [("my-project", "my_project"), ("Sales.EU", "sales_eu"), ("a--b", "a_b"), ("x", "x"), ("report2024", "report2024")],
)
def test_the_package_has_the_name_of_the_project(project: str, package: str) -> None:
    """The project keeps its name; its package has that name as PEP 503 and Python require it."""
    assert names_for(project) == ProjectNames(project, package)


@pytest.mark.parametrize(
    ("project", "reason", "suggestion"),
    [
        ("my project!", "use the letters a to z", "my-project"),
        ("Zürich", "use the letters a to z", "Zurich"),
        ("-x", "use the letters a to z", "x"),
        ("2024-report", "can't begin with a digit", "pipeline-2024-report"),
        ("2024", "can't begin with a digit", "pipeline-2024"),
        ("class", "a keyword of Python", "class-pipeline"),
        ("JSON", "would hide a module of Python", "JSON-pipeline"),
        ("dotflow", "this library has that name", "dotflow-pipeline"),
        ("test", "the project itself uses 'test'", "test-pipeline"),
        ("num.py", "a package 'num_py' is installed already", "num.py-pipeline"),
    ],
)
def test_a_name_that_would_make_trouble_is_refused(project: str, reason: str, suggestion: str) -> None:
    """The message has the reason and a valid suggestion."""
    message = refusal_of(project, "num_py")

    assert reason in message
    assert message.endswith(f"Did you mean '{suggestion}'?")
    assert names_for(suggestion, "num_py")


@pytest.mark.parametrize("project", ["", "???", "日本", "x" * 61])
def test_without_a_near_name_there_is_no_suggestion(project: str) -> None:
    """A suggestion that is refused, too, would not help."""
    assert "Did you mean" not in refusal_of(project)


def test_a_name_can_not_control_the_terminal() -> None:
    """Its control characters are escaped."""
    assert refusal_of("\x1b[31mred").isprintable()


class Installed(Distribution):
    """An installation of version 1.4.2, with the files that an installer wrote."""

    def __init__(self, **files: str) -> None:
        self._files = {"METADATA": "Name: dotflow\nVersion: 1.4.2\n"} | files

    def read_text(self, filename: str) -> str | None:
        return self._files.get(filename)

    def locate_file(self, path: object) -> Path:
        return Path(str(path))


@pytest.mark.parametrize(
    ("installation", "expected"),
    [
        (Installed(), "dotflow[scheduler]>=1.4,<2"),
        (Installed(**{"direct_url.json": '{"url": "https://example.org/d.whl", "archive_info": {}}'}), None),
        (None, None),
    ],
    ids=["index", "address", "sources"],
)
def test_dotflow_is_required_by_name_only_if_it_came_from_an_index(
    installation: Distribution | None, expected: str | None
) -> None:
    """Otherwise that name may lead to another library, so the project carries a copy."""
    assert index_requirement(installation) == expected


NAMES = ProjectNames("Sales.EU", "sales_eu")
WHEEL = Wheel("dotflow-1.4.2-py3-none-any.whl", b"PK")


def test_every_file_has_the_projects_names() -> None:
    """No name or placeholder of the template is left."""
    files = render(NAMES, WHEEL)

    assert {"src/sales_eu/pipeline.py", ".gitignore", "Dockerfile", ".github/workflows/ci.yml"} <= set(files)
    for path, content in files.items():
        for left in (b"my_project", b"my-project", b'"DOTFLOW"', b".tmpl"):
            assert left not in content, path
        assert "my_project" not in path
        assert not path.endswith(".tmpl")


def test_a_project_whose_dotflow_is_from_an_index_has_only_its_requirement() -> None:
    """It has no wheel, and no settings of the build backend."""
    files = render(NAMES, "dotflow[scheduler]>=1.4,<2")
    pyproject = tomllib.loads(files["pyproject.toml"].decode())

    assert pyproject["project"]["name"] == "Sales.EU"
    assert pyproject["project"]["dependencies"] == ["dotflow[scheduler]>=1.4,<2"]
    assert set(pyproject["tool"]) == {"mypy", "pytest"}
    assert not [path for path in files if path.startswith("wheels/")]


def test_a_project_that_carries_dotflow_depends_on_that_file() -> None:
    """The path begins at the project's folder; the settings make hatchling and ruff accept it."""
    files = render(NAMES, WHEEL)
    pyproject = tomllib.loads(files["pyproject.toml"].decode())

    assert pyproject["project"]["dependencies"] == ["dotflow[scheduler] @ {root:uri}/wheels/" + WHEEL[0]]
    assert pyproject["tool"]["hatch"]["metadata"] == {"allow-direct-references": True}
    assert pyproject["tool"]["ruff"]["lint"]["per-file-ignores"] == {"pyproject.toml": ["RUF200"]}
    assert files["wheels/" + WHEEL[0]] == WHEEL[1]


def test_the_wheel_lists_its_files() -> None:
    """Installers check the digest and size of each file; the list itself has none."""
    content = zipped({"dotflow/a.py": b"x = 1\n"}, record="d.dist-info/RECORD")

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["dotflow/a.py", "d.dist-info/RECORD"]
        first, second = archive.read("d.dist-info/RECORD").decode().splitlines()
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"x = 1\n").digest()).decode().rstrip("=")
    assert (first, second) == (f"dotflow/a.py,sha256={digest},6", "d.dist-info/RECORD,,")


def test_the_same_files_make_the_same_wheel() -> None:
    """A project that is made again is the same."""
    assert zipped({"a": b"1"}, record="R") == zipped({"a": b"1"}, record="R")


def test_a_dotflow_that_is_not_installed_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requirements stand in no file beside it."""
    monkeypatch.setattr("dotflow.cli.wheel.installed", lambda: None)

    with pytest.raises(click.ClickException, match=r"is not installed\. Install it with pip\.$"):
        pack()
