"""No false alarm: all workflows of the examples and of the documentation are built, with the types of their steps."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python.*\n((?:.*\n)*?)```$", re.MULTILINE)

#: Builds the workflows of the programs that it is called with, and runs none.
BUILD = """
import contextlib, io, runpy, sys
from pathlib import Path
from unittest.mock import MagicMock
from dotflow import DotFlow
from dotflow.errors import DefinitionError
from dotflow.graph.builder import TaskBuilder

for name in ("start", "astart", "launch", "schedule", "submit", "plan"):
    setattr(DotFlow, name, MagicMock())
add, added = TaskBuilder.add, []

def adding(self, *args, **options):
    added.append(args)
    return add(self, *args, **options)

TaskBuilder.add = adding
alarms, built = [], 0
for path in sys.argv[1:]:
    sys.path[0], known, count = str(Path(path).parent), set(sys.modules), len(added)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            runpy.run_path(path, run_name="program")
    except DefinitionError as error:
        alarms.append(f"{path}: {error}")
    except BaseException:  # it needs a service, or what a run has left
        pass
    built += len(added) > count
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(sys.path[0]):
            del sys.modules[name]  # another program's `pipeline` is another module
print(built, *alarms, sep="\\n")
"""


def build(folder: Path, programs: list[Path]) -> tuple[int, list[str]]:
    """Returns how many programs have added a task, and what was refused."""
    ended = subprocess.run(
        [sys.executable, "-c", BUILD, *map(str, programs)], cwd=folder, capture_output=True, text=True, timeout=110
    )
    assert ended.returncode == 0, ended.stderr
    built, *alarms = ended.stdout.splitlines()
    return int(built), alarms


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_program_is_refused(tmp_path: Path) -> None:
    """The programs of examples/ and docs_src/ are right, so are their types."""
    programs = [path for folder in ("examples", "docs_src") for path in sorted((ROOT / folder).rglob("*.py"))]
    built, alarms = build(tmp_path, programs)

    assert alarms == []
    assert built > 80  # others are tests and providers, or need an address


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_block_of_a_page_is_refused(tmp_path: Path) -> None:
    """The complete programs in the pages, the ports among them; fragments build what they can."""
    programs = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for number, text in enumerate(BLOCK.findall(page.read_text())):
            programs.append(tmp_path / f"{page.stem}_{number}.py")
            programs[-1].write_text(text)
    built, alarms = build(tmp_path, programs)

    assert alarms == []
    assert built > 80
