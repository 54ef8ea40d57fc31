"""What the documentation takes from docs_src: each file runs, and prints what the page says that it prints."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest

from tests.examples_table import EXAMPLES

ROOT = Path(__file__).parents[2]
FOLDERS = ("tutorial", "providers", "ports")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / "docs_src" / folder).glob("*.py"))
PROGRAMS = [file for file in FILES if file.with_suffix(".txt").exists()]
TESTS = [file for file in FILES if file.name.startswith("test_") and file.parent.name != "tutorial"]
OLD_WAYS = [file for file in FILES if file.stem.endswith("_before") and file not in PROGRAMS]
LONG = {"test_storage_gzip", "test_executor_command"}  # whole contract suites
PAGES = {page: page.read_text() for page in sorted((ROOT / "docs").rglob("*.md"))}
#: A line that names a file, which `scripts/programs` puts into the block below.
SHOWN = re.compile(r"^ *(?:`|<!-- )((?:docs_src|examples)/\S+)(?:`| -->)$", re.MULTILINE)
BLOCK = re.compile(
    r'(?:^(?:`|<!-- )(?P<file>docs_src/\S+)(?:`| -->)\n\n)?^```(?P<language>\w+)(?: title="(?P<title>[^"]*)")?.*\n'
    r"(?P<text>(?:.*\n)*?)```$",
    re.MULTILINE,
)
TUTORIAL = [f"tutorial/{name}.md" for name in ("index", "chain", "retries", "resume", "graph", "schedule", "tests")]
#: Pages whose blocks are run in their order; those of the tutorial are one way, in one folder.
LONG_WAYS = [TUTORIAL, ["how-to/daily.md"], ["ports.md"]]
FOLLOWED = [*LONG_WAYS, *([f"providers/{name}.md"] for name in (
    "executor", "history", "log", "notify", "scheduler", "storage", "tracer"
))]  # fmt: skip
#: The lines that install what the tests have.
NOT_HERE = re.compile(r"^(mkdir weather|python3 -m venv|pip install).*\n", re.MULTILINE)
#: The commands that wait for a signal, and what ends them before.
WAITING = {re.compile(r"^dotflow serve .*$", re.MULTILINE): "--once",
           re.compile(r"^dotflow schedule (?!.*--preview).*$", re.MULTILINE): "--preview 1"}  # fmt: skip
SHOWN_FILES = {path for text in PAGES.values() for path in SHOWN.findall(text)}
#: Programs that test_week.py, test_what_happened.py, test_what_runs_again.py, test_ui_api.py, test_machines.py and two
#: test_web.py run.
RUN_ELSEWHERE = {
    "again/drawn",
    "again/grid",
    "examples/machines/shop",
    "examples/refund",
    "examples/web/app",
    "examples/web/pipelines",
    "history/mended",
    "history/mounted",
    "history/prices",
    "history/read",
    "web/application",
    "week/daily",
    "week/inbox",
    "week/nightly",
    "week/pages",
    "week/release",
    "week/scratch",
}


def name_of(file: Path) -> str:
    return f"{file.parent.name}-{file.stem}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to run in."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def call(folder: Path, command: Sequence[str | Path], seconds: float = 55) -> subprocess.CompletedProcess[str]:
    """A command in the folder, with the dotflow and the Python of these tests."""
    settings = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.run(
        command, cwd=folder, env=os.environ | settings, capture_output=True, text=True, timeout=seconds
    )


def run(folder: Path, *arguments: str | Path, seconds: float = 55) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, in the folder, warnings being errors."""
    return call(folder, [sys.executable, "-W", "error", *arguments], seconds)


