"""What it costs to have dotflow at hand, in a program and in a shell."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import Contender, Row, best, environment, median, seconds_of

JOBS = {
    "jobs.py": "from dotflow import action\n\n\n@action\ndef nothing(): ...\n",
    "luigi_jobs.py": """import luigi


class Nothing(luigi.Task):
    def output(self):
        return luigi.LocalTarget("nothing.txt")

    def run(self):
        self.output().open("w").close()
""",
}
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
    """The command `dotflow`, from shell to shell, beside Python with what it needs least, and Luigi's command.

    `start` is the first in its folder: it makes the log and the history.
    """
    start = ["-m", "dotflow", "start", "--step", "jobs.nothing"]
    with_luigi = ["-m", "luigi", "--local-scheduler", "--module", "luigi_jobs", "Nothing"]
    contenders = {
        "help": _running("-m", "dotflow", "--help"),
        "dotflow": _running(*start),
        "import asyncio": _running("-c", "import asyncio"),
        "Luigi": _running(*with_luigi),
        "import click": _running("-c", "import click"),
        "limit: Python": _running("-c", "pass"),
    }
    median(contenders, 1)  # the first time compiles
    found = best(contenders, 5 if quick else 25)
    help_, click, python = (found.pop(name) for name in ("help", "import click", "limit: Python"))
    yield Row.beside("a first `dotflow start --step`", found | {"limit: Python": python}, 3, "import asyncio")
    peers = {"import click": click, "bare Python": python}
    yield Row(what="`dotflow --help`", ours=help_, peers=peers, budget="200 ms", within=help_ < 0.200)


def _running(*arguments: str) -> Contender:
    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in JOBS.items():
                Path(folder, name).write_text(text)
            command = [sys.executable, *arguments]
            return seconds_of(
                lambda: subprocess.run(command, check=True, cwd=folder, env=environment(), capture_output=True)
            )

    return run


def _importing(line: str) -> Contender:
    return lambda: seconds_of(lambda: subprocess.run([sys.executable, "-c", line], check=True, env=environment()))
