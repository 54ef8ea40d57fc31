"""What a new project is called, where it gets dotflow from, and what is in its files."""

import base64
import hashlib
import io
import tomllib
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import click
import pytest

from dotflow.cli.project.create import render
from dotflow.cli.project.install_source import index_requirement
from dotflow.cli.project.names import Names, names_of
from dotflow.cli.project.wheel import Wheel, metadata_of, zipped


def named(project: str, *installed: str) -> Names:
    return names_of(project, installed=lambda package: package in installed)


def refusal_of(project: str, *installed: str) -> str:
    with pytest.raises(click.UsageError) as refused:
        named(project, *installed)
    return refused.value.message


@pytest.mark.parametrize(
    ("project", "package"),
    [("my-project", "my_project"), ("Sales.EU", "sales_eu"), ("a--b", "a_b"), ("x", "x"), ("report2024", "report2024")],
)
def test_a_project_is_imported_by_its_name_as_far_as_that_can_be(project: str, package: str) -> None:
    """The project keeps the name that it was given; its package is what PEP 503 and Python make of it."""
    assert named(project) == Names(project, package)


@pytest.mark.parametrize(
    ("project", "why", "near"),
    [
        ("my project!", "use the letters a to z", "my-project"),
        ("Zürich", "use the letters a to z", "Zurich"),
        ("-x", "use the letters a to z", "x"),
        ("2024-report", "can't begin with a digit", "report-2024"),
        ("2024", "can't begin with a digit", "pipeline-2024"),
        ("class", "a keyword of Python", "class-pipeline"),
        ("JSON", "would hide a module of Python", "JSON-pipeline"),
        ("dotflow", "this library has that name", "dotflow-pipeline"),
        ("test", "the project itself uses 'test'", "test-pipeline"),
        ("num.py", "a package 'num_py' is installed already", "num.py-pipeline"),
    ],
)
def test_a_name_that_would_make_trouble_is_refused_with_another_one(project: str, why: str, near: str) -> None:
    """The message says what is wrong, and the name that it proposes is accepted."""
    message = refusal_of(project, "num_py")

    assert why in message
    assert message.endswith(f"Did you mean '{near}'?")
    assert named(near, "num_py")


@pytest.mark.parametrize("project", ["", "???", "日本", "x" * 61])
def test_where_no_name_is_near_none_is_proposed(project: str) -> None:
    """A refusal stands alone rather than with a guess that would be refused, too."""
    assert "Did you mean" not in refusal_of(project)


def test_what_a_name_says_can_not_drive_the_terminal() -> None:
    """Control characters of a name are shown, not sent."""
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
        (Installed(), "dotflow>=1.4,<2"),
        (Installed(**{"direct_url.json": '{"url": "https://example.org/d.whl", "archive_info": {}}'}), None),
        (None, None),
    ],
    ids=["index", "address", "sources"],
)
def test_dotflow_is_required_by_name_only_if_it_came_from_an_index(
    installation: Distribution | None, expected: str | None
) -> None:
    """Elsewhere the name may lead to another library, so the project carries a copy."""
    assert index_requirement(installation) == expected


NAMES = Names("Sales.EU", "sales_eu")
WHEEL = Wheel("dotflow-1.4.2-py3-none-any.whl", b"PK")


def test_every_file_is_in_the_projects_own_words() -> None:
    """Nothing of the template's own name, or of a blank in it, is left."""
    files = render(NAMES, WHEEL)

    assert {"src/sales_eu/pipeline.py", ".gitignore", "Dockerfile", ".github/workflows/ci.yml"} <= set(files)
    for path, content in files.items():
        for left in (b"my_project", b"my-project", b'"DOTFLOW"', b".tmpl"):
            assert left not in content, path
        assert "my_project" not in path
        assert not path.endswith(".tmpl")


def test_a_project_whose_dotflow_is_from_an_index_has_no_more_than_its_name() -> None:
    """The plain case looks plain: no wheel, and nothing for the build backend."""
    files = render(NAMES, "dotflow>=1.4,<2")
    pyproject = tomllib.loads(files["pyproject.toml"].decode())

    assert pyproject["project"]["name"] == "Sales.EU"
    assert pyproject["project"]["dependencies"] == ["dotflow>=1.4,<2"]
    assert set(pyproject["tool"]) == {"mypy", "pytest"}
    assert not [path for path in files if path.startswith("wheels/")]


def test_a_project_that_brings_dotflow_along_depends_on_that_file() -> None:
    """The path begins at the project, wherever that is; hatchling allows it, and ruff is told."""
    files = render(NAMES, WHEEL)
    pyproject = tomllib.loads(files["pyproject.toml"].decode())

    assert pyproject["project"]["dependencies"] == ["dotflow @ {root:uri}/wheels/" + WHEEL[0]]
    assert pyproject["tool"]["hatch"]["metadata"] == {"allow-direct-references": True}
    assert pyproject["tool"]["ruff"]["lint"]["per-file-ignores"] == {"pyproject.toml": ["RUF200"]}
    assert files["wheels/" + WHEEL[0]] == WHEEL[1]


def test_the_wheel_lists_what_is_in_it() -> None:
    """Each file with its digest and size, the list itself without: what installers check."""
    content = zipped({"dotflow/a.py": b"x = 1\n"}, record="d.dist-info/RECORD")

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["dotflow/a.py", "d.dist-info/RECORD"]
        first, second = archive.read("d.dist-info/RECORD").decode().splitlines()
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"x = 1\n").digest()).decode().rstrip("=")
    assert (first, second) == (f"dotflow/a.py,sha256={digest},6", "d.dist-info/RECORD,,")


def test_the_same_files_make_the_same_wheel() -> None:
    """A project that is made again differs in nothing."""
    assert zipped({"a": b"1"}, record="R") == zipped({"a": b"1"}, record="R")


def test_metadata_is_made_of_a_pyproject() -> None:
    """Where nothing is installed, the wheel still says what it needs."""
    text = metadata_of(
        {
            "name": "dotflow",
            "version": "1.4.2",
            "requires-python": ">=3.11",
            "dependencies": ["click>=8"],
            "optional-dependencies": {"arrow": ["pyarrow>=15"]},
        }
    )

    assert text.splitlines() == [
        "Metadata-Version: 2.1",
        "Name: dotflow",
        "Version: 1.4.2",
        "Requires-Python: >=3.11",
        "Requires-Dist: click>=8",
        "Provides-Extra: arrow",
        "Requires-Dist: pyarrow>=15; extra == 'arrow'",
    ]
