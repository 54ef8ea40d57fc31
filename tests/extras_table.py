"""Installs a wheel with each extra on each Python, into new environments, and prints a table. Run by `make extras`.

It takes minutes and a network. tests/acceptance/test_packaging.py does the same with two environments: one without any
extra, and that of the tests with all of them.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path[:0] = [str(Path(__file__).parent.parent)]

from tests.extras import ROOT, extras, install_command, program_for  # noqa: E402 (needs the path above)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a command outside this repository."""
    return subprocess.run(command, cwd=tempfile.gettempdir(), capture_output=True, text=True)


def last_line(text: str) -> str:
    """Returns the last line of a failed command's output."""
    return (text.strip().splitlines() or ["no output"])[-1]


def try_extra(python: str, wheel: Path, extra: str) -> str:
    """Returns the error of installing and using the extra; empty if there was none."""
    with tempfile.TemporaryDirectory(prefix="dotflow-") as folder:
        inner = Path(folder) / "bin" / "python"
        for step in (
            (python, "-m", "venv", folder),
            (inner, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{wheel}[{extra}]"),
            (inner, "-m", "pip", "check", "--disable-pip-version-check"),
            (inner, "-W", "error", "-c", program_for(extra)),
        ):
            result = run(*step)
            if result.returncode != 0:
                return last_line(result.stderr or result.stdout)
    return ""


def try_without(python: str, wheel: Path) -> str:
    """Returns the errors that do not name a missing extra; empty if there are none."""
    with tempfile.TemporaryDirectory(prefix="dotflow-") as folder:
        inner = Path(folder) / "bin" / "python"
        for step in (
            (python, "-m", "venv", folder),
            (inner, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel),
        ):
            result = run(*step)
            if result.returncode != 0:
                return last_line(result.stderr)
        lines = {extra: last_line(run(inner, "-c", program_for(extra)).stderr) for extra in extras()}
    return "; ".join(f"{extra}: {line}" for extra, line in lines.items() if install_command(extra) not in line)


def main(wheel: Path) -> int:
    """Prints the table and the errors; returns 1 if there are any."""
    pythons: Final = [line.split(" ", 1) for line in run(ROOT / "scripts" / "pythons").stdout.splitlines()]
    errors: list[str] = []
    print(f"| {wheel.name} | {' | '.join(version for version, _ in pythons)} |")
    print(f"|---|{'---|' * len(pythons)}")
    for extra in ["", *extras()]:
        cells = []
        for version, python in pythons:
            start = time.monotonic()
            error = try_extra(python, wheel, extra) if extra else try_without(python, wheel)
            cells.append("failed" if error else f"ok, {time.monotonic() - start:.0f} s")
            errors += [f"{version} {extra}: {error}"] * bool(error)
        print(f"| {extra or 'none'} | {' | '.join(cells)} |", flush=True)
    print(*errors, sep="\n", end="\n" * bool(errors))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
