"""Groups whose steps use pandas, which starts native threads: so their workers are not forked from the program."""

import io
from collections.abc import Iterator
from typing import Any, Final

import pandas as pd
from measure import Row, best, fresh_contender, seconds_of
from workflows import completed, quiet

from dotflow import Context, DotFlow, action

GROUPS: Final = 5
TEXT: Final = "a,b,c\n" + "".join(f"{n},{n * 2},{n * 3}\n" for n in range(40_000))
SLACK: Final = 0.1  # seconds that the start and end of the workers may take


def read() -> Any:
    return pd.read_csv(io.StringIO(TEXT))


def total(frame: Any) -> int:
    return int(frame.groupby(frame.a % 10).b.sum().sum())


@action
def reading() -> Any:
    return read()


@action
def totalling(previous_context: Context) -> int:
    return total(previous_context.storage)


def rows(quick: bool) -> Iterator[Row]:
    """Five groups that read a CSV file and sum it up, in a program's second run, beside the same in a plain loop."""
    names = ("dotflow", "plain loop", "first run")
    found = best({name: fresh_contender(measure, name) for name in names}, 1 if quick else 5)
    ours, loop = found.pop("dotflow"), found["plain loop"]
    yield Row(
        what=f"{GROUPS} groups that use pandas, second run",
        ours=ours,
        peers=found,
        budget=f"the loop + {SLACK:g} s",
        within=ours <= loop + SLACK,
    )


def measure(contender: str) -> float:
    """Seconds for all groups."""
    workflow = DotFlow(quiet())
    for group in range(GROUPS):
        workflow.task.add([reading, totalling], group_name=str(group))

    def work() -> None:
        if contender == "plain loop":
            for _ in range(GROUPS):
                total(read())
        else:
            completed(workflow)

    if contender != "first run":
        work()
    return seconds_of(work)
