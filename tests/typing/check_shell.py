"""Commands, atomic_path and note for type checkers. mypy and Pyright read this file."""

from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

from dotflow import DotFlow, Secret, atomic_path, note, shell
from dotflow.core.action import Action

step = shell(
    "sort {rows} > {out}",
    name="sort",
    outputs={"out": Path("sorted") / "{rows.name}"},
    value="out",
    ok=[0, 1],
    env={"LANG": "C", "TOKEN": Secret("TOKEN")},
    cwd=Path(),
    retry=3,
    timeout="5m",
)
assert_type(step, Action[..., Any])
DotFlow().task.add(step, each={"rows": [Path("a.csv")]})

with atomic_path("report.csv") as path, atomic_path(Path("log.txt"), mode="a") as log:
    assert_type(path, Path)
    assert_type(log, Path)

shell("date")  # type: ignore[call-arg]
atomic_path("report.csv", mode="x")  # type: ignore[arg-type]

note(rows=3, score=0.93, source="crm", share=Decimal("0.5"))
note(rows=None)  # type: ignore[arg-type]
note("rows")  # type: ignore[call-arg]
