"""What the documents show is what happens: each of their programs is run as it is printed."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dotflow.core.types import TypeExecution

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
FROM_FILE = re.compile(
    r"^`(?:docs_src|examples)/\S+`\n\n```.*?^```$", re.DOTALL | re.MULTILINE
)  # run by the tests of these files
UNCALLED = re.compile(r"\A(?!.*^test_\w+\().*^def test_", re.DOTALL | re.MULTILINE)
ELSEWHERE = {"docs/how-to/clouds.md"}  # its programs need a bucket: tests/integration/test_clouds.py does what they do
MERMAID = re.compile(r"^```mermaid\n(.*?)^```", re.DOTALL | re.MULTILINE)
ENTRY = re.compile(r"^::: (\S+)\n((?:    .*\n)*)", re.MULTILINE)
MEMBERS = re.compile(r"members: \[(.*)\]")
IMPORTED = re.compile(r"^from (dotflow[\w.]*) import ([\w, ]+)$", re.MULTILINE)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
FRAGMENTS = {path.relative_to(ROOT).as_posix() for path in (ROOT / "changelog.d").glob("*.*.md")}
DOCUMENTS = (
    "README.md",
    *(
        page
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if (page := path.relative_to(ROOT).as_posix()) not in ELSEWHERE
    ),
)
PATHS = os.pathsep.join(path for path in sys.path if path)
PROGRAMS = [
    pytest.param(program, id=f"{document}-{number}")
    for document in DOCUMENTS
    for number, program in enumerate(BLOCK.findall(FROM_FILE.sub("", (ROOT / document).read_text())))
]


def in_shell(commands: str, folder: Path, seconds: float = 45) -> subprocess.CompletedProcess[str]:
    """The commands, typed one after the other in a folder, until one fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["sh", "-ec", commands],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": PATHS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def run_as_script(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The program, saved as a file in an empty folder and run from there, warnings being errors; tests, with pytest."""
    script = folder / "pipeline.py"
    script.write_text(program)
    by_pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error") if UNCALLED.search(program) else ()
    return subprocess.run(
        [sys.executable, "-W", "error", *by_pytest, script.name],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        timeout=45,
    )


@pytest.mark.exhaustive(keep_every=22)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs_as_it_is_printed(program: str, tmp_path: Path) -> None:
    """Each program is whole, runs without a guard, and what it says in comments that it prints, it prints."""
    ended = run_as_script(program, tmp_path)

    assert ended.returncode == 0, ended.stderr
    printed = " ".join(ended.stdout.split())
    for promised in promised_by(program):
        assert promised in printed


def promised_by(program: str) -> list[str]:
    """What the comments behind a print(), or the lines of comment after one, say that it prints."""
    found = re.findall(r"^print\(.*\)  # (.*)$", program, re.MULTILINE)
    for lines in re.findall(r"^ *print\(.*\)\n((?:# .*\n)+)", program, re.MULTILINE):
        found.append(" ".join(line.removeprefix("# ").strip() for line in lines.splitlines()))
    return found


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", *sorted(FRAGMENTS)])
def test_a_link_leads_to_a_file(document: str) -> None:
    """From the root, where fragments end up, too. Links between pages are looked at when the site is built."""
    text = (ROOT / document).read_text()
    assert [link for link in LINK.findall(text) if not (ROOT / link).exists()] == []


def test_what_the_pages_import_has_an_entry_in_the_api() -> None:
    """Else a program of a page may stop working. Types that only stand for several classes need none."""
    entries: set[str] = set()
    for path, options in ENTRY.findall((ROOT / "docs" / "api.md").read_text()):
        module, _, name = path.rpartition(".")
        members = MEMBERS.search(options)
        if hasattr(importlib.import_module(module), name) and not inspect.ismodule(found := _found(module, name)):
            entries.add(_place(found))
            continue
        names = members[1].split(", ") if members else importlib.import_module(path).__all__
        entries |= {_place(_found(path, member)) for member in names}

    imported = {
        (document, module, name)
        for document in DOCUMENTS
        if document != "docs/design.md"
        for module, names in IMPORTED.findall((ROOT / document).read_text())
        for name in names.split(", ")
    }

    assert len(imported) > 100
    own = {key for key in imported if isinstance(found := _found(*key[1:]), type) or inspect.isroutine(found)}
    assert {key for key in own if _place(_found(*key[1:])) not in entries} == set()


