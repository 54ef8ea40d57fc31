"""What it costs to have dotflow at hand."""

import subprocess
import sys
from collections.abc import Iterator

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


def _importing(line: str) -> Contender:
    return lambda: seconds_of(lambda: subprocess.run([sys.executable, "-c", line], check=True, env=environment()))
