import csv
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dotflow import DotFlow, action

JANUARY = Path(__file__).with_name("january.csv")


@dataclass(frozen=True)
class Day:
    day: date
    weather: str
    rain: float  # millimetres
    high: float  # degrees Celsius
    low: float


@action
def extract() -> list[Day]:
    with JANUARY.open(newline="") as file:
        _, *lines = csv.reader(file)
    return [
        Day(date.fromisoformat(day), weather, float(rain), float(high), float(low))
        for day, weather, rain, high, low in lines
    ]


workflow = DotFlow(name="weather")
workflow.task.add(extract)
run = workflow.start()

days = workflow.result_storage()[0]
print(run.status)
print(len(days), "days, the first:", days[0])
