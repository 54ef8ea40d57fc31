"""Prints which executor keeps which promise of the executor contract. Run: python tests/executor_table.py

It runs tests/contract/test_executors.py, on real clusters too, which takes minutes; options go to pytest. A row is a
test's promise: ✓ means that it passed with all its parameters, ✗ that it failed with one, – that it does not apply.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent
EXECUTORS: Final = ("fork", "forkserver", "inline", "thread", "async", "dask", "ray")
SIGNS: Final[Mapping[bool | None, str]] = {True: "✓", False: "✗", None: "–"}


class Table:
    """A pytest plugin that records the result of each test."""

    def __init__(self) -> None:
        self.passed: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Records each phase of a test: one that fails in its teardown has failed."""
        self.passed[report.nodeid] = self.passed.get(report.nodeid, True) and not report.failed

    def lines(self) -> list[str]:
        """Returns the lines of the table."""
        rows: dict[str, dict[str, bool]] = {}
        for test, passed in self.passed.items():
            place, _, parameters = test.partition("[")
            executor = next((word for word in parameters.rstrip("]").split("-") if word in EXECUTORS), None)
            if executor is not None:
                row = rows.setdefault(promise_of(place), {})
                row[executor] = row.get(executor, True) and passed
        return [
            f"| promise | {' | '.join(EXECUTORS)} |",
            f"|---|{':-:|' * len(EXECUTORS)}",
            *(
                f"| {promise} | {' | '.join(SIGNS[row.get(name)] for name in EXECUTORS)} |"
                for promise, row in rows.items()
            ),
        ]


def promise_of(place: str) -> str:
    """Returns the subject of a test, and the first line of its docstring."""
    _, *names = place.split("::")
    member: Any = import_module("tests.contract.test_executors")
    for name in names:
        member = getattr(member, name)
    kind = names[0].removeprefix("Test") if len(names) > 1 else "Objects"
    return f"{kind}: {member.__doc__.strip().partition(chr(10))[0]}"


def main() -> int:
    """Prints the table; returns pytest's exit code."""
    sys.path.insert(0, str(ROOT))
    table = Table()
    suite = ROOT / "tests" / "contract" / "test_executors.py"
    code = pytest.main(["-q", "--no-header", "--rootdir", str(ROOT), str(suite), *sys.argv[1:]], [table])
    print("\n".join(table.lines()))
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main())
