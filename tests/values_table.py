"""Prints which values are kept, type by type, as a Markdown table. Run: python tests/values_table.py

One process puts each value into a StorageFile, a second one reads it there, makes the same value anew and compares,
types at every level included. A value is exact, or it was refused; one that is changed is a fault.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

import hypothesis  # noqa: E402 (found through the path that was just set)

from dotflow import Context  # noqa: E402
from dotflow.core.failure import name_of  # noqa: E402
from dotflow.errors import ValueNotStorable  # noqa: E402
from dotflow.providers import StorageFile  # noqa: E402
from dotflow.testing.contracts.equality import difference  # noqa: E402
from dotflow.testing.contracts.values import OTHERS, PLAIN  # noqa: E402
from tests.unit import codec_samples  # noqa: E402
from tests.unit import test_codec_frames as frames  # noqa: E402

Case = tuple[str, str, Any]  # the kind, the value's own name, the value


def main() -> int:
    """Prints the table; 1 if a value was changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=2000, help="the number of random values (default: 2000)")
    parser.add_argument("--read", metavar="FOLDER", help="compare the values in this folder (for the second process)")
    options = parser.parse_args()
    if options.read:
        return read(StorageFile(path=options.read, durability="process"), options.random)
    with tempfile.TemporaryDirectory() as folder:
        write(StorageFile(path=folder, durability="process"), options.random)
        again = [sys.executable, __file__, "--random", str(options.random), "--read", folder]
        return subprocess.run(again, check=False).returncode


def write(storage: StorageFile, random: int) -> None:
    """Stores the values, or why one is refused."""
    for number, (_, _, value) in enumerate(cases(random)):
        try:
            storage.post(f"values/{number}", Context([value], task_id=number))  # in a list: a Context is a value, too
        except ValueNotStorable as error:
            storage.post(f"refused/{number}", Context(str(error), task_id=number))


def read(storage: StorageFile, random: int) -> int:
    """Compares, and prints a line for each kind."""
    print(f"Python {sys.version.split()[0]}. Written by one process, read and compared by another.\n")
    print("| kind | tried | exact | refused | changed | refused, for instance |\n|---|--:|--:|--:|--:|---|")
    counts: dict[str, list[Any]] = {}
    changed: list[str] = []
    for number, (kind, name, value) in enumerate(cases(random)):
        row = counts.setdefault(kind, [0, 0, 0, 0, []])
        row[0] += 1
        if storage.contains(f"refused/{number}"):
            row[2] += 1
            row[4].append(name_of(type(value)))
            continue
        (found,) = storage.get(f"values/{number}").storage
        if is_same(value, found):
            row[1] += 1
        else:
            row[3] += 1
            changed.append(f"{kind}, {name}: {difference(value, found) or 'differs'}")
    for kind, (*numbers, refused) in counts.items():
        print(f"| {kind} | {' | '.join(map(str, numbers))} | {', '.join(sorted(set(refused)))} |")
    print("\n".join(["", *changed]))
    return 1 if changed else 0


def is_same(value: Any, found: Any) -> bool:
    """Whether two values are the same, types at every level included."""
    if str(type(value).__module__).partition(".")[0] in ("numpy", "pandas", "polars", "pyarrow"):
        return frames.same(value, found)
    return type(value) is type(found) and difference(value, found) == ""


def cases(random: int) -> Iterator[Case]:
    """Every value, in the same order in every process."""
    for name, value in PLAIN.items():
        yield f"plain JSON: {name_of(type(value))}", name, value
    for name, make in OTHERS.items():
        yield "Python's own and classes", name, make()
    yield from named("NumPy arrays", enumerate(frames.ARRAYS))
    yield from named("NumPy scalars", enumerate(frames.SCALARS))
    yield from named("pandas columns", frames.COLUMNS.items())
    yield from named("pandas indexes", frames.INDEXES.items())
    yield from named("pandas frames", frames.FRAMES.items())
    yield from named("Polars", frames.POLARS.items())
    yield from named("Arrow", frames.ARROW.items())
    yield from named("refused frames", ((name, pair[0]) for name, pair in frames.REFUSED.items()))
    yield from named("random, of all of Python's types", enumerate(random_values(random)))


def named(kind: str, values: Iterable[tuple[Any, Any]]) -> Iterator[Case]:
    for name, value in values:
        yield kind, str(name), value


def random_values(count: int) -> list[Any]:
    """Nested values, the same in every process."""
    found: list[Any] = []

    @hypothesis.settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(codec_samples.values())
    def draw(value: Any) -> None:
        found.append(value)

    draw()
    return found


if __name__ == "__main__":
    sys.exit(main())
