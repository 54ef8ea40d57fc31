"""`dotflow serve` in several processes with one history and one cluster: what ends, and who goes on."""

import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import DotFlow, action
from dotflow.abc.executor import Executor
from dotflow.core.types import TypeStatus
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import RunRecord
from tests.clusters.dask import DaskProcesses
from tests.clusters.ray import RayProcesses
from tests.integration.children import Script, Scripts
from tests.integration.test_clusters import clients_of, parent_of, wait_for

pytestmark = [pytest.mark.clusters, pytest.mark.slow, pytest.mark.timeout(240)]

SHOP = """
import os
import time
from pathlib import Path

from dotflow import Config, DotFlow, action
from dotflow.providers import Executor{kind}, HistorySQLite, StorageFile

HERE = Path(__file__).parent

@action
def orders(count: int) -> list[int]:
    return list(range(count))

@action(retry=9, retry_delay=0)
def ship(order: int, day: str) -> int:
    descriptor = os.open(HERE / "marks" / f"{{day}}-{{order}}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(descriptor, f"{{os.getpid()}}\\n".encode())
    os.close(descriptor)
    time.sleep(0.05)
    return order

@action
def add_up(ship: list[int]) -> int:
    return sum(ship)

shop = DotFlow(
    Config(
        executor=Executor{kind}({arguments}),
        history=HistorySQLite(HERE / "history.db"),
        storage=StorageFile(HERE / "values"),
    ),
    workflow_id="shop",
    params={{"day": ..., "count": 80}},
)
shop.task.add(orders).add(ship, each=orders).add(add_up)
"""


