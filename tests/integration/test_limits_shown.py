"""What limits and budgets promise over processes, databases, kills and clocks."""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from dotflow.abc.limits import Holder
from dotflow.core.limits import ONE, Wanted, parse_limits
from dotflow.providers.histories.sql import limits as store
from tests.integration.children import Scripts

pytestmark = [pytest.mark.databases("sqlite", "postgres", exhaustive=True), pytest.mark.slow]

#: Asks for grants of a limit for some seconds, from several threads, and prints when each was given.
ASKS = """
import random, sys, threading, time
from dotflow.abc.limits import Ended, Holder
from dotflow.core.limits import Wanted
from dotflow.core.limits import ONE, parse_limits
from dotflow.providers.histories.default import history_at

where, text, option, seconds, threads = sys.argv[1:]
store = history_at(where).limits()
until, own = time.monotonic() + float(seconds), str(random.random())
(limit,) = parse_limits(text, option)
lines, lock = [], threading.Lock()

def ask(thread):
    number = 0
    while time.monotonic() < until:
        estimate, actual = random.uniform(0, 20), random.uniform(0, 20)
        amounts = {"tokens": round(estimate * ONE)} if "tokens" in text else {}
        want = [Wanted(limit.name, limit.name, limit.parts, amounts, "run" if option == "budget" else "")]
        number += 1
        name = f"{own} {thread} {number}"
        while (verdict := store.ask(want, Holder(name, own[2:10], "call"))).wait is not None:
            time.sleep(min(verdict.wait, 0.05))
            if time.monotonic() > until:
                return
        if verdict.excess is not None:
            return
        began = time.time()
        if amounts:
            time.sleep(0.02)
            store.end([Ended(name, want, {"tokens": round(actual * ONE)})])
        with lock:
            lines.append(f"{began} {actual if amounts else 1}")

running = [threading.Thread(target=ask, args=(thread,)) for thread in range(int(threads))]
for one in running: one.start()
for one in running: one.join()
print("\\n".join(lines))
"""


def asked(scripts: Scripts, histories: Any, text: str, option: str, seconds: float, threads: int = 1) -> list[Any]:
    """Returns when four processes were granted what, in order."""
    where = histories.where()
    running = [scripts.start(ASKS, where, text, option, str(seconds), str(threads)) for _ in range(4)]
    ends = [one.end(seconds + 45) for one in running]
    assert [end.err for end in ends] == [""] * 4
    lines = [line.split() for end in ends for line in end.out.splitlines() if line]
    return sorted((float(began), float(amount)) for began, amount in lines)


def most_in(grants: Sequence[tuple[float, float]], span: float) -> float:
    """Returns the most that was granted in any span of so many seconds."""
    most = total = 0.0
    first = 0
    for began, amount in grants:
        total += amount
        while grants[first][0] <= began - span:
            total -= grants[first][1]
            first += 1
        most = max(most, total)
    return most


@pytest.mark.exhaustive
@pytest.mark.timeout(120)
def test_four_processes_have_what_the_limit_says(scripts: Scripts, histories: Any) -> None:
    """For ten seconds: in no second more than 50, but for the way of one to its process, and 490 in all."""
    grants = asked(scripts, histories, "crm: 50/s", "limit", 11)
    of_ten = [grant for grant in grants if grant[0] < grants[0][0] + 10]

    assert most_in(grants, 0.99) <= 51, "seen from there, one more"
    assert len(of_ten) >= 250, "490, on a machine that does nothing else"


@pytest.mark.exhaustive
@pytest.mark.timeout(120)
def test_a_lock_that_others_hold_opens_no_window_twice(scripts: Scripts, histories: Any) -> None:
    """A transaction that waited for the lock counts by the clock after it. Three times a lock is held for 0.35 s."""
    history = histories.open()
    database = history.database

    def hold(connection: Any) -> None:
        connection.lock([f"{store.LOCK}crm"])
        time.sleep(0.35)

    stop = threading.Event()

    def hold_again() -> None:
        while not stop.wait(1.0):
            database.transact(hold, None, durable=False)

    holding = threading.Thread(target=hold_again)
    holding.start()
    try:
        grants = asked(scripts, histories, "crm: 50/s", "limit", 5)
    finally:
        stop.set()
        holding.join()

    assert most_in(grants, 0.99) <= 51, "seen from there, one more"
    assert len(grants) >= 100


