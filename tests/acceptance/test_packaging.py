"""The packages that users install: the wheel and the sdist, their dependencies, commands and types."""

import email
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import dotflow
from dotflow import errors
from dotflow.cli.wheel import pack
from dotflow.report.page import MODULES
from tests.extras import ROOT, USES, extras, install_command, program_for
from tests.unit.test_import import PROMISED

BIN = Path(sys.executable).parent
PINNED = re.compile(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}")

#: The packages that dotflow depends on, as design.md names them, and those that each depends on.
CORE = {
    "click": set(),
    "cloudpickle": set(),
    "filelock": set(),
    "pydantic": {"annotated-types", "pydantic-core", "typing-extensions", "typing-inspection"},
    "rich": {"markdown-it-py", "mdurl", "pygments"},
}

#: Folders with the names of the extras' packages, which Python imports. Ray itself leaves a /tmp/ray.
NAMESAKES = [
    "apprise", "boto3", "cronsim", "distributed", "google/cloud/storage", "opentelemetry", "psycopg", "pyarrow",
    "pydantic_ai", "ray",
]  # fmt: skip

#: pip downloads packages here, as it does for users.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def run(command: Sequence[str | Path], folder: Path, first_on_path: Path = BIN) -> subprocess.CompletedProcess[str]:
    """Runs a command that does not find the sources under test."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment["PATH"] = os.pathsep.join([str(first_on_path), environment["PATH"]])
    return subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def printed(command: Sequence[str | Path], folder: Path, first_on_path: Path = BIN) -> str:
    """Returns the output of a command that has to succeed."""
    ended = run(command, folder, first_on_path)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def build(root: Path, kind: str, into: Path) -> Path:
    """Builds the project in *root* as pip and `python -m build` do, with the hatchling of this venv."""
    program = f"from hatchling import build; print(build.build_{kind}({str(into)!r}))"
    return into / printed([sys.executable, "-c", program], root).strip()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what several tests read."""
    return tmp_path_factory.mktemp("packaging")


@pytest.fixture(scope="module")
def wheel(shared: Path) -> Path:
    """The wheel, built from this repository."""
    return build(ROOT, "wheel", shared)


@pytest.fixture(scope="module")
def source(shared: Path) -> Path:
    """The sdist, unpacked."""
    archive = build(ROOT, "sdist", shared)
    with tarfile.open(archive) as opened:
        opened.extractall(shared / "source", filter="data")
    return shared / "source" / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def clean(shared: Path, wheel: Path) -> Path:
    """The commands of an environment that has the wheel and its dependencies only."""
    printed([sys.executable, "-m", "venv", "--without-pip", shared / "clean"], shared)  # pip takes longer than the rest
    commands = shared / "clean" / "bin"
    printed([*pip_of(commands), "install", wheel], shared)
    return commands


def pip_of(commands: Path) -> list[str | Path]:
    """The pip of this environment, which acts on another one."""
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", commands / "python"]


def files_in(archive: bytes | Path) -> dict[str, bytes]:
    """Returns the files of a wheel, without its metadata."""
    with zipfile.ZipFile(io.BytesIO(archive) if isinstance(archive, bytes) else archive) as opened:
        return {name: opened.read(name) for name in opened.namelist() if ".dist-info/" not in name}


# -- contents -----------------------------------------------------------------------------------------------------


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """The wheel has every module, the type marker, the template of projects, the page and the skill; no test."""
    package = ROOT / "src" / "dotflow"
    modules = {path for path in package.rglob("*.py") if "template" not in path.parts}
    template = set((package / "cli" / "template").rglob("*.tmpl"))
    page = {*(package / "report").glob("page.[!p]*"), *(package / "report" / "page").iterdir()}
    wanted = {
        path.relative_to(package.parent).as_posix()
        for path in {*modules, *template, *page, package / "py.typed", package / "cli" / "skill.md"}
    }

    assert (len(template) > 5, len(page)) == (True, 2 + len(MODULES))
    assert set(files_in(wheel)) == wanted


