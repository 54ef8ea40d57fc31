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
def check(previous_context: Context) -> list[Day]:
    for yesterday, day in pairwise(previous_context.storage):
        if (day.date - yesterday.date).days != 1 or day.low > day.high or day.rain < 0:
            raise ValueError(f"{day} can't be the day after {yesterday.date:%d %B %Y}")
    return previous_context.storage


@action
def aggregate(initial_context: Context) -> list[Row]:
    days, column = initial_context.storage
    groups = defaultdict(list)
    for day in days:
        groups[getattr(day, column)].append(day)
    return [
        Row(name, len(found), mean(d.rain for d in found), mean(d.high for d in found), mean(d.low for d in found))
        for name, found in groups.items()
    ]


@action(retry=6, retry_delay=0.05, backoff=True, timeout=5)
def load(initial_context: Context, previous_context: Context) -> list[Row]:
    table, rows = initial_context.storage, previous_context.storage
    with closing(sqlite3.connect(OUTPUT / "weather.db", timeout=0, isolation_level=None)) as database, database:
        database.execute("BEGIN IMMEDIATE")  # refused while the other group writes: what the retry is for
        database.execute(f"DROP TABLE IF EXISTS {table}")
        database.execute(f"CREATE TABLE {table} ({', '.join(Row._fields)})")
        database.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", rows)
    return rows


def summary(task: Task) -> None:
    print(f"\n{'by ' + task.group_name:10}  days  mm/day  high   low   ({task.status}, attempt {task.attempt})")
    for row in task.current_context.storage or []:
        print(f"{row.name:10} {row.days:5} {row.rain:7.1f} {row.high:5.1f} {row.low:5.1f}")


OUTPUT.mkdir(exist_ok=True)
prepare = DotFlow()
prepare.task.add([extract, check], initial_context=Path(__file__).with_name("seattle-weather.csv"))
if prepare.start().status != "Completed":
    raise SystemExit("The days can't be used.")

workflow = DotFlow()
for column in ("month", "weather"):
    workflow.task.add(aggregate, initial_context=(prepare.result_storage()[-1], column), group_name=column)
    workflow.task.add(load, initial_context=column, callback=summary, group_name=column)
workflow.task.add("chart.draw", initial_context=OUTPUT / "climate.svg", group_name="month")
if workflow.start(on_success=lambda tasks: print(f"\nSee {OUTPUT}")).status != "Completed":
    raise SystemExit(1)
