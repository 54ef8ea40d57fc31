"""serve fires schedules: each moment once over all processes, and what is dropped is reported."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.providers import ExecutorThread, HistorySQLite, SchedulerCron, StorageFile
from dotflow.serving.server import Server
from dotflow.testing import VirtualClock, virtual_clock
from tests.integration.test_schedules import Lines

#: Friday, 2 January 2026, noon in Berlin.
START = datetime(2026, 1, 2, 11, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def yesterday(planned: datetime) -> dict[str, Any]:
    return {"day": planned.date() - timedelta(days=1)}


class House:
    """A nightly job, and the servers that come and go."""

    def __init__(self, folder: Path, time: VirtualClock) -> None:
        self.folder = folder
        self.time = time
        self.history = HistorySQLite(folder / "history.db", capture="none")
        self.log = Lines()
        self.ran: list[Any] = []
        self.work: Callable[[Any], object] = lambda day: None

    def workflow(self, scheduler: Any, workflow_id: str = "nightly", **more: Any) -> DotFlow:
        @action
        def step(day: Any) -> None:
            self.ran.append(day)
            self.work(day)

        @action
        def plain() -> None:
            self.ran.append(self.time.now())
            self.work(None)

        config = Config(
            history=self.history,
            storage=StorageFile(self.folder / "values"),
            executor=ExecutorThread(),
            log=self.log,
            scheduler=scheduler,
        )
        made = DotFlow(config, workflow_id=workflow_id, **more)
        made.task.add(step if more.get("params") else plain)
        return made

    def serve(self, until: datetime, *workflows: DotFlow, **arguments: Any) -> None:
        """Serves until a moment, as a process that ends then does."""
        server = Server(workflows, options={}, **arguments)
        self.time.at(until, server.request_stop)
        self.time.at(until, server.request_stop)
        server.run()

    def logged(self, words: str) -> list[str]:
        return [line for line in self.log.messages if words in line]

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(self.folder / "history.db")) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with virtual_clock(START) as time:
        made = House(tmp_path, time)
        yield made
        made.history.close()


def nights(first: date, count: int) -> list[date]:
    return [first + timedelta(days=number) for number in range(count)]


def test_a_year_of_nights(house: House) -> None:
    """Each day once."""
    import time as t

    began = t.perf_counter()
    scheduler = SchedulerCron("30 1 * * *", timezone=BERLIN, catch_up="all", params=yesterday)
    end = START
    for week in range(52):
        end = START + timedelta(days=7 * week)
        house.serve(end + timedelta(days=4, hours=3), house.workflow(scheduler, params={"day": ...}))
        house.time.advance(timedelta(days=2, hours=21).total_seconds())
    print(len(house.ran), len(set(house.ran)), t.perf_counter() - began, house.log.messages[:5])
    assert house.ran == nights(date(2026, 1, 2), 360)