def copied(file: Path, folder: Path) -> Path:
    """The file and its neighbours in a folder of their own, as a reader has them."""
    for found in file.parent.iterdir():
        if found.is_file():
            shutil.copy(found, folder)
    return folder / file.name


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.slow
@pytest.mark.timeout(120)  # the tutorial has fifteen runs, and a test that kills processes
@pytest.mark.parametrize(
    "pages",
    [pytest.param(pages, marks=[pytest.mark.exhaustive] if pages in LONG_WAYS else []) for pages in FOLLOWED],
    ids=lambda pages: pages[0],
)
def test_the_blocks_of_a_page_print_its_outputs(pages: Sequence[str], folder: Path) -> None:
    """Saved under their names and run in their order, its blocks print the outputs that it shows, word for word."""
    program, ended = "", None
    for block in chain.from_iterable(BLOCK.finditer(PAGES[ROOT / "docs" / page]) for page in pages):
        file, title, text = block["file"], block["title"], block["text"]
        if block["language"] == "sh":
            for waiting, ending in WAITING.items():
                text = waiting.sub(rf"\g<0> {ending}", text)
            ended = call(folder, ["sh", "-ec", NOT_HERE.sub("", text)], seconds=60)
            assert ended.returncode == 0, ended.stdout + ended.stderr
        elif file and file.endswith(".txt"):
            ended = ended or run(folder, program)
            assert (ended.stdout, ended.returncode) == (text, 0), file + ended.stderr
        elif name := title or (file and Path(file).name):
            (folder / name).write_text(text)
            program, ended = name, None


@pytest.mark.exhaustive
@pytest.mark.parametrize("file", PROGRAMS, ids=name_of)
def test_a_program_runs_twice(file: Path, folder: Path) -> None:
    """In the same folder, with what the first run has left there."""
    program = copied(file, folder)

    assert [run(folder, program.name).returncode for _ in range(2)] == [0, 0]


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.slow
@pytest.mark.parametrize("file", OLD_WAYS, ids=name_of)
def test_before_and_after_print_the_same(file: Path, folder: Path) -> None:
    """A pipeline that was written as a chain prints what it prints as a graph."""
    ended = run(folder, copied(file, folder).name)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == file.with_name(file.name.replace("_before.py", "_after.txt")).read_text()


@pytest.mark.slow
@pytest.mark.timeout(90)  # each is a whole suite, and some kill processes dozens of times
@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=[pytest.mark.exhaustive] if file.stem in LONG else []) for file in TESTS],
    ids=name_of,
)
def test_the_tests_that_are_shown_pass(file: Path, folder: Path) -> None:
    """In a folder of the reader's, with nothing but pytest."""
    copied(file, folder)

    ended = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", file.name, seconds=80)

    assert ended.returncode == 0, ended.stdout


def test_the_tutorials_map_runs_only_new_items(folder: Path) -> None:
    """A new month is found, and the items of the others come from their checkpoints."""
    program = copied(ROOT / "docs_src" / "tutorial" / "graph.py", folder)
    run(folder, program.name)
    (folder / "march.csv").write_text((folder / "january.csv").read_text().replace("2012-01", "2012-03"))

    again = run(folder, program.name)

    assert "extract: Completed, 3 items" in again.stdout
    assert again.stderr.count("3 of 3 items, 2 restored") == 4


def test_the_tutorials_commands_work(folder: Path) -> None:
    """The command line runs the tutorial's pipeline, goes on with it, and says when it is due."""
    copied(ROOT / "docs_src" / "tutorial" / "weather.py", folder)
    workflow = ("--workflow", "weather:build_workflow")

    first = run(folder, "-m", "dotflow", "start", *workflow)
    again = run(folder, "-m", "dotflow", "start", *workflow, "--resume")
    due = run(
        folder, "-m", "dotflow", "schedule", *workflow, "--cron", "0 6 * * *", "--timezone", "America/Los_Angeles",
        "--preview", "3",
    )  # fmt: skip

    assert first.stdout.splitlines()[-1].startswith("Completed: 6 of 6 tasks completed")
    assert again.stdout.splitlines()[-1].startswith("Completed: 6 of 6 tasks completed (5 restored)")
    assert [line.split()[2] for line in due.stdout.splitlines()] == ["06:00:00"] * 3


def programs(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)


