"""The page "What happened last night": its commands, in their order, print what stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.examples_table import PYTHON, ROOT

PAGE: Final = (ROOT / "docs/how-to/what-happened.md").read_text()
SESSION: Final = re.findall(r"^```console\n\$ dotflow (.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)

#: What is different in every run -> the text in its place.
VARYING: Final = (
    (r"[0-9a-f]{8}-[0-9a-f-]{27}", "RUN"),
    (r"\b[0-9a-f]{16}\b", "CODE"),
    (r"\b[0-9a-f]{8}\b", "RUN"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "MOMENT"),
    (r"\d+(\.\d+)? [kMG]B\b", "SIZE"),
    (r"\d+\.\d+ s\b", "SECONDS"),
    (r"process \S+:\d+", "PROCESS"),
    (r"Python \S+,", "PYTHON"),
    (r"(__main__\.py|\S+/dotflow) (start|replay)", r"dotflow \2"),
    (r"\n +[~^]+(?=\n)", ""),
    (r"…|/\S*(?=/prices.py)", "FOLDER"),
    (r"-{3,}|[ \t]+", " "),
)


def fixed(text: str) -> list[str]:
    """The lines of an output, without what is different in every run."""
    text = re.split(r"^(?:duration|cpu|memory) ", text, maxsplit=1, flags=re.MULTILINE)[0]  # the end of a diff
    for pattern, instead in VARYING:
        text = re.sub(pattern, instead, text)
    return [line.rstrip() for line in text.splitlines()]


def run(folder: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOTFLOW_")}
    ended = subprocess.run(
        [*PYTHON, *command],
        cwd=folder,
        env=environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
    )
    return ended.stdout


@pytest.mark.exhaustive
@pytest.mark.timeout(60)
def test_the_commands_print_the_outputs_of_the_page(tmp_path: Path) -> None:
    """From the failing run to the mended one."""
    assert len(SESSION) == 10
    replays = 0
    for command, shown in SESSION:
        replays += command.startswith("replay")
        program = "mended" if replays > 1 else "prices"
        (tmp_path / "prices.py").write_text((ROOT / f"docs_src/history/{program}.py").read_text())

        assert fixed(run(tmp_path, "-m", "dotflow", *command.split())) == fixed(shown), command


def test_the_program_prints_its_comments(tmp_path: Path) -> None:
    """The same from Python."""
    program = (ROOT / "docs_src/history/read.py").read_text()

    printed = run(ROOT, "docs_src/history/read.py")

    for comment in re.findall(r"# (.+)$", program, re.MULTILINE):
        assert comment in printed
