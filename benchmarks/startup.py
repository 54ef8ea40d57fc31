"""What it costs to have dotflow at hand, in a program and in a shell."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import Contender, Row, environment, median, seconds_of

FACE = "from dotflow import DotFlow, action"
FOREIGN = (
    f"import sys; before = set(sys.modules); {FACE}; "
    "names = {name.partition('.')[0] for name in set(sys.modules) - before}; "
    "print(*sorted(names - set(sys.stdlib_module_names) - {'dotflow'}))"
)


def rows(quick: bool) -> Iterator[Row]:
    """Importing, over an interpreter that imports nothing.

    Beside it stand what a program would import for the same work: the standard library's pools, and joblib.
    """
    lines = {
        "bare": "pass",
        "import dotflow": "import dotflow",
        FACE: FACE,
        "concurrent.futures.process": "import concurrent.futures.process",
        "asyncio": "import asyncio",
        "joblib": "import joblib",
    }
    contenders = {name: _importing(line) for name, line in lines.items()}
    median(contenders, 1)  # the first time compiles
    taken = median(contenders, 5 if quick else 25)
    bare = taken.pop("bare")
    over = {name: max(seconds - bare, 1e-6) for name, seconds in taken.items()}
    foreign = subprocess.run([sys.executable, "-c", FOREIGN], capture_output=True, text=True, check=True).stdout.split()
    ours_by_name = {name: over.pop(name) for name in ("import dotflow", FACE)}
    for name, ours in ours_by_name.items():
        yield Row(
            what=f"`{name}`, over bare Python",
            ours=ours,
            peers=over if name is FACE else {},
            budget="30 ms, nothing foreign" + (f" (loaded: {', '.join(foreign)})" if foreign else ""),
            within=ours < 0.030 and not foreign,
        )


def command_rows(quick: bool) -> Iterator[Row]:
    """The command `dotflow`, from the shell's side, beside a Python that does nothing, and one that imports click."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "jobs.py").write_text("from dotflow import action\n\n\n@action\ndef nothing(): ...\n")
        start = ["-m", "dotflow", "start", "--step", "jobs.nothing"]
        contenders = {
            "help": _running(folder, "-m", "dotflow", "--help"),
            "start": _running(folder, *start),
            "bare Python": _running(folder, "-c", "pass"),
            "import click": _running(folder, "-c", "import click"),
        }
        median(contenders, 1)  # the first time compiles
        taken = median(contenders, 5 if quick else 25)
    help_, start_ = taken.pop("help"), taken.pop("start")
    yield Row(what="`dotflow --help`", ours=help_, peers=taken, budget="200 ms", within=help_ < 0.200)
    yield Row(what="`dotflow start`, a step that does nothing", ours=start_, peers=taken)


def _running(folder: str, *arguments: str) -> Contender:
    def run() -> None:
        command = [sys.executable, *arguments]
        subprocess.run(command, check=True, cwd=folder, env=environment(), capture_output=True)

    return lambda: seconds_of(run)


def _importing(line: str) -> Contender:
    return lambda: seconds_of(lambda: subprocess.run([sys.executable, "-c", line], check=True, env=environment()))
