"""`dotflow init` on a real disk: the files it makes, the folders it refuses, and what it never leaves behind."""

import contextlib
import importlib
import io
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import dotflow
from dotflow.cli.commands.init import add, make
from dotflow.cli.main import main
from tests.integration.children import PATIENCE, SOURCES, held_back

MADE = {
    ".dockerignore",
    ".github/workflows/ci.yml",
    ".gitignore",
    "Dockerfile",
    "README.md",
    "pyproject.toml",
    "src/my_project/__init__.py",
    "src/my_project/orders.csv",
    "src/my_project/pipeline.py",
    "tests/test_steps.py",
    "tests/test_workflow.py",
    f"wheels/dotflow-{dotflow.__version__}-py3-none-any.whl",
}


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in *folder*, without a stdin, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        Path(os.devnull).open() as nothing,
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "stdin", nothing)
        code = main(["init", *arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def run_init(folder: Path, *arguments: str, **given: object) -> subprocess.CompletedProcess[str]:
    """Runs the real command in *folder*, without a stdin."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "dotflow", "init", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **given,  # type: ignore[call-overload]
    )


def test_a_name_is_all_it_takes(tmp_path: Path) -> None:
    """It makes all files, and prints a list of them and the next steps, without colour in a pipe."""
    ended = run_init(tmp_path, "my-project")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert files_in(tmp_path / "my-project") == MADE
    assert [path.name for path in tmp_path.iterdir()] == ["my-project"]
    assert ended.stdout.startswith("my-project/\n  .dockerignore\n  .github/workflows/ci.yml\n")
    assert ended.stdout.endswith(
        "\nNext:\n  cd my-project\n  pip install -e '.[test]' && pytest\n"
        "  dotflow start --workflow my_project.pipeline:build_workflow\n"
    )
    assert "\x1b" not in ended.stdout


def test_the_wheel_is_this_dotflow(tmp_path: Path) -> None:
    """The project carries the dotflow that made it, the template included."""
    init(tmp_path, "my-project")
    wheel = next((tmp_path / "my-project" / "wheels").iterdir())

    with zipfile.ZipFile(io.BytesIO(wheel.read_bytes())) as archive:
        assert archive.testzip() is None
        packed = {name for name in archive.namelist() if name.startswith("dotflow/")}
        assert archive.read("dotflow/errors.py") == (SOURCES / "dotflow" / "errors.py").read_bytes()
    there = {path for path in files_in(SOURCES) if path.startswith("dotflow/") and "__pycache__" not in path}
    assert packed == there


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    """`dotflow init .` in a new repository: the project has the name of the folder."""
    (tmp_path / "my-project" / ".git").mkdir(parents=True)

    ended = init(tmp_path / "my-project", ".")

    assert ended.returncode == 0
    assert files_in(tmp_path / "my-project") == MADE
    assert "cd " not in ended.stdout


def test_without_a_name_it_is_made_in_the_current_folder(tmp_path: Path) -> None:
    """It has the name of the folder, whose other files stay: a repository, notes, other sources."""
    folder = tmp_path / "my-project"
    (folder / ".git").mkdir(parents=True)
    (folder / "src").mkdir()
    for name in ("notes.txt", "src/other.py"):
        (folder / name).write_text("precious")

    ended = init(folder)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert files_in(folder) == MADE | {"notes.txt", "src/other.py"}
    assert (folder / "src" / "other.py").read_text() == "precious"
    assert "cd " not in ended.stdout


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize(
    ("name", "package"),
    [("My Työ", "my_tyo"), ("2024", "pipeline_2024"), ("test", "test_pipeline"), ("表", "my_project")],
)
def test_any_folder_has_a_valid_name(tmp_path: Path, name: str, package: str) -> None:
    """If its own name is invalid, the project has the nearest valid one."""
    (tmp_path / name).mkdir()

    assert init(tmp_path / name).returncode == 0
    assert (tmp_path / name / "src" / package / "pipeline.py").exists()


def test_without_a_name_no_file_is_touched(tmp_path: Path) -> None:
    """If a file of the project exists, nothing is written, and the message lists such files."""
    (tmp_path / "tests").mkdir()
    for name in ("README.md", "tests/test_steps.py"):
        (tmp_path / name).write_text("precious")
    (tmp_path / ".gitignore").symlink_to("nowhere")
    (tmp_path / ".github").write_text("a file where a folder belongs")

    message = refused(tmp_path)

    assert (
        "these files exist already: .github/workflows/ci.yml, .gitignore, README.md, tests/test_steps.py. Move"
        in message
    )
    assert "dotflow init my-project" in message
    assert (tmp_path / "README.md").read_text() == "precious"


def test_a_second_time_nothing_is_touched(tmp_path: Path) -> None:
    """The changes in a project are kept."""
    (tmp_path / "my-project").mkdir()
    init(tmp_path / "my-project")
    (tmp_path / "my-project" / "src" / "my_project" / "pipeline.py").write_text("mine")

    assert "src/my_project/pipeline.py" in refused(tmp_path / "my-project")
    assert (tmp_path / "my-project" / "src" / "my_project" / "pipeline.py").read_text() == "mine"


@pytest.mark.parametrize("elsewhere", ["| true", ">&-"])
def test_it_needs_no_reader(tmp_path: Path, elsewhere: str) -> None:
    """The project is made without a reader of its output, and that is no failure."""
    line = f'{{ "$0" -m dotflow init my-project; echo "$?" >code; }} {elsewhere}'
    ended = subprocess.run(
        ["/bin/sh", "-c", line, sys.executable],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert (ended.stderr, (tmp_path / "code").read_text()) == ("", "0\n")
    assert files_in(tmp_path / "my-project") == MADE


def test_in_a_removed_folder_it_fails(tmp_path: Path) -> None:
    """`dotflow init .` after another program has removed the shell's folder."""
    (tmp_path / "gone").mkdir()
    ended = subprocess.run(
        ["/bin/sh", "-c", 'rmdir ../gone; exec "$0" -m dotflow init .', sys.executable],
        cwd=tmp_path / "gone",
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert (ended.returncode, ended.stderr) == (
        2,
        "dotflow: Can't find the folder .: No such file or directory. Use cd to leave it.\n",
    )


def refused(folder: Path, *name: str) -> str:
    """Returns the message of a refusal, which is one line; the folder is unchanged."""
    before = sorted(folder.rglob("*"))
    ended = init(folder, *name)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    return ended.stderr


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A folder with files in it is refused; the message lists them."""
    (tmp_path / "mine").mkdir()
    for name in ("a.txt", "b.txt", "c.txt", "d\x1b[31m.txt"):
        (tmp_path / "mine" / name).write_text("precious")

    message = refused(tmp_path, "mine")

    assert "not empty: a.txt, b.txt, c.txt and 1 more" in message
    assert (tmp_path / "mine" / "a.txt").read_text() == "precious"


def test_names_of_files_can_not_control_the_terminal(tmp_path: Path) -> None:
    """Their control characters are removed."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "\x1b[31mred").touch()

    message = refused(tmp_path, "mine")

    assert message.removesuffix("\n").isprintable()
    assert "[31mred" in message


def test_a_file_of_that_name_is_refused(tmp_path: Path) -> None:
    """The file is kept."""
    (tmp_path / "mine").write_text("precious")

    assert "is a file" in refused(tmp_path, "mine")


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    """Its target is not made."""
    (tmp_path / "mine").symlink_to("elsewhere")

    assert "leads nowhere" in refused(tmp_path, "mine")


def test_a_link_to_an_empty_folder_is_followed(tmp_path: Path) -> None:
    """The project has the name of the link."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "my-project").symlink_to("elsewhere")

    assert init(tmp_path, "my-project").returncode == 0
    assert files_in(tmp_path / "elsewhere") == MADE


def test_parent_folders_are_not_made(tmp_path: Path) -> None:
    """A typing error in a path makes no folders."""
    assert "no folder a/b" in refused(tmp_path, "a/b/mine")


def test_a_name_too_long_for_the_disk_is_refused(tmp_path: Path) -> None:
    """The reason of the system is in the message."""
    assert "File name too long" in refused(tmp_path, "a" * 300 + "/mine")


def test_a_folder_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    """Even root can make no folder in /proc."""
    message = refused(tmp_path, "/proc/mine")

    assert message.startswith("dotflow: Can't make the project in /proc/mine: ")
    assert message.endswith("Nothing was made.\n")


def small_files() -> None:
    """Limits the size of files, so that writes fail as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("name", [("my-project",), (".",), ()])
def test_a_project_is_written_whole_or_not_at_all(tmp_path: Path, name: tuple[str, ...]) -> None:
    """If the last of the files can't be written, none is left, in a new folder or an existing one."""
    folder = tmp_path if name == ("my-project",) else tmp_path / "my-project"
    folder.mkdir(exist_ok=True)

    ended = run_init(folder, *name, preexec_fn=small_files)

    assert ended.returncode == 2
    assert "File too large. Nothing was made." in ended.stderr
    assert list(folder.iterdir()) == []


class Disturbed(dict[str, bytes]):
    """Files; *disturb* is called before the second one is written."""

    def __init__(self, files: Mapping[str, bytes], disturb: Callable[[], object]) -> None:
        super().__init__(files)
        self._disturb = disturb

    def items(self) -> Any:
        (first, *others) = super().items()
        yield first
        self._disturb()
        yield from others


def interrupted(files: Mapping[str, bytes]) -> Disturbed:
    return Disturbed(files, lambda: signal.raise_signal(signal.SIGINT))


@pytest.mark.parametrize("is_there", [False, True])
def test_ctrl_c_leaves_nothing(tmp_path: Path, is_there: bool) -> None:
    """The new files are removed, and the old ones stay."""
    folder = tmp_path / "mine"
    if is_there:
        (folder / ".git").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            make(folder, interrupted({"a/b.txt": b"1", "c.txt": b"2"}))
    finally:
        signal.signal(signal.SIGINT, previous)

    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c_leaves_other_files(tmp_path: Path) -> None:
    """And their folders."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            add(tmp_path, interrupted({"a/b/c.txt": b"1", "d.txt": b"2"}))
    finally:
        signal.signal(signal.SIGINT, previous)

    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_of_another_program_is_kept(tmp_path: Path) -> None:
    """Even if that writes it while the project is being made."""
    files = {"a.txt": b"1", "b.txt": b"2"}

    with pytest.raises(click.ClickException, match="File exists"):
        make(tmp_path, Disturbed(files, lambda: (tmp_path / "b.txt").write_text("precious")))

    assert files_in(tmp_path) == {"b.txt"}
    assert (tmp_path / "b.txt").read_text() == "precious"


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("is_there", [False, True])
def test_of_two_at_once_one_makes_it(tmp_path: Path, is_there: bool) -> None:
    """The other is refused, and spoils nothing."""
    if is_there:
        (tmp_path / "my-project").mkdir()
    command = [sys.executable, "-m", "dotflow", "init", "my-project"]
    both = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    codes = sorted(process.wait(PATIENCE) for process in both)

    assert codes == [0, 2]
    assert files_in(tmp_path) == {f"my-project/{path}" for path in MADE}


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The steps of a made project, whose folder is the current one; without the delay between attempts."""
    init(tmp_path, "my-project")
    path = tmp_path / "my-project" / "src" / "my_project" / "pipeline.py"
    path.write_text(path.read_text().replace('retry_delay="1s"', "retry_delay=0"))
    monkeypatch.chdir(tmp_path / "my-project")
    monkeypatch.syspath_prepend(tmp_path / "my-project" / "src")
    with held_back():
        yield importlib.import_module("my_project.pipeline")
    for name in ("my_project.pipeline", "my_project"):
        del sys.modules[name]


@pytest.mark.parametrize("loss", ["away", "emptied"])
def test_a_missing_input_is_never_taken_for_an_empty_one(pipeline: ModuleType, loss: str) -> None:
    """With its source lost, no run completes and the table keeps its rows; when that is back, a resumed run does."""

    def start(**arguments: bool) -> str:
        return str(pipeline.build_workflow().start(**arguments).status)

    def rows() -> list[tuple[str, str]]:
        with contextlib.closing(sqlite3.connect("output/revenue.db")) as database:
            return database.execute("SELECT * FROM revenue ORDER BY country").fetchall()

    assert start() == "Completed"
    before, orders = rows(), pipeline.ORDERS.read_text()
    if loss == "away":
        pipeline.ORDERS.unlink()
    else:
        pipeline.ORDERS.write_text("")
    lost = [start(keep_going=True), start(keep_going=True, resume=True), start(resume=True)]
    kept = rows()
    pipeline.ORDERS.write_text(orders)

    assert lost == ["Failed"] * 3
    assert len(before) == 4
    assert kept == before
    assert start(resume=True) == "Completed"
    assert rows() == before