class Shop:
    """A workflow with many items, its servers, and the marks that its steps leave: one for each time that one runs.

    Args:
        scripts: Starts the servers.
        kind: The kind of cluster.
        arguments: Those of the executor.
        days: The runs.
    """

    def __init__(self, scripts: Scripts, kind: str, arguments: str, days: str) -> None:
        self._folder = scripts.folder / "shop"
        self._marks = self._folder / "marks"
        self._marks.mkdir(parents=True)
        (self._folder / "shop.py").write_text(SHOP.format(kind=kind, arguments=arguments))
        self._scripts = scripts
        self._days = days
        importlib.invalidate_caches()
        self.workflow: DotFlow = importlib.import_module("shop").shop
        for day in days:
            self.workflow.submit({"day": day})

    def serve(self) -> Script:
        """Starts a server that takes half of the runs at once."""
        where = os.environ["PYTHONPATH"]
        return self._scripts.command("serve", "shop:shop", "--max-runs", str(len(self._days) // 2), PYTHONPATH=where)

    def marks(self) -> dict[tuple[str, int], list[int]]:
        """Returns the processes that have run each item, by day and order."""
        found = [(path.name.partition("-"), path.read_text()) for path in self._marks.iterdir()]
        return {(day, int(order)): list(map(int, text.split())) for (day, _, order), text in found}

    def wait_for_marks(self, count: int) -> int:
        """Waits for so many further marks, and returns the process of a new one."""
        before = self.marks()
        wait_for(lambda: len(self.marks()) >= min(len(before) + count, 80 * len(self._days)), "marks", 90)
        return next(pids[-1] for item, pids in self.marks().items() if item not in before and pids)

    def runs(self) -> list[RunRecord]:
        """Returns all runs that have begun, those that continue others too."""
        history: Any = self.workflow.config.history
        return [found for run in self.workflow.runs() if (found := history.load(run.run_id)).steps]

    def completed_by(self, pid: int) -> dict[tuple[str, int], int]:
        """Returns the items whose values have arrived at a server that has ended, and how often each has run until now.

        That is more than once where the worker of an attempt before was lost.
        """
        marks, runs = self.marks(), [run for run in self.runs() if run.process.rpartition(":")[2] == str(pid)]
        completed = [self._items(run, lambda state: state is TypeAttemptState.COMPLETED) for run in runs]
        return {item: len(marks[item]) for items in completed for item in items}

    @staticmethod
    def _items(run: RunRecord, wanted: Callable[[Any], bool]) -> list[tuple[str, int]]:
        """Returns the items of the attempts of a run in the wanted states, one for each attempt."""
        assert run.params is not None
        items = {task.name: task for task in run.steps}["ship"].items
        return [
            (run.params["day"], item)
            for item, attempts in items.items()
            for attempt in attempts
            if attempt.attempt and wanted(attempt.state)
        ]

    def wait_for_the_end(self) -> None:
        """Waits until all runs have completed, each maybe by another server."""

        def completed() -> list[Any]:
            return [run for run in self.workflow.runs() if run.state is TypeRunState.COMPLETED]

        wait_for(lambda: len(completed()) == len(self._days), "the end of all runs", 120)

    def check(self, arrived: dict[tuple[str, int], int]) -> None:
        """No item ran again whose value had arrived, and none ran that no attempt stands for."""
        marks, attempts = self.marks(), [item for run in self.runs() for item in self._items(run, lambda state: True)]
        assert {item: len(marks[item]) for item in arrived} == arrived
        assert marks.keys() == {(day, order) for day in self._days for order in range(80)}
        assert all(len(pids) <= attempts.count(item) for item, pids in marks.items()), "an effect that is no attempt"
        values = [run.steps[-1].attempts[-1].glimpse for run in self.runs() if run.state is TypeRunState.COMPLETED]
        assert values == [str(sum(range(80)))] * len(self._days)


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here and on the workers, the folder of the shop is where modules are found."""
    monkeypatch.syspath_prepend(str(tmp_path / "shop"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "shop"), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.usefixtures("on_path")
def test_two_servers_share_a_dask_cluster(scripts: Scripts) -> None:
    """A worker is killed, then a server, then the scheduler is started again: the other server completes all runs.

    No item whose value had arrived at a server runs again.
    """
    with DaskProcesses() as cluster:
        shop = Shop(scripts, "Dask", repr(cluster.address), days="abcd")
        with shop.serve() as server, shop.serve():
            parent_of(shop.wait_for_marks(20)).kill()
            shop.wait_for_marks(20)
            assert len(clients_of(cluster)) == 2, "one for each server"
            server.process.kill()
            server.process.wait()
            arrived = shop.completed_by(server.process.pid)
            shop.wait_for_marks(20)
            cluster.restart_scheduler()
            shop.wait_for_the_end()
    assert arrived
    shop.check(arrived)


@pytest.mark.usefixtures("on_path")
def test_a_run_that_has_lost_its_dask_cluster_waits_for_another_one(scripts: Scripts) -> None:
    """The scheduler is away for longer than its client waits. No item whose value had arrived runs again."""
    with DaskProcesses() as cluster:
        shop = Shop(scripts, "Dask", f"{cluster.address!r}, timeout=1", days="ab")
        with shop.serve() as server:
            shop.wait_for_marks(20)
            cluster.scheduler.kill()

            def lost() -> list[Any]:
                return [run for run in shop.workflow.runs() if run.state is TypeRunState.CRASHED]

            wait_for(lost, "a run without its cluster", 60)
            assert "ClusterLost" in lost()[0].error
            arrived = shop.completed_by(server.process.pid)
            cluster.restart_scheduler()
            shop.wait_for_the_end()
    assert arrived
    shop.check(arrived)


@pytest.mark.usefixtures("on_path")
def test_two_servers_share_a_ray_cluster(scripts: Scripts) -> None:
    """A worker is killed, then a server: the other one completes all runs. No item runs again whose value had arrived.

    A run keeps its actors until it ends, so with `max_workers` each of the four has one of the four CPUs.
    """
    with RayProcesses() as cluster:
        shop = Shop(scripts, "Ray", f"{cluster.address!r}, max_workers=1", days="abcd")
        with shop.serve() as server, shop.serve():
            parent_of(shop.wait_for_marks(20)).kill()
            shop.wait_for_marks(20)
            server.process.kill()
            server.process.wait()
            arrived = shop.completed_by(server.process.pid)
            shop.wait_for_the_end()
    assert arrived
    shop.check(arrived)


def test_a_run_of_long_items_leaves_a_short_dask_run_its_turn(
    dask_executor: Executor, make_workflow: Callable[..., DotFlow], tmp_path: Path
) -> None:
    """Only the long items come first that run or wait already."""

    @action
    def long(number: int) -> None:
        (tmp_path / f"begun{number}").touch()
        until = time.monotonic() + 60
        while not (tmp_path / f"go{number}").exists():
            assert time.monotonic() < until
            time.sleep(0.01)

    many, short = make_workflow(executor=dask_executor), make_workflow(executor=dask_executor)
    many.task.add(long, each=list(range(40)))
    short.task.add(action(lambda: "short"))
    long_run = many.launch(lambda: None, mode="parallel")
    wait_for(lambda: len(list(tmp_path.glob("begun*"))) == 4, "an item on each thread", 60)
    short_run = short.launch(lambda: None)
    wait_for(lambda: short_run.tasks[0].status is TypeStatus.IN_PROGRESS, "its turn in the queue")
    released = 0
    while not short_run.wait(0):
        (tmp_path / f"go{released}").touch()
        released += 1
        more = 4 + released
        wait_for(lambda more=more: short_run.wait(0) or len(list(tmp_path.glob("begun*"))) == more, "the next", 60)
    long_run.cancel()
    assert long_run.wait(30)

    assert short.result_storage() == ["short"]
    assert released <= 6, "four that ran, one that waited, and one for the moment between"