def test_a_new_project_is_given_the_same(wheel: Path) -> None:
    """`dotflow init` packs the same files without a build tool."""
    name, content = pack()

    assert name == wheel.name
    assert files_in(content) == files_in(wheel)


@pytest.mark.exhaustive
def test_the_source_makes_the_same_wheel(wheel: Path, source: Path, tmp_path: Path) -> None:
    """The sdist builds the same bytes: it lacks no file, and the wheel does not depend on the folder."""
    assert build(source, "wheel", tmp_path).read_bytes() == wheel.read_bytes()


@pytest.mark.exhaustive
def test_the_source_brings_its_tests(source: Path) -> None:
    """The sdist has every file of the repository, so that its tests and checks run from it."""
    made = set(re.findall(r"^/(\w+)/$", (ROOT / ".gitignore").read_text(), re.MULTILINE))
    wanted = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - made
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.p*") if path.suffix != ".pyc"}

    assert {path.name for path in source.iterdir()} == {*wanted, ".gitignore", "PKG-INFO"}
    assert [name for name in tests if not (source / name).is_file()] == []


def test_the_metadata_describes_the_package(wheel: Path) -> None:
    """The metadata has name, version, licence, README, Pythons and extras, and no dependency group."""
    with zipfile.ZipFile(wheel) as opened:
        metadata = email.message_from_string(opened.read(f"dotflow-{dotflow.__version__}.dist-info/METADATA").decode())

    assert metadata["Name"] == "dotflow"
    assert metadata["Version"] == dotflow.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()
    assert metadata.get_all("Provides-Extra") == extras()
    assert "pytest" not in str(metadata.get_all("Requires-Dist"))
    here = f"Programming Language :: Python :: {sys.version_info.major}.{sys.version_info.minor}"
    assert {here, "Typing :: Typed"} <= set(metadata.get_all("Classifier", []))


# -- dependencies, commands and extras ---------------------------------------------------------------------------------


def test_it_installs_only_the_dependencies_of_the_design(clean: Path, tmp_path: Path) -> None:
    """Installing dotflow installs its dependencies, and theirs."""
    listed = printed([*pip_of(clean), "list", "--format=freeze"], tmp_path)
    names = {line.partition("==")[0].lower().replace("_", "-") for line in listed.splitlines()}

    assert names - {"dotflow"} == set(CORE).union(*CORE.values())
    assert "No broken requirements" in printed([*pip_of(clean), "check"], tmp_path)


@pytest.mark.parametrize("command", [["dotflow"], ["python", "-m", "dotflow"]], ids=" ".join)
def test_both_commands_run_a_step(command: list[str], clean: Path, tmp_path: Path) -> None:
    """`dotflow` and `python -m dotflow` are the same command."""
    (tmp_path / "steps.py").write_text("from dotflow import action\n\n\n@action\ndef hello():\n    print('hello')\n")
    first, *others = command

    assert printed([clean / first, *others, "--version"], tmp_path) == f"dotflow {dotflow.__version__}\n"
    assert "hello" in printed([clean / first, *others, "start", "--step", "steps.hello"], tmp_path, clean)


def test_every_extra_is_known_here() -> None:
    """Each extra of pyproject.toml has a program in tests/extras.py."""
    assert set(extras()) - set(USES) == set(), "these extras have no line in USES of tests/extras.py"
    assert set(USES) - set(extras()) == set(), "USES of tests/extras.py has extras that pyproject.toml lacks"