def test_the_pages_have_the_text_of_the_files() -> None:
    """A page has what stands in docs_src/ or examples/, where it is run; `make programs` copies it there."""
    ended = programs(ROOT / "scripts" / "programs", "--check")

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_page_that_differs_is_named_and_mended(folder: Path) -> None:
    """The check says what to do, and changes nothing; doing it changes what differs, and nothing else."""
    for name in ("docs", "docs_src", "scripts"):
        (folder / name).mkdir()
    script = Path(shutil.copy(ROOT / "scripts" / "programs", folder / "scripts"))
    page = folder / "docs" / "page.md"
    (folder / "docs_src" / "new.py").write_text('print("new")\n\nprint(r"\\1")\n')
    (folder / "docs_src" / "new.txt").write_text("new\n")
    old = (
        '# Page\n\n`docs_src/new.py`\n\n```python hl_lines="3"\n```\n\n<!-- docs_src/new.txt -->\n\n```text\nold\n```\n'
    )
    page.write_text(old)

    checked = programs(script, "--check")
    assert (checked.returncode, page.read_text()) == (1, old)
    assert checked.stdout == "docs/page.md differs from its programs. Run: make programs\n"

    assert programs(script).stdout == "docs/page.md\n"
    mended = old.replace("old\n", "new\n").replace('"3"\n', '"3"\nprint("new")\n\nprint(r"\\1")\n')
    assert page.read_text() == mended
    assert programs(script, "--check").returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_a_page_is_read_without_the_site(page: Path) -> None:
    """No page includes a file: each line that names one has a block below, and pictures are images."""
    assert "--8<--" not in PAGES[page]
    assert "<figure" not in PAGES[page]
    named = [shown.end() for shown in SHOWN.finditer(PAGES[page])]
    assert [PAGES[page][end - 60 : end + 30] for end in named if not re.match(r"\n\n *```\w", PAGES[page][end:])] == []


def test_every_file_is_on_a_page() -> None:
    """Nothing lies in these folders that no reader sees."""
    kept = {
        file.relative_to(ROOT).as_posix()
        for folder in (*FOLDERS, "again")
        for file in (ROOT / "docs_src" / folder).iterdir()
        if file.is_file()
    }

    assert kept - SHOWN_FILES == set()


def test_every_program_on_a_page_is_run() -> None:
    """With its page, as an example, or by the tests of its page."""
    followed = {path for pages in FOLLOWED for page in pages for path in SHOWN.findall(PAGES[ROOT / "docs" / page])}
    others = {file.removeprefix("docs_src/").removesuffix(".py") for file in SHOWN_FILES - followed if ".py" in file}

    assert others - {*EXAMPLES} == RUN_ELSEWHERE


@pytest.mark.exhaustive
def test_all_pages_are_one_markdown_file(tmp_path: Path) -> None:
    """`llms.txt` lists them; `dotflow.md` has them, with links into the site and nothing that only MkDocs reads."""
    ended = programs(ROOT / "scripts" / "one_file", tmp_path.as_posix())
    assert ended.returncode == 0, ended.stderr
    listed, whole = ((tmp_path / name).read_text() for name in ("llms.txt", "dotflow.md"))
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html").as_posix(): text for page, text in PAGES.items()}

    assert re.match(r"# dotflow\n\n> .+\n", listed)
    assert sorted(re.findall(r"^- \[.+?\]\((\S+?)\): \S.*$", listed, re.MULTILINE)) == sorted(pages)
    for text in pages.values():
        assert re.findall(r"^#+ .*$", text, re.MULTILINE)[0] in whole.splitlines()
    linked = set(re.findall(r"\]\((?!https?:|#)([^)#\s]+)", whole))
    assert {link for link in linked if link not in pages and not (ROOT / "docs" / link).is_file()} == set()
    for left in ("\n::: ", "<!-- ", "hl_lines", "options:\n", " at 0x"):
        assert left not in whole
    assert "\n### dotflow.DotFlow\n" in whole
    assert "Runs the workflow. Each call is a new run" in whole
