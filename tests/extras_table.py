"""Installs a wheel with each extra, on each Python here, from nothing. Run: python tests/extras_table.py dist/*.whl

It takes minutes and a network, so tests/acceptance/test_packaging.py does the same with fewer environments: one without
any extra, and that of the tests with all of them.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path[:0] = [str(Path(__file__).parent.parent)]

from tests.extras import ROOT, asked_for, extras, program_for  # noqa: E402 (found through the path that was just set)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs it where nothing of this repository is."""
    return subprocess.run(command, cwd=tempfile.gettempdir(), capture_output=True, text=True)


def last_line(text: str) -> str:
    """What a failed command said at last."""
    return (text.strip().splitlines() or ["nothing was said"])[-1]


def try_extra(python: str, wheel: Path, extra: str) -> str:
    """What became of it; empty where all is well."""
    with tempfile.TemporaryDirectory(prefix="dotflow-") as folder:
        inner = Path(folder) / "bin" / "python"
        for step in (
            (python, "-m", "venv", folder),
            (inner, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{wheel}[{extra}]"),
            (inner, "-m", "pip", "check", "--disable-pip-version-check"),
            (inner, "-W", "error", "-c", program_for(extra)),
        ):
            ended = run(*step)
            if ended.returncode != 0:
                return last_line(ended.stderr or ended.stdout)
    return ""


def try_without(python: str, wheel: Path) -> str:
    """Without any extra, each is asked for by its name; empty where all is well."""
    with tempfile.TemporaryDirectory(prefix="dotflow-") as folder:
        inner = Path(folder) / "bin" / "python"
        for step in (
            (python, "-m", "venv", folder),
            (inner, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel),
        ):
            ended = run(*step)
            if ended.returncode != 0:
                return last_line(ended.stderr)
        told = {extra: last_line(run(inner, "-c", program_for(extra)).stderr) for extra in extras()}
    return "; ".join(f"{extra}: {line}" for extra, line in told.items() if asked_for(extra) not in line)


def main(wheel: Path) -> int:
    """Prints a table, and what is wrong; 1 where anything is."""
    pythons: Final = [line.split(" ", 1) for line in run(ROOT / "scripts" / "pythons").stdout.splitlines()]
    wrong: list[str] = []
    print(f"| {wheel.name} | {' | '.join(version for version, _ in pythons)} |")
    print(f"|---|{'---|' * len(pythons)}")
    for extra in ["", *extras()]:
        cells = []
        for version, python in pythons:
            began = time.monotonic()
            found = try_extra(python, wheel, extra) if extra else try_without(python, wheel)
            cells.append("wrong" if found else f"ok, {time.monotonic() - began:.0f} s")
            wrong += [f"{version} {extra}: {found}"] * bool(found)
        print(f"| {extra or 'none'} | {' | '.join(cells)} |", flush=True)
    print(*wrong, sep="\n", end="\n" * bool(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