def _found(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _place(found: Any) -> str:
    return f"{found.__module__}.{found.__qualname__}"


def test_each_mode_has_a_picture() -> None:
    """The page on how a run works draws them all."""
    picture = (ROOT / "docs/pictures/modes.svg").read_text()

    assert "../pictures/modes.svg" in (ROOT / "docs/concepts/index.md").read_text()
    assert [mode for mode in (*TypeExecution, "group") if mode not in picture] == []


def test_the_readme_is_short() -> None:
    """A first look, not a second manual."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 220


@pytest.mark.slow
@pytest.mark.timeout(60)  # it makes a project and runs it, and that project's own tests
def test_the_commands_of_the_readme_work(tmp_path: Path) -> None:
    """Typed one after the other, in an empty folder, each ends with 0; all that is missing is what pip would do."""
    commands = "\n".join(SHELL.findall((ROOT / "README.md").read_text()))
    assert commands.count("dotflow ") >= 5
    assert "pip install -e '.[test]' && pytest\n" in commands  # in reality by test_init.py
    installed = f"export PYTHONPATH='src{os.pathsep}{PATHS}'"

    ended = in_shell(commands.replace("pip install -e '.[test]'", installed), tmp_path, seconds=55)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"\b8 passed\b", ended.stdout)
    assert "3 of 3 tasks completed, in" in ended.stdout
    assert "3 of 3 tasks completed (3 restored)" in ended.stdout
    assert len(re.findall(r"^\w{3} \d{4}-\d\d-\d\d 0[23]:\d\d:00 E[SD]T ", ended.stdout, re.MULTILINE)) == 5
    assert "Completed (from its checkpoint)" in ended.stdout  # the log


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_commands_of_the_page_on_deployment_work(tmp_path: Path) -> None:
    """Those of its table, of its unit and of its crontab; a schedule lists its next moment."""
    page = (ROOT / "docs/how-to/deployment.md").read_text()
    commands = re.findall(r"\bdotflow (?:start|schedule|runs) -[^`\n]*", page.replace("\\%", "%"))
    (tmp_path / "jobs.py").write_text(
        "from dotflow import Config, DotFlow, action\nfrom dotflow.providers import StorageFile\n"
        'config = Config(storage=StorageFile(path=".output"))\n'
        'nightly = DotFlow(config, params={"day": "today"}, workflow_id="nightly")\n'
        "nightly.task.add(action(lambda: None))\n"
    )
    assert len(commands) == 8

    for command in commands:
        ended = in_shell(command + (" --preview 1" if " schedule " in command else ""), tmp_path)
        assert ended.returncode == 0, command + ended.stderr


def test_the_readme_has_the_commands_of_the_page_on_projects() -> None:
    """The commands of the one are commands of the other, which the test above runs."""
    page, readme = (
        "\n".join(SHELL.findall((ROOT / document).read_text())).replace(" && ", "\n").splitlines()
        for document in ("docs/how-to/projects.md", "README.md")
    )

    assert page
    assert set(page) <= set(readme)


def test_the_readme_installs_the_page_that_it_praises() -> None:
    """The first line with pip has the extra of `dotflow ui`."""
    readme = (ROOT / "README.md").read_text()

    assert "`dotflow ui`" in readme
    assert "[ui," in readme[readme.index("pip install") :].partition("\n")[0]


def test_the_documents_have_programs() -> None:
    """The README shows a graph, and programs for steps, retries, resume and tests."""
    assert sum(param.id is not None and param.id.startswith("README") for param in PROGRAMS) >= 5


def test_the_picture_of_the_readme_is_that_of_its_program() -> None:
    """The Mermaid drawing is what `graph()` returns for the first program."""
    readme = (ROOT / "README.md").read_text()
    namespace: dict[str, Any] = {}
    exec(BLOCK.findall(readme)[0].partition("run = ")[0], namespace)

    assert MERMAID.findall(readme) == [f"{namespace['workflow'].task.graph()}\n"]


def test_the_example_runs(tmp_path: Path) -> None:
    """The weather pipeline runs to its end, writes its tables and its chart, and says so."""
    example = tmp_path / "weather"
    example.mkdir()
    for name in ("pipeline.py", "chart.py", "seattle-weather.csv"):
        (example / name).write_bytes((ROOT / "examples" / "weather" / name).read_bytes())

    ended = subprocess.run(
        [sys.executable, "-W", "error", str(example / "pipeline.py")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        timeout=45,
    )

    assert ended.returncode == 0, ended.stderr
    assert "by month" in ended.stdout
    assert "by weather" in ended.stdout
    assert (example / "output" / "weather.db").stat().st_size > 0
    assert (example / "output" / "climate.svg").read_text().startswith("<svg")
