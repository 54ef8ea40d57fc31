"""The tables of the comparison: observations in, Markdown out."""

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Facts = Mapping[str, Any]
Cell = Callable[[Facts], str]

LATE: Final = 3  # seconds after which a step that may take one was not ended by its timeout
SHORT: Final = ["dotflow", "Luigi", "Prefect", "Dagster", "Celery", "DBOS"]  # those in the compact table


def all_tables(results: Mapping[str, Facts]) -> str:
    """Every table, one below the other, with the versions and the days on which they were measured."""
    versions = ", ".join(f"{name} {facts['installed'].get('version', '?')}" for name, facts in results.items())
    dates = sorted({str(facts["date"]) for facts in results.values()})
    parts = [
        f"{' to '.join(dict.fromkeys([dates[0], dates[-1]]))}, Python {platform.python_version()}: {versions}",
        "### The same things, measured",
        short_table({name: results[name] for name in SHORT if name in results}),
        "### What comes with it",
        table(results, WEIGHT),
        "### What a step costs",
        table(_with_sqlite(results), COST),
        "### A step that hangs",
        table(results, LIMITS),
        "### What a crash leaves",
        table(results, CRASHES),
    ]
    return "\n\n".join(parts)


def _with_sqlite(results: Mapping[str, Facts]) -> dict[str, Facts]:
    """The second storage of dotflow in a row of its own."""
    rows: dict[str, Facts] = {}
    for name, facts in results.items():
        rows[name] = facts
        if "sqlite" in facts:
            rows[f"{name}, in SQLite"] = {"overhead": {"lacks": ""}, "durable": facts["sqlite"]}
    return rows


def table(results: Mapping[str, Facts], columns: Mapping[str, tuple[str, Cell]]) -> str:
    """A row for each contender."""
    body = [[name, *(cell(facts, *column) for column in columns.values())] for name, facts in results.items()]
    return markdown(["", *columns], body)


def short_table(results: Mapping[str, Facts]) -> str:
    """A column for each contender."""
    body = [[title, *(cell(facts, *row) for facts in results.values())] for title, row in COMPACT.items()]
    return markdown(["", *results], body)


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("|  |", "| |")


def cell(facts: Facts, measurement: str, show: Cell) -> str:
    """What stands in a cell: the observation, what is lacking, or why there is none."""
    found = facts.get(measurement, {"lacks": ""})
    for instead in ("lacks", "failed"):
        if instead in found:
            return str(found[instead]).replace("|", "/")
    return show(found)


def seconds(found: Facts) -> str:
    return f"{found['seconds']:.2g} s" if found["seconds"] < 1 else f"{found['seconds']:.1f} s"


def milliseconds(found: Facts) -> str:
    return number(found["seconds"] * 1000) + " ms"


def milliseconds_of(found: Facts) -> str:
    return f"{milliseconds(found)} ({found['steps']:,})"


def number(value: float) -> str:
    """Two digits that count."""
    return f"{value:.0f}" if value >= 10 else f"{float(f'{value:.2g}'):.6g}"


def installed(found: Facts) -> str:
    return f"{found['distributions']} / {number(found['bytes'] / 1e6)} MB"


def limited(found: Facts) -> str:
    """A step that is late: whether it was ended, when its caller knew, and when the program was gone."""
    how = "**later line ran**" if found["ran_on"] else "ended" if found["told"] < LATE else "**ended late**"
    what = f"{how}, {found['told']:.1f} s"
    exits = f"; exit {found['over']:.1f} s" if found["over"] - found["told"] > 0.5 else ""
    return what + exits + (f"; {found['left']} left behind" if found["left"] else "")


def resumed(found: Facts) -> str:
    """Which steps began more than once, of five that were cut off in the third."""
    again = [str(step) for step, times in enumerate(found["began"], 1) if times > 1]
    never = [str(step) for step, times in enumerate(found["began"], 1) if not times]
    return f"{' '.join(again) or 'none'}" + (f"; {' '.join(never)} never" if never else "")


def died(found: Facts) -> str:
    """What became of the three steps beside the one whose process died."""
    others = f"{found['ended']} of 3"
    repeats = f"; {found['again']} of them ran twice" if found["again"] else ""
    attempts = f"; the dead one ran {found['attempts']} times" if found["attempts"] > 1 else ""
    left = f"; {found['left']} processes left behind" if found.get("left") else ""
    return f"{others}{repeats}{attempts}; {found['seconds']:.1f} s, {found['said']}{left}"


def survivors(found: Facts) -> str:
    """The same in three words, for the compact table."""
    return f"{found['ended']} of 3" + (f", {found['again']} twice" if found["again"] else "")


def came(found: Facts) -> str:
    """What a value looked like; of a refusal, only the error's name."""
    text = str(found["came"]).replace("|", "/")
    return ":".join(text.split(":")[:2]) if text.startswith("refused: ") else text


WEIGHT: Final[Mapping[str, tuple[str, Cell]]] = {
    "Version": ("installed", lambda found: str(found["version"])),
    "Distributions": ("installed", lambda found: str(found["distributions"])),
    "Installed": ("installed", lambda found: number(found["bytes"] / 1e6) + " MB"),
    "Import": ("import", seconds),
    "First program": ("first", seconds),
}
COST: Final[Mapping[str, tuple[str, Cell]]] = {
    "Nothing durable (steps)": ("overhead", milliseconds_of),
    "Results on disk (steps)": ("durable", milliseconds_of),
}
LIMITS: Final[Mapping[str, tuple[str, Cell]]] = {
    "Sleeps in Python": ("late", limited),
    "Loops in C": ("stuck", limited),
}
CRASHES: Final[Mapping[str, tuple[str, Cell]]] = {
    "Ran again after kill -9": ("chain", resumed),
    "A worker dies: the others that ended": ("died", died),
    "The value afterwards": ("values", came),
}
COMPACT: Final[Mapping[str, tuple[str, Cell]]] = {
    "packages / MB installed": ("installed", installed),
    "three steps, start to exit": ("first", seconds),
    "a step, its result on disk": ("durable", milliseconds),
    "10 s stuck in C, timeout 1 s": ("stuck", limited),
    "one of 4 processes dies: others that end": ("died", survivors),
    "a value of six types, after kill -9": ("values", came),
}
