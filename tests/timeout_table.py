"""Prints how steps that get stuck end, by victim and mode, as a Markdown table. Run: python tests/timeout_table.py

Each cell has the end of the first attempt (its timeout is 0.3 s), whether its retry completed, and what was left
behind. The cases are those of tests/integration/test_timeouts.py.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from tests.integration.victims import (  # noqa: E402 (found through the path that was just set)
    TIMEOUT,
    VICTIMS,
    WAYS,
    Fate,
    Way,
    can_end,
    fates_of,
    start_cases,
)

NOTES = """
¹ A daemon thread is left behind, and the TaskError says so.
² The step's own process lives on: in the caller's main thread dotflow does not know of it.
³ Nothing can end it in the caller's own thread: the log reports it while it hangs, and recommends `isolate=True`.
Unless marked with !, no later lines ran, no process was left, and the interpreter exited within 1 s.
"""


def main() -> int:
    """Prints the table; returns 1 if anything is left behind that should not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start-method", choices=("fork", "forkserver"), help="of parallel and groups")
    start_method = parser.parse_args().start_method
    began, faults = time.monotonic(), 0
    print(f"Python {sys.version.split()[0]}, {sys.platform}, start method: {start_method or 'default'}.")
    print(f"When an attempt with `timeout={TIMEOUT}` ended, in seconds; ✓ its retry completed.\n")
    print(f"| victim | {' | '.join(way.name for way in WAYS)} |")
    print(f"|---|{'---|' * len(WAYS)}", flush=True)
    for name, victim in VICTIMS.items():
        with tempfile.TemporaryDirectory() as folder:
            ways = [way for way in WAYS if can_end(victim, way)]
            fates = fates_of(start_cases(Path(folder), victim, ways, start_method))
        cells = [cell(way, fates.get(way)) for way in WAYS]
        faults += sum("!" in text for text in cells)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"{NOTES}\nMeasured in {time.monotonic() - began:.0f} s.")
    return 1 if faults else 0


def cell(way: Way, fate: Fate | None) -> str:
    """Returns a cell of the table."""
    if fate is None:
        return "hangs ³"
    text = f"{fate.seconds:.2f}"
    text += " ✓" if fate.tasks[0][0] == "Completed" and fate.tasks[0][1] == "again" else f" ! {fate.tasks[0]}"
    if fate.threads:
        text += " ! thread left" if way.in_process or way.mode == "sequential" else " ¹"
    if fate.grandchild:
        text += " ! grandchild" if way.in_process or way.in_thread else " ²"
    if fate.processes:
        text += f" ! {fate.processes}"
    if fate.later:
        text += " ! later lines ran"
    if fate.exit_seconds > 1:
        text += f" ! exit took {fate.exit_seconds:.1f} s"
    return text


if __name__ == "__main__":
    raise SystemExit(main())
