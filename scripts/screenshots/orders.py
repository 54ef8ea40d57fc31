"""A nightly workflow that fails: the run of the picture in the README. On a virtual clock, minutes take seconds."""

import random
import sys
from datetime import UTC, datetime

from dotflow import Config, DotFlow, action
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault
from dotflow.testing import virtual_clock

ORDERS = 10_000
WITHOUT_RATE = (411, 5120, 7777)

chance = random.Random(7)
answers = iter([TimeoutError("rates.example did not answer within 3 s"), None])


@action
def extract_orders() -> list[int]:
    clock.sleep(21.4)
    return list(range(ORDERS))


@action(retry=5, retry_delay="2s")
def extract_rates() -> dict[str, float]:
    clock.sleep(3.1)
    if error := next(answers):
        raise error
    return {"EUR": 1.0, "USD": 1.0817, "GBP": 0.8342}


@action
def check_schema(extract_orders: list[int]) -> None:
    clock.sleep(6.2)


@action(retry=2, retry_delay=0)
def convert(order: int, extract_rates: dict[str, float], check_schema: None) -> float:
    clock.sleep(abs(chance.gauss(0.11, 0.05)) + 0.02)
    if order in WITHOUT_RATE:
        raise ValueError(f"order {order}: unknown currency 'XBT'")
    if chance.random() < 0.001:
        raise TimeoutError("the connection to the converter timed out")
    return order * extract_rates["USD"]


@action
def dedupe(convert: list[float]) -> list[float]:
    clock.sleep(14.2)
    return convert


@action(retry=3, retry_delay="3s")
def load(dedupe: list[float]) -> int:
    print("connecting to warehouse-2")
    for sent in range(1024, 4096, 1024):
        clock.sleep(3)
        print(f"sent {sent} rows")
    print("psql: warning: server closed the connection unexpectedly", file=sys.stderr)
    clock.sleep(2)
    return insert(dedupe[4096:])


def insert(rows: list[float]) -> int:
    raise ConnectionError(f"warehouse-2 closed the connection, {len(rows)} rows are left")


@action
def notify_sales(load: int) -> None: ...


with virtual_clock(datetime(2026, 11, 24, 2, tzinfo=UTC)) as clock:
    history = HistorySQLite(path=sys.argv[1])
    config = Config(history=history, executor=ExecutorThread(), log=LogDefault(output="none"))
    workflow = DotFlow(config, workflow_id="nightly-orders")
    workflow.task.add([extract_orders, extract_rates, check_schema])
    workflow.task.add(convert, each={"order": extract_orders}, max_parallel=8, keep_going=True)
    workflow.task.add([dedupe, load, notify_sales])
    workflow.start(mode="parallel")