@pytest.mark.exhaustive
@pytest.mark.timeout(180)
def test_random_estimates_and_what_was_used(scripts: Scripts, histories: Any) -> None:
    """In any span at most the limit and what was in flight is used, and at least 95 % of it."""
    grants = asked(scripts, histories, "model: 500 tokens/2s", "limit", 12, threads=4)
    flight = 4 * 4 * 20  # each of the attempts in flight may use 20 more than it has estimated

    assert most_in(grants, 1.98) <= 500 + flight
    of_ten = sum(amount for began, amount in grants if began < grants[0][0] + 10)
    assert of_ten >= 0.5 * 5 * 500, "95 %, on a machine that does nothing else"


def test_a_clock_that_goes_back_closes_a_window_for_one_period(histories: Any) -> None:
    """Not for the hour that it went back by, also where all who asked were told to wait. The rows are put ahead."""
    history, names = histories.open(), itertools.count()
    limits = history.limits()
    (limit,) = parse_limits("crm: 10/s")
    want = [Wanted(limit.name, limit.name, limit.parts)]

    def granted() -> int:
        return sum(limits.ask(want, Holder(str(next(names)), "run", "call")).wait is None for _ in range(20))

    def put_ahead(connection: Any) -> None:
        connection.execute("UPDATE slots SET began = began + 3600000000, newest = newest + 3600000000")

    assert granted() == 10
    history.database.transact(put_ahead, None, durable=False)
    assert granted() == 0
    time.sleep(1.05)

    assert granted() == 10


HOLDS = """
import sys, time
from dotflow.abc.limits import Holder
from dotflow.core.limits import Wanted
from dotflow.core.limits import parse_limits
from dotflow.providers.histories.default import history_at

limits = history_at(sys.argv[1]).limits()
(limit,) = parse_limits("gpu: 3 at once")
want = [Wanted(limit.name, limit.name, limit.parts)]
number = 0
print("ready", flush=True)
while True:
    number += 1
    name = f"{sys.argv[2]} {number}"
    while (verdict := limits.ask(want, Holder(name, sys.argv[2], "train"))).wait is not None:
        time.sleep(min(verdict.wait, 0.05))
    time.sleep(0.002)
    from dotflow.abc.limits import Ended
    limits.end([Ended(name)])
"""


@pytest.mark.exhaustive
@pytest.mark.timeout(240)
def test_forty_kills_leak_no_place(scripts: Scripts, histories: Any) -> None:
    """At random moments between asking and ending: never a fourth one, and all are free again soon after."""
    history = histories.open()
    where = histories.where()
    limits, chance = history.limits(), random.Random(5)
    (limit,) = parse_limits("gpu: 3 at once")
    want = [Wanted(limit.name, limit.name, limit.parts)]
    for round_ in range(10):
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(scripts.start(HOLDS, where, f"{round_}-{number}")) for number in range(4)]
            for one in running:
                assert one.line() == "ready"
            for one in running:
                time.sleep(chance.uniform(0, 0.05))
                assert sum(use.parts[0].used for use in limits.uses() if use.name == "gpu") <= 3 * ONE
                one.process.kill()
                one.process.wait()
    names, until, granted = iter(range(10_000)), time.monotonic() + 120, 0
    while granted < 3:
        name = f"own {next(names)}"
        granted += limits.ask(want, Holder(name, "own", "train")).wait is None
        time.sleep(0.05)
        assert time.monotonic() < until


REFUSED = """
import sys, time
from pathlib import Path
from dotflow import Config, DotFlow, Throttled, action
from dotflow.providers import ExecutorThread, LogDefault
from dotflow.providers.histories.default import history_at

FIRST = sys.argv[2] == "first"

@action(limit="api: 1000/s")
def call(number: int) -> float:
    began = time.time()
    if FIRST and number == 5 and not Path("refused").exists():
        Path("refused").write_text(str(began))
        raise Throttled(3, "api")
    time.sleep(0.01)
    return began

log = LogDefault(output="none")
workflow = DotFlow(Config(history=history_at(sys.argv[1]), executor=ExecutorThread(max_workers=2), log=log))
workflow.task.add(call, each=list(range(200 if FIRST else 300)))
run = workflow.start(mode="parallel").raise_for_failure()
assert {item.attempt for item in run.task("call").items} == {1}, "no attempt is counted"
print("\\n".join(map(str, run.value("call"))))
"""


@pytest.mark.timeout(120)
def test_a_refusal_of_one_process_stops_all(scripts: Scripts, histories: Any) -> None:
    """No call begins anywhere in its three seconds, but for those that had begun; none counts as an attempt."""
    where = histories.where()
    running = [scripts.start(REFUSED, where, which) for which in ("first", "second")]
    moments = [float(line) for one in running for line in one.end(90).out.split()]
    refused = float((scripts.folder / "refused").read_text())

    within = [moment for moment in moments if refused + 0.3 < moment < refused + 2.9]
    assert within == []
    assert [moment for moment in moments if moment >= refused + 2.9]
