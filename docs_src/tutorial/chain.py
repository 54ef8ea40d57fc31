import csv
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby, pairwise
from pathlib import Path

from dotflow import Context, DotFlow, action

JANUARY = Path(__file__).with_name("january.csv")


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
def check(extract: list[Day]) -> list[Day]:
    for before, after in pairwise(extract):
        if after.day - before.day != timedelta(days=1) or after.low > after.high:
            raise ValueError(f"{after} can't come after {before.day}")
    return extract


@action
def summarise(check: list[Day]) -> list[Row]:
    days = sorted(check, key=lambda day: day.weather)
    groups = [(weather, list(found)) for weather, found in groupby(days, key=lambda day: day.weather)]
    return [Row(weather, len(found), round(sum(day.rain for day in found), 1)) for weather, found in groups]


workflow = DotFlow(name="weather")
workflow.task.add([extract, check, summarise], initial_context=JANUARY)
run = workflow.start()

print(run.status)
for row in run.value("summarise"):
    print(f"{row.weather:8} {row.days:2} days {row.rain:5.1f} mm")
