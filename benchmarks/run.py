"""Measures dotflow beside what one would write or pick instead, and prints a table of ratios.

python benchmarks/run.py [--goals | --only NAME] [--quick] [--readme]

It passes no judgement by its exit code: a busy machine is no bug. README.md says how to read the table.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from importlib import import_module
from os import cpu_count, getloadavg
from pathlib import Path
from typing import Final

from measure import Row

#: Name for --only -> where the rows are measured. Modules are imported when they are needed: one that can't be, since a
#: peer is not installed, costs its own rows only.
MEASUREMENTS: Final[Mapping[str, str]] = {
    "import": "startup:rows",
    "command": "startup:command_rows",
    "no-op": "sequential:no_op_rows",
    "many": "sequential:many_rows",
    "log": "sequential:log_rows",
    "again": "sequential:again_rows",
    "tracer": "tracing:rows",
    "history": "histories:rows",
    "history-list": "histories:list_rows",
    "capture": "captures:rows",
    "timeout": "sequential:timeout_rows",
    "failure": "sequential:failure_rows",
    "parallel": "parallel:no_op_rows",
    "forkserver": "parallel:method_rows",
    "sleep": "parallel:nap_rows",
    "cpu": "parallel:busy_rows",
    "needs": "graphs:need_rows",
    "types": "graphs:type_rows",
    "chain": "graphs:chain_rows",
    "items": "maps:item_rows",
    "item-processes": "maps:process_rows",
    "item-placement": "maps:placement_rows",
    "rounds": "language:round_rows",
    "nests": "language:nest_rows",
    "polls": "language:poll_rows",
    "durable": "durable:durable_rows",
    "item-resume": "maps:resume_rows",
    "shapes": "graphs:shape_rows",
    "code": "caches:code_rows",
    "cache": "caches:hit_rows",
    "plan": "caches:plan_rows",
    "frames": "frames:rows",
    "lane": "values:lane_rows",
    "process": "values:process_rows",
    "async": "coroutines:rows",
    "memory": "values:memory_rows",
    "checkpoint": "checkpoints:save_rows",
    "storages": "checkpoints:storage_rows",
    "large": "checkpoints:large_rows",
    "resume": "checkpoints:resume_rows",
    "finished": "checkpoints:finished_rows",
    "files": "files:rows",
    "clouds": "clouds:rows",
    "postgres": "postgres:rows",
    "dask": "clusters:dask_rows",
    "ray": "clusters:ray_rows",
    "timeouts": "timeouts:rows",
    "notify": "notifications:rows",
    "queue": "queues:rows",
    "machines": "machines:rows",
    "growth": "growth:rows",
}
#: Measured where they are named: they take many minutes, and gigabytes of the disk.
LONG: Final = frozenset({"growth"})

#: The rows that have a goal beside a peer or by themselves; the others are measured without.
GOALS: Final = (
    *("no-op", "log", "again", "failure", "memory", "history", "resume", "checkpoint"),
    *("sleep", "parallel", "async", "item-placement", "command"),
)
README: Final = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- goals -->", "<!-- end of the goals -->"

HEAD: Final = "| What | dotflow | Instead | takes | ratio | Budget | Within? |\n|---|--:|---|--:|--:|---|---|"


def main() -> None:
    """Measures what was asked for, and prints each row as it is known."""
    asked = _arguments()
    names = asked.only or (GOALS if asked.goals else [name for name in MEASUREMENTS if name not in LONG])
    shown = []
    for line in _table(names, asked.quick):
        print(line, flush=True)
        shown.append(line)
    if asked.readme:
        before, _, rest = README.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        README.write_text("\n".join((before + BEGIN, *shown, END + after)))


def _table(names: Iterable[str], quick: bool) -> Iterator[str]:
    began = time.monotonic()
    machine = f"Python {platform.python_version()}, {platform.system()}, {cpu_count()} cores, {date.today()}"
    yield f"{machine}, load {_load()} at the beginning.\n"
    yield HEAD
    for name in names:
        yield from _lines(name, quick)
    yield "\nratio: dotflow's cost ÷ the other's; below 1, dotflow costs less."
    yield f"{time.monotonic() - began:.0f} s in all, load {_load()} at the end."


def _load() -> str:
    return ", ".join(f"{value:.1f}" for value in getloadavg())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument(
        "--goals", action="store_true", help="the rows that have a goal beside a peer: ten minutes at most"
    )
    rows.add_argument("--only", action="append", choices=MEASUREMENTS, help="these rows; may be given again")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller sizes: for a first look")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md, too")
    return parser.parse_args()


def _lines(name: str, quick: bool) -> Iterator[str]:
    module, _, function = MEASUREMENTS[name].partition(":")
    try:
        measure: Callable[[bool], Iterator[Row]] = getattr(import_module(module), function)
        for row in measure(quick):
            yield from _written(row)
    except Exception as error:  # the other rows are worth having all the same
        yield f"| {name} | not measured | {type(error).__name__}: {error} | | | | |"


def _written(row: Row) -> Iterator[str]:
    """A line for the first peer, and one below it for each of the others."""
    verdict = {True: "yes", False: "**no**", None: ""}[row.within]
    head, tail = (row.what, _amount(row.ours, row.unit)), (row.budget, verdict)
    for name, taken in row.peers.items() or [("", 0.0)]:
        peer = (name, _amount(taken, row.unit), _ratio(row.ours / taken)) if taken > 0 else ("", "", "")
        yield f"| {' | '.join((*head, *peer, *tail))} |"
        head, tail = ("", ""), ("", "")


def _ratio(ratio: float) -> str:
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.2g}×"


def _amount(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:,.0f} {unit}".strip()
    for size, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value / 1e-9:.3g} ns"


if __name__ == "__main__":
    sys.exit(main())