@pytest.mark.exhaustive(keep_every=5)
@pytest.mark.parametrize(
    "folders",
    [pytest.param([], id="nothing there", marks=pytest.mark.exhaustive), pytest.param(NAMESAKES, id="folders")],
)
@pytest.mark.parametrize("extra", extras())
def test_a_missing_extra_is_asked_for(extra: str, folders: list[str], clean: Path, tmp_path: Path) -> None:
    """Without the extra, the error has the command that installs it, quoted for any shell; a folder is no package."""
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    ended = run([clean / "python", "-c", program_for(extra)], tmp_path)

    assert ended.returncode == 1
    assert install_command(extra) in ended.stderr.splitlines()[-1]


@pytest.mark.exhaustive(keep_every=5)
@pytest.mark.parametrize("extra", extras())
def test_an_extra_is_enough_for_its_purpose(extra: str, tmp_path: Path) -> None:
    """With every extra installed, each one's program runs. `make extras` installs each alone."""
    printed([sys.executable, "-W", "error", "-c", program_for(extra)], tmp_path)


# -- types -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project with strict type checking; the README's first program is part of it."""
    first = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert first is not None
    (tmp_path / "readme.py").write_text(first[1])
    for path in (ROOT / "tests" / "typing").glob("*.py"):
        shutil.copy(path, tmp_path)
    settings = '[tool.pyright]\ntypeCheckingMode = "strict"\nreportUnnecessaryTypeIgnoreComment = "error"\n'
    (tmp_path / "pyproject.toml").write_text(settings)
    return tmp_path


# make check has both on tests/typing; that a wheel has the marker for type checkers is among its contents.


@pytest.mark.exhaustive
def test_a_project_passes_mypy_strictly(project: Path, clean: Path) -> None:
    """mypy takes the types from the installed wheel, and finds the project's mistakes."""
    checked = printed([BIN / "mypy", "--strict", "--python-executable", clean / "python", "."], project)

    assert "no issues found" in checked


@pytest.mark.exhaustive
def test_a_project_passes_pyright_strictly(project: Path, clean: Path) -> None:
    """Pyright does the same."""
    assert "0 errors, 0 warnings" in printed([BIN / "basedpyright"], project, clean)


@pytest.mark.exhaustive
def test_every_public_type_is_known(clean: Path, tmp_path: Path) -> None:
    """The type of each public name, contract, error and core class is declared, not inferred."""
    from importlib import import_module
    from json import loads

    found = run([BIN / "basedpyright", "--verifytypes", "dotflow", "--ignoreexternal", "--outputjson"], tmp_path, clean)
    face = {
        f"{public.__module__}.{public.__qualname__}" if hasattr(public, "__qualname__") else module
        for module, names in {**PROMISED, errors.__name__: errors.__all__}.items()
        for public in (getattr(import_module(module), name) for name in names)
    }
    whole = ("dotflow.abc", "dotflow.core", *face)
    symbols = [
        symbol
        for symbol in loads(found.stdout)["typeCompleteness"]["symbols"]
        if any(symbol["name"] == name or symbol["name"].startswith(f"{name}.") for name in whole)
    ]

    assert len(symbols) > 500
    assert [
        f"{symbol['name']}: {note['message']}"
        for symbol in symbols
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
        for note in symbol["diagnostics"]
    ] == []


def test_a_release_is_built_with_pinned_hashes_and_nothing_else() -> None:
    """A package of the build could change the wheel: each has a hash, and no other one is installed."""
    job = (ROOT / ".github/workflows/release.yml").read_text().partition("\n  test:\n")[0]
    installs = [line.strip() for line in job.splitlines() if re.search(r"\b(pip|make|uv)\b ", line)]
    pins = (ROOT / ".github/requirements-build.txt").read_text().splitlines()[1:]

    assert [line.split(maxsplit=1)[1] for line in installs] == [
        "install --require-hashes --no-deps --only-binary :all: -r .github/requirements-build.txt"
    ]
    assert "-m build --no-isolation" in job
    assert [pin for pin in pins if not PINNED.fullmatch(pin)] == []
    assert {"build", "hatchling"} <= {pin.partition("==")[0] for pin in pins}
