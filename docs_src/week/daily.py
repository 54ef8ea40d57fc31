"""A report for each day: the day is a parameter of the run."""

import csv
from datetime import date
from decimal import Decimal
from pathlib import Path

from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

ORDERS = Path("src/shop/orders.csv")


@action(retry=3, timeout="30s")
def amounts(source: Path, day: date) -> list[Decimal]:
    with source.open(newline="") as file:
        found = [Decimal(row["amount"]) for row in csv.DictReader(file) if row["day"] == str(day)]
    if not found:
        raise ValueError(f"no orders on {day}")
    return found


@action
def report(amounts: list[Decimal], day: date) -> str:
    text = f"{day}: {len(amounts)} orders, {sum(amounts)} in all"
    Path("output").mkdir(exist_ok=True)
    Path(f"output/{day}.txt").write_text(f"{text}\n")
    return text


daily = DotFlow(Config(storage=StorageFile()), workflow_id="daily", params={"day": ...})
daily.task.add(amounts, params={"source": ORDERS}).add(report)
