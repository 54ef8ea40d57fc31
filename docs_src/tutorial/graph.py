import csv
import sqlite3
from contextlib import closing
from dataclasses import astuple, dataclass
from datetime import date, timedelta
from itertools import chain, groupby, pairwise
from pathlib import Path

from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Day:
    day: date
    weather: str
    rain: float  # millimetres
    high: float  # degrees Celsius
    low: float


@dataclass(frozen=True)
class Row:
    weather: str
    days: int
    rain: float


@action(checkpoint=False)
def months() -> list[Path]:
    return sorted(HERE.glob("*.csv"))


@action
def extract(path: Path) -> list[Day]:
    with path.open(newline="") as file:
        _, *lines = csv.reader(file)
    return [
        Day(date.fromisoformat(day), weather, float(rain), float(high), float(low))
        for day, weather, rain, high, low in lines
    ]


@action
def check(days: list[Day]) -> list[Day]:
    for before, after in pairwise(days):
        if after.day - before.day != timedelta(days=1) or after.low > after.high:
            raise ValueError(f"{after} can't come after {before.day}")
    return days


@action
def summarise(days: list[Day]) -> list[Row]:
    days = sorted(days, key=lambda day: day.weather)
    groups = [(weather, list(found)) for weather, found in groupby(days, key=lambda day: day.weather)]
    return [Row(weather, len(found), round(sum(day.rain for day in found), 1)) for weather, found in groups]


@action(retry=6, retry_delay=0.1, backoff=True, timeout=30)
def load(path: Path, rows: list[Row]) -> int:
    with closing(sqlite3.connect("weather.db", timeout=0, isolation_level=None)) as database, database:
        database.execute("BEGIN IMMEDIATE")  # all of it or nothing; refused while another connection writes
        database.execute(f"DROP TABLE IF EXISTS {path.stem}")
        database.execute(f"CREATE TABLE {path.stem} (weather, days, rain)")
        database.executemany(f"INSERT INTO {path.stem} VALUES (?, ?, ?)", map(astuple, rows))
    return len(rows)


@action
def total(summarise: list[list[Row]]) -> dict[str, float]:
    rain: dict[str, float] = {}
    for row in chain.from_iterable(summarise):
        rain[row.weather] = round(rain.get(row.weather, 0) + row.rain, 1)
    return rain


workflow = DotFlow(Config(storage=StorageFile(path="checkpoints")), workflow_id="months")
workflow.task.add(months).add(extract, each=months).add(check, each=extract).add(summarise, each=check)
workflow.task.add(load, each={"path": months, "rows": summarise})
workflow.task.add(total)
run = workflow.start(mode="parallel", keep_going=True, resume=True)

print(run.status)
for task in run.tasks:
    print(f"{task.name}: {task.status}" + (f", {len(task.items)} items" if task.items else ""))
for weather, rain in run.value("total").items():
    print(f"    {weather:8} {rain:5.1f} mm")
