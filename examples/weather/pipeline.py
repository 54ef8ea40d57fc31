"""Four years of Seattle's weather: from a CSV file to two tables, a chart and a summary."""

import csv
import sqlite3
from collections import defaultdict, namedtuple
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import mean

from dotflow import Context, DotFlow, Task, action

OUTPUT = Path(__file__).with_name("output")
COLUMNS = ["month", "weather"]
Day = namedtuple("Day", "date month weather rain high low")
Row = namedtuple("Row", "name days rain high low")


@action
def extract(initial_context: Context) -> list[Day]:
    with initial_context.storage.open(newline="") as file:
        _, *lines = csv.reader(file)
    return [
        Day(day := datetime.strptime(date, "%Y/%m/%d"), f"{day:%b}", weather, float(rain), float(high), float(low))
        for date, rain, high, low, _, weather in lines
    ]


@action
def check(extract: list[Day]) -> list[Day]:
    for yesterday, day in pairwise(extract):
        if (day.date - yesterday.date).days != 1 or day.low > day.high or day.rain < 0:
            raise ValueError(f"{day} can't be the day after {yesterday.date:%d %B %Y}")
    return extract


@action
def aggregate(column: str, check: list[Day]) -> list[Row]:
    groups = defaultdict(list)
    for day in check:
        groups[getattr(day, column)].append(day)
    return [
        Row(name, len(found), mean(d.rain for d in found), mean(d.high for d in found), mean(d.low for d in found))
        for name, found in groups.items()
    ]


@action(retry=6, retry_delay=0.05, backoff=True, timeout=5)
def load(table: str, rows: list[Row]) -> list[Row]:
    with closing(sqlite3.connect(OUTPUT / "weather.db", timeout=0, isolation_level=None)) as database, database:
        database.execute("BEGIN IMMEDIATE")  # refused while the other table is written: what the retry is for
        database.execute(f"DROP TABLE IF EXISTS {table}")
        database.execute(f"CREATE TABLE {table} ({', '.join(Row._fields)})")
        database.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", rows)
    return rows


def summary(task: Task) -> None:
    for item in task.items:
        print(f"\n{'by ' + item.input['table']:10}  days  mm/day  high   low   ({item.status}, attempt {item.attempt})")
        for row in item.value or []:
            print(f"{row.name:10} {row.days:5} {row.rain:7.1f} {row.high:5.1f} {row.low:5.1f}")


OUTPUT.mkdir(exist_ok=True)
workflow = DotFlow(name="weather")
workflow.task.add(extract, initial_context=Path(__file__).with_name("seattle-weather.csv")).add(check)
workflow.task.add(aggregate, each=COLUMNS)
workflow.task.add(load, each={"table": COLUMNS, "rows": aggregate}, callback=summary)  # each table when it is ready
workflow.task.add("chart.draw", initial_context=OUTPUT / "climate.svg")  # takes the value of aggregate
run = workflow.start(mode="parallel", on_success=lambda tasks: print(f"\nSee {OUTPUT}"))
raise SystemExit(run.status != "Completed")
