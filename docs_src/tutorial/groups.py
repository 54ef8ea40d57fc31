import csv
import sqlite3
from contextlib import closing
from dataclasses import astuple, dataclass
from datetime import date, timedelta
from itertools import groupby, pairwise
from pathlib import Path

from dotflow import Config, Context, DotFlow, action
from dotflow.providers import StorageFile

MONTHS = [Path(__file__).with_name(f"{month}.csv") for month in ("january", "july")]
DATABASE = Path("weather.db")


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


@action
def extract(initial_context: Context) -> list[Day]:
    with initial_context.storage.open(newline="") as file:
        _, *lines = csv.reader(file)
    return [
        Day(date.fromisoformat(day), weather, float(rain), float(high), float(low))
        for day, weather, rain, high, low in lines
    ]


@action
def check(previous_context: Context) -> list[Day]:
    days: list[Day] = previous_context.storage
    for before, after in pairwise(days):
        if after.day - before.day != timedelta(days=1) or after.low > after.high:
            raise ValueError(f"{after} can't come after {before.day}")
    return days


@action
def summarise(previous_context: Context) -> list[Row]:
    days = sorted(previous_context.storage, key=lambda day: day.weather)
    groups = [(weather, list(found)) for weather, found in groupby(days, key=lambda day: day.weather)]
    return [Row(weather, len(found), round(sum(day.rain for day in found), 1)) for weather, found in groups]


@action(retry=6, retry_delay=0.1, backoff=True, timeout=30)
def load(initial_context: Context, previous_context: Context) -> list[Row]:
    month: str = initial_context.storage.stem
    rows: list[Row] = previous_context.storage
    with closing(sqlite3.connect(DATABASE, timeout=0, isolation_level=None)) as database, database:
        database.execute("BEGIN IMMEDIATE")  # all of it or nothing; refused while somebody else writes
        database.execute(f"DROP TABLE IF EXISTS {month}")
        database.execute(f"CREATE TABLE {month} (weather, days, rain)")
        database.executemany(f"INSERT INTO {month} VALUES (?, ?, ?)", map(astuple, rows))
    return rows


workflow = DotFlow(Config(storage=StorageFile(path="checkpoints")), workflow_id="months")
for path in MONTHS:
    workflow.task.add([extract, check, summarise, load], initial_context=path, group_name=path.stem)
run = workflow.start(keep_going=True, resume=True)

print(run.status)
for task in run.tasks:
    if task.name == "load":
        print(f"{task.group_name}: {task.status}")
        for row in task.current_context.storage or []:
            print(f"    {row.weather:8} {row.days:2} days {row.rain:5.1f} mm")
