import csv
import sqlite3
from contextlib import closing
from dataclasses import astuple, dataclass
from datetime import date, timedelta
from itertools import groupby, pairwise
from pathlib import Path

from dotflow import Config, Context, DotFlow, action
from dotflow.providers import StorageFile

JANUARY = Path(__file__).with_name("january.csv")
DATABASE = Path("archive/weather.db")


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
    print("extract runs")
    with initial_context.storage.open(newline="") as file:
        _, *lines = csv.reader(file)
    return [
        Day(date.fromisoformat(day), weather, float(rain), float(high), float(low))
        for day, weather, rain, high, low in lines
    ]


@action
def check(extract: list[Day]) -> list[Day]:
    print("check runs")
    for before, after in pairwise(extract):
        if after.day - before.day != timedelta(days=1) or after.low > after.high:
            raise ValueError(f"{after} can't come after {before.day}")
    return extract


@action
def summarise(check: list[Day]) -> list[Row]:
    print("summarise runs")
    days = sorted(check, key=lambda day: day.weather)
    groups = [(weather, list(found)) for weather, found in groupby(days, key=lambda day: day.weather)]
    return [Row(weather, len(found), round(sum(day.rain for day in found), 1)) for weather, found in groups]


@action(timeout=30)
def load(summarise: list[Row]) -> int:
    print("load runs")
    with closing(sqlite3.connect(DATABASE, isolation_level=None)) as database, database:
        database.execute("BEGIN IMMEDIATE")  # all of it or nothing; refused while another connection writes
        database.execute("DROP TABLE IF EXISTS weather")
        database.execute("CREATE TABLE weather (weather, days, rain)")
        database.executemany("INSERT INTO weather VALUES (?, ?, ?)", map(astuple, summarise))
    return len(summarise)


workflow = DotFlow(Config(storage=StorageFile(path="checkpoints")), workflow_id="weather")
workflow.task.add([extract, check, summarise, load], initial_context=JANUARY)
run = workflow.start(resume="unfinished")

print(run.status)
for task in run.tasks:
    print(f"{task.name}: {task.status}" + (f", {task.error.message}" if task.error else ""))
