"""Prints the programs of docs_src/ and the exit codes that they end with. Run: python tests/examples_table.py

They run in a copy, with no variable that leads to a service, and warnings are errors. What is expected of each asserts
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
#: Folders whose programs stand on pages of docs/, which say what they print: they are run with those.
PAGES: Final = ("providers", "tutorial")
#: The programs, by their paths without docs_src/ and .py.
EXAMPLES: Final = tuple(
    sorted(f"{path.parent.name}/{path.stem}" for path in ROOT.glob("docs_src/*/*.py") if path.parent.name not in PAGES)
)
#: How the names of variables begin that lead to a service, and to what is somebody's own there.
SERVICES: Final = (
    "APPRISE_", "AWS_", "DASK_", "DOTFLOW_", "GOOGLE_", "OTEL_", "PG", "RAY_", "STORAGE_EMULATOR_HOST", "TELEGRAM_",
)  # fmt: skip
#: Ray tells nobody how it is used, and writes no token into the home of whoever runs this.
QUIET_RAY: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
#: Not by PYTHONWARNINGS: Ray's own processes, which would inherit that, deprecate what they do themselves.
PYTHON: Final = (sys.executable, "-W", "error")
#: Seconds that a program may take, where that is more than 18: a Ray cluster takes long to start on a busy machine.
SECONDS: Final = {"clusters/ray_cluster": 80}


def as_script(example: str) -> list[str]:
    """How it is run as a file."""
    return [*PYTHON, f"docs_src/{example}.py"]


def as_module(example: str) -> list[str]:
    """How it is run as a module."""
    return [*PYTHON, "-m", f"docs_src.{example.replace('/', '.')}"]


def source_of(example: str) -> str:
    """Its text."""
    return (ROOT / "docs_src" / f"{example}.py").read_text()


def commands_of(text: str) -> list[str]:
    """The command lines in a text that stand on lines of their own."""
    return re.findall(r"^ *(dotflow start .*)$", text, re.MULTILINE)


def copy_to(folder: Path) -> None:
    """Puts docs_src/ into a folder, which is to a program what the repository is."""
    shutil.copytree(ROOT / "docs_src", folder / "docs_src", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tmp").mkdir()


def run(
    command: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None, seconds: float = 18
) -> subprocess.CompletedProcess[str]:
    """What becomes of a command in such a folder; what it puts where temporary files are, stays in there too."""
    start = [*PYTHON, str(Path(sys.executable).with_name("dotflow"))] if command[0] == "dotflow" else [command[0]]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SERVICES)}
    # Ray's sockets need a short path, and its processes end a little after the program.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:
        places = {"TMPDIR": str(folder / "tmp"), "RAY_TMPDIR": short}
        return subprocess.run(
            [*start, *command[1:]],
            cwd=folder,
            env=kept | QUIET_RAY | places | dict(settings or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )


def main() -> int:
    """Prints the table; 1 if a program does not end with 0."""
    worst = 0
    with tempfile.TemporaryDirectory() as name:
        copy_to(Path(name))
        print("| program | as a script | as a module |\n|---|---|---|")
        for example in EXAMPLES:
            seconds = SECONDS.get(example, 18)
            codes = [run(way(example), Path(name), seconds=seconds).returncode for way in (as_script, as_module)]
            worst = max(worst, *map(abs, codes))
            print(f"| docs_src/{example}.py | {codes[0]} | {codes[1]} |", flush=True)
        print("\n| command | exit code |\n|---|---|")
        for command in (command for example in EXAMPLES for command in commands_of(source_of(example))):
            code = run(command.split(), Path(name)).returncode
            worst = max(worst, abs(code))
            print(f"| `{command}` | {code} |", flush=True)
    return min(worst, 1)


if __name__ == "__main__":
    raise SystemExit(main())
