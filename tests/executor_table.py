"""Prints which executor keeps which promise of the executor contract. Run: python tests/executor_table.py

It runs tests/contract/test_executors.py, on real clusters too, which takes minutes; options go to pytest. A row is a test's
promise, whatever the values that it was tried with; ✓ says that all of them passed, ✗ that one did not, – that it is not
asked of it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
EXECUTORS: Final = ("fork", "forkserver", "spawn", "inline", "thread", "async", "dask", "ray")
SIGNS: Final[Mapping[bool | None, str]] = {True: "✓", False: "✗", None: "–"}


class Table:
    """A plugin of pytest's that notes what became of each test."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, bool]] = {}
        self._places: dict[str, tuple[str, str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Called by pytest once, with all tests."""
        for item in items:
            function = getattr(item, "function", None)
            words = (getattr(function, "__doc__", None) or item.name).strip().partition("\n")[0]
            words += {"TestClassSteps": " (a class)", "TestCoroutines": " (coroutines)"}.get(_class_of(item), "")
            executors = [word for word in item.nodeid.partition("[")[2].rstrip("]").split("-") if word in EXECUTORS]
            if executors:
                self._places[item.nodeid] = (words, executors[0])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest for each part of a test; one that fails in its tear-down has failed."""
        if report.nodeid in self._places:
            words, executor = self._places[report.nodeid]
            row = self.kept.setdefault(words, {})
            row[executor] = row.get(executor, True) and not report.failed

    def lines(self) -> list[str]:
        """The table."""
        head = [f"| promise | {' | '.join(EXECUTORS)} |", f"|---|{':-:|' * len(EXECUTORS)}"]
        return head + [
            f"| {words} | {' | '.join(SIGNS[row.get(executor)] for executor in EXECUTORS)} |"
            for words, row in self.kept.items()
        ]


def _class_of(item: pytest.Item) -> str:
    parent = item.parent
    return parent.name if parent is not None else ""


def main() -> int:
    """Prints the table; what pytest ended with."""
    table = Table()
    suite = ROOT / "tests" / "contract" / "test_executors.py"
    code = pytest.main(["-q", "--no-header", "--rootdir", str(ROOT), str(suite), *sys.argv[1:]], [table])
    print("\n".join(table.lines()))
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main())
