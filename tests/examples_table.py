"""Prints the programs of docs_src/ and the exit codes that they end with. Run: python tests/examples_table.py

They run in a copy, without variables that lead to a service, and warnings are errors. The assertions about them are in
tests/acceptance/test_examples.py.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
#: Folders whose programs are on pages of docs/, with their output: they run with those.
PAGES: Final = ("again", "daily", "history", "ports", "providers", "tutorial", "web", "week")
#: The programs, by their paths without docs_src/ and .py.
EXAMPLES: Final = tuple(
    sorted(f"{path.parent.name}/{path.stem}" for path in ROOT.glob("docs_src/*/*.py") if path.parent.name not in PAGES)
)
#: Prefixes of variables that lead to a service or contain credentials.
SERVICES: Final = (
    "APPRISE_", "AWS_", "DASK_", "DOTFLOW_", "GOOGLE_", "OTEL_", "PG", "RAY_", "STORAGE_EMULATOR_HOST", "TELEGRAM_",
)  # fmt: skip
#: Ray sends no usage statistics, and writes no token into the home folder.
QUIET_RAY: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
#: Not by PYTHONWARNINGS: Ray's own processes would inherit that, and they use deprecated functions.
PYTHON: Final = (sys.executable, "-W", "error")
#: Timeouts of programs, in seconds, if longer than 18: a Ray cluster starts slowly on a busy machine.
SECONDS: Final = {"clusters/ray_cluster": 80}


def as_script(example: str) -> list[str]:
    """Returns the command that runs it as a file."""
    return [*PYTHON, f"docs_src/{example}.py"]


def as_module(example: str) -> list[str]:
    """Returns the command that runs it as a module."""
    return [*PYTHON, "-m", f"docs_src.{example.replace('/', '.')}"]


def source_of(example: str) -> str:
    """Returns its text."""
    return (ROOT / "docs_src" / f"{example}.py").read_text()


def commands_of(text: str) -> list[str]:
    """Returns the lines of a text that are commands."""
    return re.findall(r"^ *(dotflow start .*)$", text, re.MULTILINE)


def copy_to(folder: Path) -> None:
    """Copies docs_src/ into a folder, where programs run as in the repository."""
    shutil.copytree(ROOT / "docs_src", folder / "docs_src", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tmp").mkdir()


def run(
    command: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None, seconds: float = 18
) -> subprocess.CompletedProcess[str]:
    """Runs a command in such a folder, with its temporary files."""
    start = [*PYTHON, str(Path(sys.executable).with_name("dotflow"))] if command[0] == "dotflow" else [command[0]]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(SERVICES)}
    # Ray's sockets need a short path, and its processes end a little after the program.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:
        folders = {"TMPDIR": str(folder / "tmp"), "RAY_TMPDIR": short}
        return subprocess.run(
            [*start, *command[1:]],
            cwd=folder,
            env=environment | QUIET_RAY | folders | dict(settings or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )


def main() -> int:
    """Prints the table; 1 if a program does not end with 0."""
    max_code = 0
    with tempfile.TemporaryDirectory() as name:
        copy_to(Path(name))
        print("| program | as a script | as a module |\n|---|---|---|")
        for example in EXAMPLES:
            seconds = SECONDS.get(example, 55)
            codes = [run(way(example), Path(name), seconds=seconds).returncode for way in (as_script, as_module)]
            max_code = max(max_code, *map(abs, codes))
            print(f"| docs_src/{example}.py | {codes[0]} | {codes[1]} |", flush=True)
        print("\n| command | exit code |\n|---|---|")
        for command in (command for example in EXAMPLES for command in commands_of(source_of(example))):
            code = run(command.split(), Path(name)).returncode
            max_code = max(max_code, abs(code))
            print(f"| `{command}` | {code} |", flush=True)
    return min(max_code, 1)


if __name__ == "__main__":
    raise SystemExit(main())
