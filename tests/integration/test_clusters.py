"""What a cluster does to a run: workers and schedulers that go away, resources, modules, versions. On real ones."""

import contextlib
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from dotflow import Context, DotFlow, action
from dotflow.abc.executor import Executor
from dotflow.abc.history import History
from dotflow.abc.log import Log
from dotflow.core.call import Call
from dotflow.core.events import AttemptRuns, Event
from dotflow.core.outcome import Died
from dotflow.core.task import Task
from dotflow.core.types import TypeStatus
from dotflow.errors import ClusterError, ClusterLost
from dotflow.providers import ExecutorDask, HistorySQLite, StorageDefault, StorageFile
from dotflow.providers.executors.cluster.cluster_session import ClusterSession, ReadyPack
from dotflow.providers.executors.cluster.protocol import versions_here
from dotflow.providers.executors.ray import connection as ray_connection
from tests.clouds.tcp_proxy import TcpProxy
from tests.clusters.dask import DaskProcesses, other_python
from tests.clusters.ray import RayProcesses

if TYPE_CHECKING:
    from dotflow.providers.executors.ray.ray_session import RaySession

pytestmark = [pytest.mark.clusters, pytest.mark.slow, pytest.mark.timeout(120)]

COMPLETED, FAILED, NOT_STARTED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.NOT_STARTED

MakeWorkflow = Callable[..., DotFlow]

BOTH = ["dask", "ray"]


#: Seconds until the run knows that an attempt has begun, on a busy machine too. If a worker is lost before,
#: its step has not begun, and is sent elsewhere.
REPORTED = 1.0


def wait_for(happened: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Looks again and again, since the thing is done by other processes."""
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, f"{what} did not happen"
        time.sleep(0.02)


class LogList(Log):
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def info(self, task: Task) -> None:
        """As Log says."""

    def error(self, task: Task) -> None:
        """As Log says."""

    def report(self, message: str) -> None:
        """As Log says."""
        self.told.append(message)


@pytest.fixture(params=BOTH)
def executor(request: pytest.FixtureRequest) -> Executor:
    """On each kind of cluster; the same one for all tests that leave it whole."""
    made: Executor = request.getfixturevalue(f"{request.param}_executor")
    return made


@pytest.fixture
def own_dask() -> Iterator[DaskProcesses]:
    """A Dask cluster that may be broken."""
    with DaskProcesses() as cluster:
        yield cluster


def parent_of(pid: int) -> psutil.Process:
    """The cluster's worker that has the step's process made: its grandparent, through the nursery."""
    parent = psutil.Process(pid).parent()
    grandparent = parent and parent.parent()
    if grandparent is None:  # it is being killed
        raise psutil.NoSuchProcess(pid)
    return grandparent


class TestLostWorkers:
    def test_the_attempt_fails_and_the_policy_repeats_it(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """A worker that is killed in the middle of a step fails that attempt with WorkerDied; the next is counted."""
        pid, tries = tmp_path / "pid", tmp_path / "tries"

        @action(retry=2, retry_delay=0)
        def step() -> str:
            with tries.open("a") as file:
                file.write("x")
            if len(tries.read_text()) == 1:
                pid.with_suffix(".tmp").write_text(str(os.getpid()))
                pid.with_suffix(".tmp").rename(pid)
                time.sleep(30)
            return "survived"

        workflow = make_workflow(executor=executor)
        workflow.task.add([action(lambda: "before"), step, action(lambda previous_context: previous_context.storage)])
        run = workflow.start(mode="background")
        wait_for(pid.exists, "the step's beginning")
        time.sleep(REPORTED)
        child = psutil.Process(int(pid.read_text()))
        parent_of(child.pid).kill()
        assert run.wait(40)

        assert workflow.result_storage() == ["before", "survived", "survived"]
        (error,) = run.tasks[1].errors
        assert (error.attempt, error.exception) == (1, "WorkerDied")
        assert "lost the worker of step" in error.message
        assert run.tasks[1].retry_count == 1
        assert tries.read_text() == "xx"
        wait_for(lambda: not child.is_running(), "the end of the step's process")

    def test_without_a_retry_it_is_not_repeated(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """The cluster itself makes no second attempt, whatever it would do for others."""
        pid, tries = tmp_path / "pid", tmp_path / "tries"

        @action
        def step() -> None:
            with tries.open("a") as file:
                file.write("x")
            pid.with_suffix(".tmp").write_text(str(os.getpid()))
            pid.with_suffix(".tmp").rename(pid)
            time.sleep(30)

        workflow = make_workflow(executor=executor)
        workflow.task.add([step, action(lambda: "next")])
        run = workflow.start(mode="background", keep_going=True)
        wait_for(pid.exists, "the step's beginning")
        time.sleep(REPORTED)
        parent_of(int(pid.read_text())).kill()
        assert run.wait(40)

        assert [task.status for task in run.tasks] == [FAILED, COMPLETED]
        assert [error.exception for error in run.tasks[0].errors] == ["WorkerDied"]
        assert tries.read_text() == "x"

    def test_an_item_and_a_round_go_on_after_the_loss_of_their_worker(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """Only the attempt that was lost is repeated, in its item of a workflow for each item, and in its round."""
        lost = ["parse b", "refine 4"]

        def note(call: str) -> None:
            with (tmp_path / call).open("a") as file:
                file.write("x")
            if call in lost and (tmp_path / call).read_text() == "x":
                pid = tmp_path / f"{call} pid"
                pid.with_suffix(".tmp").write_text(str(os.getpid()))
                pid.with_suffix(".tmp").rename(pid)
                time.sleep(30)

        @action
        def fetch(url: str) -> str:
            note(f"fetch {url}")
            return url

        @action(retry=3, retry_delay=0)
        def parse(fetch: str) -> int:
            note(f"parse {fetch}")
            return 1

        @action(retry=3, retry_delay=0)
        def refine(draft: int) -> int:
            note(f"refine {draft}")
            return draft + 1

        @action
        def good(refine: int) -> bool:
            note(f"good {refine}")
            return refine >= 6

        page, again = DotFlow(params={"url": ...}), DotFlow(params={"draft": ...})
        page.task.add(fetch).add(parse)
        again.task.add(refine).add(good)
        workflow = make_workflow(executor=executor)
        workflow.task.add(page, name="page", each={"url": ["a", "b", "c"]})
        workflow.task.add(action(lambda page: sum(page)), name="total")
        workflow.task.add(again, name="round", needs={"draft": "total"}, repeat=8, until="good")
        run = workflow.launch(lambda: None, mode="parallel")
        for call in lost:
            pid = tmp_path / f"{call} pid"
            wait_for(pid.exists, f"the beginning of {call}")
            time.sleep(REPORTED)
            parent_of(int(pid.read_text())).kill()
        assert run.wait(40)

        assert run.status is COMPLETED
        assert (run.value("page"), run.value("round"), len(run["round.good"].items)) == ([1, 1, 1], 6, 3)
        ran = {path.name: path.read_text() for path in tmp_path.iterdir() if not path.name.endswith(("pid", ".tmp"))}
        assert {call for call, text in ran.items() if text != "x"} == {*lost}
        assert len(ran) == 12
        errors = {item.name: [error.exception for error in item.errors] for task in run.tasks for item in task.items}
        assert {name: found for name, found in errors.items() if found} == {
            "page[1].parse": ["WorkerDied"],
            "round[1].refine": ["WorkerDied"],
        }

    def test_a_run_on_two_dask_workers_survives_the_kill_of_one(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """Of forty items, only those fail that were running there; what waited there runs elsewhere, all that has
        finished has run once, and what items share is sent again if it was lost."""

        @action(retry=3, retry_delay=0)
        def step(number: int, data: bytes) -> int:
            with (tmp_path / f"ran{number}").open("a") as file:
                file.write(f"{os.getpid()} ")
            time.sleep(0.4)
            (tmp_path / f"done{number}").touch()
            return number + len(data) - size

        log = LogList()
        workflow = make_workflow(executor=ExecutorDask(own_dask.address), log=log)
        size = 200_000
        workflow.task.add(action(lambda: bytes(size)), name="data").add(step, each=list(range(40)))
        run = workflow.launch(lambda: None, mode="parallel")

        def running() -> list[int]:
            """The processes of steps that have begun and not ended."""
            begun = [path for path in tmp_path.glob("ran*") if not (tmp_path / f"done{path.name[3:]}").exists()]
            return [int(path.read_text().split()[-1]) for path in begun if path.read_text()]

        workers: set[int] = set()

        def find_workers() -> set[int]:
            workers.update(parent_of(pid).pid for pid in running() if psutil.pid_exists(pid))
            return workers

        # In one look: between two, those that run may end.
        wait_for(lambda: list(tmp_path.glob("done*")) and find_workers(), "the first steps")
        finished = {item.item for item in run.tasks[1].items if item.status is COMPLETED}
        psutil.Process(workers.pop()).kill()
        assert run.wait(50)

        assert run.status is COMPLETED
        assert workflow.result_storage()[1] == list(range(40))
        counted = {item.item: len(item.errors) + 1 for item in run.tasks[1].items}
        ran = {number: len((tmp_path / f"ran{number}").read_text().split()) for number in range(40)}
        assert {number: ran[number] for number in finished} == dict.fromkeys(finished, 1)
        # An attempt that had just begun may have left no file yet, or its beginning may not have been reported.
        assert all(abs(ran[number] - counted[number]) <= (number not in finished) for number in range(40))
        assert sum(counted.values()) > 40

    @pytest.mark.parametrize("rebuilt", [False, True], ids=["", "and its value can't be sent"])
    def test_a_process_that_dies_between_two_tasks(
        self, executor: Executor, make_workflow: MakeWorkflow, rebuilt: bool
    ) -> None:
        """The next one has not begun: it is sent elsewhere, with the value; where this can't be, that is its error."""

        class Lock:
            def __reduce__(self) -> Any:
                return threading.Lock, ()

        def kill(task: Task) -> None:
            process = psutil.Process(task.current_context.storage[0])
            process.kill()
            wait_for(lambda: process.status() == psutil.STATUS_ZOMBIE, "the end of the process")

        workflow = make_workflow(executor=executor)
        workflow.task.add(action(lambda: [os.getpid(), bytes(100_000), Lock() if rebuilt else None]), callback=kill)
        workflow.task.add(action(lambda previous_context: len(previous_context.storage)))
        run = workflow.start(keep_going=True)

        assert [error.exception for error in run.tasks[1].errors] == (["NotPicklable"] if rebuilt else [])
        assert workflow.result_storage()[1] == (None if rebuilt else 3)

    def test_one_that_is_lost_before_it_was_heard_that_the_step_began(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """The coordinator may be busy with something else for all of the time: no attempt is repeated unseen."""
        from distributed import Client

        pid, tries = tmp_path / "pid", tmp_path / "tries"

        @action(resources={"LATER": 1})
        def step() -> None:
            with tries.open("a") as file:
                file.write("x")
            pid.with_suffix(".tmp").write_text(str(os.getpid()))
            pid.with_suffix(".tmp").rename(pid)
            time.sleep(30 if tries.read_text() == "x" else 0)

        with Client(own_dask.address, set_as_default=False) as client:

            def busy(task: Task) -> None:
                own_dask.add_worker("--resources", "LATER=1")
                wait_for(pid.exists, "the step's beginning")
                time.sleep(REPORTED)
                parent_of(int(pid.read_text())).kill()
                wait_for(
                    lambda: any(future.status == "error" for future in client.futures.values()), "the events of it"
                )

            workflow = make_workflow(executor=ExecutorDask(client))
            workflow.task.add(action(lambda: 1), callback=busy)
            workflow.task.add(step)
            run = workflow.launch(lambda: None, mode="parallel")
            assert run.wait(60)

        assert [error.exception for error in run.tasks[1].errors] == ["WorkerDied"]
        assert tries.read_text() == "x"

    def test_a_step_that_no_worker_survives(self, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch) -> None:
        """What ends each worker before it has begun the step is not sent on for ever."""
        from distributed import Client

        def make_remote_pack(run: str) -> Callable[..., Any]:
            return lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr("dotflow.providers.executors.dask.remote.make_remote_pack", make_remote_pack)
        log = LogList()
        # Enough of them at the start: a nanny gives up when what it has started is killed at once.
        with DaskProcesses(workers=4, threads=1) as cluster, Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(4)
            workflow = make_workflow(executor=ExecutorDask(client), log=log)
            workflow.task.add(action(lambda: 1))
            run = workflow.start()

        assert [error.exception for error in run.tasks[0].errors] == ["WorkerDied"]
        assert "4 workers, each before it began" in run.tasks[0].errors[0].message
        assert len([line for line in log.told if "before it began" in line]) == 3

    def test_a_worker_that_retires_fails_only_its_active_steps(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """What only waited there is done elsewhere, once. An active step that still ends there has ended."""
        from distributed import Client

        @action
        def step(initial_context: Any) -> None:
            with (tmp_path / f"ran{initial_context.storage}").open("a") as file:
                file.write("x")
            while not (tmp_path / "go").exists():
                time.sleep(0.02)

        with Client(own_dask.address, set_as_default=False) as client:
            client.wait_for_workers(2)
            workflow = make_workflow(executor=ExecutorDask(client))
            for number in range(12):
                workflow.task.add(step, initial_context=number)
            run = workflow.launch(lambda: None, mode="parallel", keep_going=True)
            wait_for(lambda: len(list(tmp_path.glob("ran*"))) == 4, "four beginnings")
            wait_for(lambda: sum(map(len, client.processing().values())) > 4, "tasks that wait on the workers")
            client.retire_workers([next(iter(client.nthreads()))])
            (tmp_path / "go").touch()
            assert run.wait(40)

        failed = [task for task in run.tasks if task.status is FAILED]
        assert len(failed) <= 2
        assert {task.errors[0].exception for task in failed} <= {"WorkerDied"}
        assert {(tmp_path / f"ran{number}").read_text() for number in range(12)} == {"x"}

    def test_a_worker_that_is_lost_while_it_is_sent_data(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The data goes with the task."""
        from distributed import Client
        from distributed.comm import CommClosedError

        with Client(own_dask.address, set_as_default=False) as client:
            client.wait_for_workers(2)
            scatter, errors = client.scatter, [CommClosedError("gone"), KeyError("tcp://gone"), TimeoutError()]

            def scattered(*args: Any, **options: Any) -> Any:
                if errors:
                    raise errors.pop()
                return scatter(*args, **options)

            monkeypatch.setattr(client, "scatter", scattered)
            workflow = make_workflow(executor=ExecutorDask(client))
            for _ in range(4):
                workflow.task.add(action(lambda initial_context: len(initial_context.storage)), initial_context=LARGE)
            workflow.launch(lambda: None, mode="parallel").wait(40)

        assert not errors
        assert workflow.result_storage() == [len(LARGE)] * 4

    def test_large_calls_wait_for_each_other(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While as much data as allowed is on the workers, no further call is sent. A larger one goes alone."""
        from distributed import Client

        monkeypatch.setattr("dotflow.providers.executors.dask.dask_session.MAX_SCATTERED", len(LARGE) // 2)

        @action
        def at_work(initial_context: Context) -> tuple[float, float]:
            begun = time.time()
            time.sleep(0.1)
            return begun, time.time()

        with Client(own_dask.address, set_as_default=False) as client:
            client.wait_for_workers(2)
            workflow = make_workflow(executor=ExecutorDask(client))
            for _ in range(4):
                workflow.task.add(at_work, initial_context=LARGE)
            workflow.launch(lambda: None, mode="parallel").wait(40)
        times = sorted(workflow.result_storage())

        assert len(times) == 4
        assert all(end <= begun for (_, end), (begun, _) in itertools.pairwise(times))

    def test_replies_that_are_lost_with_a_machine_of_rays(self, open_ray_session: "RaySession") -> None:
        """That is the end of the worker, too."""
        from ray.exceptions import ObjectLostError

        from dotflow.providers.executors.cluster.cluster_session import ReadyCall, SentPack
        from dotflow.providers.executors.ray.ray_session import ActorHandle

        call = Call(0, 0, action(lambda: 1), Context(), Context(), "w")
        pool = open_ray_session.pool_of(call.step)
        handle = ActorHandle(open_ray_session._pool(pool), None)
        open_ray_session._pool(pool).dispatcher.add(handle)
        pack, ready = open_ray_session.new_pack(pool), open_ray_session.pack(call)
        assert isinstance(ready, ReadyCall)
        pack.add(ready)
        handle.node = 56 * "0"  # a machine that is gone
        handle.sent = open_ray_session.packs[pack.name] = SentPack(pack)
        open_ray_session._handle_reply(handle, failed(ObjectLostError("00", None, "")))
        ((_, outcome),) = open_ray_session.wait(20)

        assert isinstance(outcome, Died)
        assert outcome.failure.exception == "WorkerDied"

    def test_actors_that_are_lost_together_at_their_start(self, open_ray_session: "RaySession") -> None:
        """A machine that is lost then is one accident, however many were to be there; three in a row are none."""
        from ray.exceptions import ActorDiedError

        from dotflow.providers.executors.ray.ray_session import ActorHandle

        actor_pool = open_ray_session._pool(open_ray_session.pool_of(action(lambda: 1)))

        for _ in range(2):
            for handle in [ActorHandle(actor_pool, None) for _ in range(8)]:
                open_ray_session._add_actor(handle, failed(ActorDiedError()))
        with pytest.raises(ClusterError, match="can't go on"):
            open_ray_session._add_actor(ActorHandle(actor_pool, None), failed(ActorDiedError()))


LARGE = bytes(2 << 20)


def failed(error: Exception) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


@pytest.fixture
def open_ray_session(ray_cluster: RayProcesses) -> Iterator["RaySession"]:
    """Of a run on the cluster that has no actors yet."""
    from dotflow.providers.executors.ray.ray_session import RaySession

    session = RaySession(ray_connection.connect(None, {}), 1, 0.0, lambda message: None)
    yield session
    session.close()


def completed_items(run: Any) -> int:
    return sum(item.status is COMPLETED for item in run.tasks[0].items)


class TestPacks:
    """Calls that are ready together are one task of the cluster."""

    def test_short_items_share_tasks_of_the_cluster(
        self,
        executor: Executor,
        make_workflow: MakeWorkflow,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Each keeps its own value, output, errors and attempts; the first one goes alone."""
        sizes: list[int] = []
        pack = ReadyPack.pack

        def counted(ready: ReadyPack) -> Any:
            sizes.append(len(ready.calls))
            return pack(ready)

        monkeypatch.setattr(ReadyPack, "pack", counted)

        @action(retry=2, retry_delay=0)
        def step(number: int) -> int:
            print(f"item {number}")
            if number % 100 == 7:
                raise ValueError(number)
            return number

        workflow = make_workflow(executor=executor, history=HistorySQLite(tmp_path / "runs.db"))
        workflow.task.add(step, each=list(range(600)), keep_going=True)
        run = workflow.start(mode="parallel")

        items = run.tasks[0].items
        bad = [number for number in range(600) if number % 100 == 7]
        assert [item.item for item in items if item.status is FAILED] == bad
        assert [item.value for item in items if item.status is COMPLETED] == [n for n in range(600) if n not in bad]
        assert {item.attempt for item in items if item.status is FAILED} == {2}
        printed = [f"item {number}" for number in (*range(600), *bad)]
        assert sorted(capsys.readouterr().out.splitlines()) == sorted(printed)
        assert sizes[0] == 1
        assert len(sizes) < 300, "half as many tasks as items"
        assert sum(sizes) >= 606

    def test_each_begins_and_ends_when_it_does(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """In the history and in its record; it follows the call before it in the pack."""

        @action
        def step(number: int) -> tuple[int, float, float]:
            began = time.time()
            time.sleep(0.003)
            return os.getpid(), began, time.time()

        history = HistorySQLite(tmp_path / "runs.db")
        workflow = make_workflow(executor=executor, history=history)
        workflow.task.add(step, each=list(range(100)))
        run = workflow.start(mode="parallel")

        attempts = history.load(run.run_id).steps[0].items
        calls = sorted((*value, number) for number, value in enumerate(run.value("step")))
        assert len(calls) == len(attempts) == 100
        for (process, _, previous_ended, _), (other, began, ended, number) in itertools.pairwise(calls):
            (attempt,), item = attempts[number], run.tasks[0].items[number]
            assert attempt.began is not None
            assert attempt.duration is not None
            assert attempt.began == item.started_at
            assert attempt.duration == pytest.approx(item.duration, abs=1e-5)
            seen = attempt.began.timestamp()
            assert seen < began < ended < seen + attempt.duration
            assert process != other or previous_ended < seen, "else the process has begun within the attempt"

    def test_a_slow_item_is_seen_to_begin_while_it_runs(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """Also one that was not the first in its pack."""
        began: dict[int | None, float] = {}

        class Follower(History):
            def record(self, run_id: str, event: Event) -> None:
                if isinstance(event, AttemptRuns):
                    began[event.item] = event.at.timestamp()

        @action
        def step(number: int) -> float:
            at = time.time()
            if number == 150:
                until = time.monotonic() + 60
                while not (tmp_path / "go").exists():
                    assert time.monotonic() < until
                    time.sleep(0.01)
            return at

        workflow = make_workflow(executor=executor, history=Follower())
        workflow.task.add(step, each=list(range(300)))
        run = workflow.launch(lambda: None, mode="parallel")
        try:
            wait_for(lambda: 150 in began, "the beginning of the slow item", 40)
        finally:
            (tmp_path / "go").touch()
        assert run.wait(40)

        assert began[150] < run.value("step")[150] < began[150] + 2

    def test_a_slow_item_holds_no_other_one_back(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """What has ended in its pack comes back, and what has not begun begins elsewhere, while it runs."""

        @action
        def step(number: int) -> int:
            if number == 150:
                until = time.monotonic() + 60
                while not (tmp_path / "go").exists():
                    assert time.monotonic() < until
                    time.sleep(0.01)
            return number

        workflow = make_workflow(executor=executor)
        workflow.task.add(step, each=list(range(300)))
        run = workflow.launch(lambda: None, mode="parallel")
        try:
            wait_for(lambda: completed_items(run) == 299, "the end of all others", 40)
        finally:
            (tmp_path / "go").touch()
        assert run.wait(40)

        assert run.value("step") == list(range(300))

    def test_a_timeout_in_c_code_ends_its_item_only(self, executor: Executor, make_workflow: MakeWorkflow) -> None:
        """The process is killed, and the rest of the pack is made by another one, each item once."""

        @action(timeout=0.2)
        def step(number: int) -> int:
            import hashlib

            if number == 150:
                hashlib.pbkdf2_hmac("sha256", b"x", b"y", 1 << 30)
            return number

        workflow = make_workflow(executor=executor)
        workflow.task.add(step, each=list(range(300)), keep_going=True)
        run = workflow.start(mode="parallel")

        failed = {item.item: [error.exception for error in item.errors] for item in run.tasks[0].items if item.errors}
        assert failed.keys() >= {150}
        assert {exception for errors in failed.values() for exception in errors} == {"TimeoutError"}
        assert len(failed) < 5, "one, unless the machine is busy"

    def test_a_thread_of_the_worker_makes_those_of_a_step_that_asks_for_it(
        self, executor: Executor, make_workflow: MakeWorkflow, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Each item keeps its value, output and errors, and all processes are the cluster's own workers."""

        @action(isolate=False)
        def step(number: int) -> int:
            print(f"item {number}")
            if number == 150:
                raise ValueError(number)
            return os.getpid()

        workflow = make_workflow(executor=executor)
        workflow.task.add(step, each=list(range(300)), keep_going=True)
        run = workflow.start(mode="parallel")

        items = run.tasks[0].items
        assert [item.item for item in items if item.status is FAILED] == [150]
        assert [error.exception for error in items[150].errors] == ["ValueError"]
        assert len({item.value for item in items if item.status is COMPLETED}) <= 4
        assert sorted(capsys.readouterr().out.splitlines()) == sorted(f"item {number}" for number in range(300))

    @pytest.mark.parametrize(
        ("kills", "count"),
        [(3, 2000), pytest.param(40, 12000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(900)])],
    )
    def test_each_effect_is_an_attempt_when_workers_are_killed(
        self,
        request: pytest.FixtureRequest,
        kind: str,
        make_workflow: MakeWorkflow,
        tmp_path: Path,
        kills: int,
        count: int,
    ) -> None:
        """Workers die in the middle of packs: what has ended is not made again, what has begun counts, and no more."""
        executor = request.getfixturevalue(f"{kind.lower()}_executor")
        effects = tmp_path / "effects"
        effects.touch()

        @action(retry=20, retry_delay=0)
        def step(number: int) -> int:
            descriptor = os.open(effects, os.O_APPEND | os.O_WRONLY)
            os.write(descriptor, f"{number} {os.getpid()}\n".encode())
            os.close(descriptor)
            time.sleep(0.002)
            return number

        workflow = make_workflow(executor=executor)
        workflow.task.add(step, each=list(range(count)))
        run = workflow.launch(lambda: None, mode="parallel")
        moments = sorted(random.Random(count).sample(range(count // 20, count * 9 // 10), kills))

        def kill() -> bool:
            with contextlib.suppress(psutil.NoSuchProcess):
                parent_of(int(effects.read_text().split()[-1])).kill()
                return True
            return False

        for done in moments:
            wait_for(lambda done=done: completed_items(run) > done, "items", 60)
            wait_for(kill, "a kill")
        assert run.wait(120)

        made = Counter(int(line.split()[0]) for line in effects.read_text().splitlines())
        counted = {item.item: item.attempt for item in run.tasks[0].items}
        assert run.value("step") == list(range(count))
        assert all(made[number] <= counted[number] for number in counted), "an effect that is no attempt"
        # An attempt that has just begun may have had no effect yet: one for each thread of a killed worker.
        assert sum(counted[number] - made[number] for number in counted) <= 2 * kills
        assert sum(counted.values()) - count <= 2 * kills, "what has ended is not made again"

    def test_what_waits_in_a_pack_is_not_begun_after_a_cancel(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """The steps that run are ended, and no other step of their packs begins."""

        @action
        def step(number: int) -> None:
            if number >= 100:
                (tmp_path / str(number)).touch()
                time.sleep(60)

        workflow = make_workflow(executor=executor)
        workflow.task.add(step, each=list(range(300)))
        run = workflow.launch(lambda: None, mode="parallel")
        wait_for(lambda: any(tmp_path.iterdir()), "a slow item")
        run.cancel()
        assert run.wait(20)

        assert len(list(tmp_path.iterdir())) <= 5, "one for each worker"

    def test_a_pause_ends_what_has_begun_of_a_pack(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """Each effect so far is that of a completed item, and a resume makes the others once."""
        effects = tmp_path / "effects"
        effects.touch()

        @action
        def step(number: int) -> int:
            with effects.open("a") as file:
                file.write(f"{number}\n")
            time.sleep(0.005)
            return number

        def workflow() -> DotFlow:
            made = make_workflow(workflow_id="pause", executor=executor, storage=StorageFile(path=tmp_path / "values"))
            made.task.add(step, each=list(range(400)))
            return made

        def made() -> list[int]:
            return sorted(map(int, effects.read_text().split()))

        run = workflow().launch(lambda: None, mode="parallel")
        wait_for(lambda: len(made()) > 100, "items", 40)
        run.pause()
        assert run.wait(40)

        assert run.status is TypeStatus.PAUSED
        assert made() == [item.item for item in run.tasks[0].items if item.status is COMPLETED]
        assert workflow().start(mode="parallel", resume=True).value("step") == made() == list(range(400))


@pytest.fixture
def made(tmp_path: Path) -> Callable[[], list[tuple[int, int]]]:
    """Returns the calls that were made so far: their numbers, and the processes that made them."""
    (tmp_path / "made").touch()

    def read() -> list[tuple[int, int]]:
        pairs = [line.split() for line in (tmp_path / "made").read_text().splitlines()]
        return [(int(number), int(pid)) for number, pid in pairs]

    return read


@pytest.fixture
def call(tmp_path: Path) -> Callable[[int], int]:
    """A call that takes a while, and notes that it was made."""
    file = tmp_path / "made"

    @action
    def call(number: int) -> int:
        time.sleep(0.02)
        with file.open("a") as notes:
            notes.write(f"{number} {os.getpid()}\n")
        return number

    return call


class TestDurableSteps:
    @pytest.mark.parametrize("isolate", [None, False])
    @pytest.mark.parametrize("kills", [2, pytest.param(20, marks=[pytest.mark.exhaustive, pytest.mark.timeout(600)])])
    def test_a_killed_worker_repeats_the_call_that_it_has_cut_off_only(
        self,
        executor: Executor,
        make_workflow: MakeWorkflow,
        isolate: bool | None,
        kills: int,
        call: Callable[[int], int],
        made: Callable[[], list[tuple[int, int]]],
    ) -> None:
        """What has returned is kept, whichever worker makes the next attempt."""
        count = 15 * kills

        @action(durable=True, isolate=isolate, retry=5 * kills, retry_delay=0)
        def body() -> int:
            return sum(call(number) for number in range(count))

        workflow = make_workflow(executor=executor)
        workflow.task.add(body)
        run = workflow.launch(lambda: None)

        def kill() -> bool:
            with contextlib.suppress(psutil.NoSuchProcess):
                pid = made()[-1][1]
                (psutil.Process(pid) if isolate is False else parent_of(pid)).kill()
                return True
            return False

        for done in sorted(random.Random(count).sample(range(5, count - 5), kills)):
            wait_for(lambda done=done: len(made()) > done, "calls", 60)
            wait_for(kill, "a kill")
        assert run.wait(60)

        numbers = [number for number, _ in made()]
        assert run.value("body") == sum(range(count))
        assert run.tasks[0].attempt > 1
        assert sorted(set(numbers)) == list(range(count))
        assert len(numbers) - count <= kills, "what was kept is not made again"

    def test_a_lost_message_repeats_no_call(
        self,
        executor: Executor,
        make_workflow: MakeWorkflow,
        monkeypatch: pytest.MonkeyPatch,
        call: Callable[[int], int],
        made: Callable[[], list[tuple[int, int]]],
        tmp_path: Path,
    ) -> None:
        """The request arrives again, and the answer too; the history has each call once."""
        lost = lose_messages(executor, monkeypatch)

        @action(durable=True)
        def body() -> int:
            return sum(call(number) for number in range(10))

        history = HistorySQLite(path=tmp_path / "history.db")
        workflow = make_workflow(executor=executor, history=history)
        workflow.task.add(body)
        run = workflow.start()

        assert run.value("body") == 45
        assert [number for number, _ in made()] == list(range(10))
        assert [row.number for row in history.calls(run.run_id, "body").calls] == list(range(1, 11))
        assert len(lost) > 5

    def test_a_scheduler_that_is_back_loses_no_call(
        self,
        own_dask: DaskProcesses,
        make_workflow: MakeWorkflow,
        call: Callable[[int], int],
        made: Callable[[], list[tuple[int, int]]],
    ) -> None:
        """The attempt is lost with its worker, and the next one is given what has returned."""

        @action(durable=True, retry=3, retry_delay=0)
        def body() -> int:
            return sum(call(number) for number in range(30))

        workflow = make_workflow(executor=ExecutorDask(own_dask.address))
        workflow.task.add(body)
        run = workflow.launch(lambda: None)
        wait_for(lambda: len(made()) > 10, "calls", 40)
        own_dask.restart_scheduler()
        assert run.wait(60)

        numbers = [number for number, _ in made()]
        assert run.value("body") == sum(range(30))
        assert run.tasks[0].attempt == 2
        assert sorted(set(numbers)) == list(range(30))
        assert len(numbers) <= 31

    @pytest.mark.parametrize("isolate", [None, False])
    def test_the_end_of_the_process_that_called_start(
        self, kind: str, address: str, isolate: bool | None, tmp_path: Path, made: Callable[[], list[tuple[int, int]]]
    ) -> None:
        """The step ends on its worker, whether it waits for an answer or makes a call; and another process goes on."""
        script = tmp_path / "pipeline.py"
        script.write_text(DURABLE.format(kind=kind, address=address, folder=str(tmp_path), isolate=isolate))
        command = [sys.executable, "-W", "error::UserWarning", str(script)]
        with subprocess.Popen(command) as process:
            wait_for(lambda: len(made()) > 20, "calls", 40)
            process.kill()
        before = len(made())
        wait_for(lambda: is_quiet(made), "the end of the step", 40)
        between = len(made())
        again = subprocess.run(command, capture_output=True, text=True, timeout=60)

        numbers = [number for number, _ in made()]
        assert again.stdout == f"{sum(range(100))}\n", again.stderr
        assert between - before <= 2, "it goes on without its run"
        assert sorted(set(numbers)) == list(range(100))
        assert len(numbers) - 100 <= 1, "what was kept is not made again"


def is_quiet(made: Callable[[], list[tuple[int, int]]]) -> bool:
    """Whether no call was made for a while."""
    before = len(made())
    time.sleep(0.5)
    return len(made()) == before


def lose_messages(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Loses one of two replies with requests. Returns the list to which it adds them."""
    lost: list[object] = []
    numbers = itertools.count()
    if isinstance(executor, ExecutorDask):
        from dotflow.providers.executors.dask.dask_session import DaskSession, dask_remote

        run_there = DaskSession._run_there

        async def lose(self: Any, function: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
            found = await run_there(self, function, *arguments, **options)
            if function is dask_remote.converse and next(numbers) % 2:
                lost.append(found)
                return {}
            return found

        monkeypatch.setattr(DaskSession, "_run_there", lose)
    else:
        from ray.exceptions import ObjectLostError

        from dotflow.providers.executors.ray.ray_session import RaySession

        handle_request = RaySession._handle_request

        def lose_one(self: Any, sent: Any, future: Any) -> None:
            if next(numbers) % 2:
                lost.append(future)
                future = failed(ObjectLostError("00", None, ""))
            handle_request(self, sent, future)

        monkeypatch.setattr(RaySession, "_handle_request", lose_one)
    return lost


DURABLE = """
import os, pathlib
from dotflow import Config, DotFlow, action
from dotflow.providers import Executor{kind}, LogDefault, StorageFile

folder = pathlib.Path({folder!r})

@action
def call(number):
    with (folder / "made").open("a") as file:
        file.write(f"{{number}} {{os.getpid()}}\\n")
    return number

@action(durable=True, isolate={isolate})
def body():
    return sum(call(number) for number in range(100))

executor, storage = Executor{kind}({address!r}), StorageFile(folder / "kept")
config = Config(executor=executor, storage=storage, log=LogDefault(output="none"))
workflow = DotFlow(config, workflow_id="nightly")
workflow.task.add(body)
print(workflow.start(resume=True).value("body"))
"""


class TestKeptConnections:
    """A process connects once to a Dask scheduler that it has the address of; its runs share that."""

    def test_runs_side_by_side_and_after_each_other_share_one(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """The scheduler sees one client, while two runs go and after them; the end of one run leaves the other."""
        gate = tmp_path / "gate"

        def hold() -> str:
            while not gate.exists():
                time.sleep(0.01)
            return "held"

        def make(step: Callable[[], str]) -> DotFlow:
            workflow = make_workflow(executor=ExecutorDask(own_dask.address))
            workflow.task.add(action(step))
            return workflow

        held = make(hold)
        run = held.start(mode="background")
        for _ in range(2):
            short = make(lambda: "short")
            short.start()
            assert short.result_storage() == ["short"]
        clients = clients_of(own_dask)
        gate.touch()
        assert run.wait(20)

        assert held.result_storage() == ["held"]
        assert len(clients) == 1
        assert clients_of(own_dask) == clients

    def test_one_that_was_lost_is_made_again(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """After the scheduler was ended and started at the same address, the next run works with a connection of its
        own."""

        def start() -> None:
            workflow = make_workflow(executor=ExecutorDask(own_dask.address))
            workflow.task.add([action(lambda: 1), action(lambda previous_context: previous_context.storage + 1)])
            workflow.start()
            assert workflow.result_storage() == [1, 2]

        start()
        before = clients_of(own_dask)
        own_dask.restart_scheduler()
        start()

        assert len(clients_of(own_dask) - before) == 1

    def test_other_options_make_another_one(self, own_dask: DaskProcesses, make_workflow: MakeWorkflow) -> None:
        """The connection with the options of before ends when no run uses it."""
        for seconds in (20, 21):
            workflow = make_workflow(executor=ExecutorDask(own_dask.address, timeout=seconds))
            workflow.task.add(action(lambda: 1))
            workflow.start()
            assert len(clients_of(own_dask)) == 1


class TestKeptActors:
    """What `keep` of ExecutorRay leaves for the next run."""

    def test_the_next_run_has_the_connection_and_the_actors(self, ray_cluster: RayProcesses) -> None:
        """For so long; by default both end with the run, and a connection of the program's own never does."""
        script = KEPT.format(address=ray_cluster.address)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)

        assert done.stdout.splitlines() == [
            "the same actor, another process: True True",
            "refused in a fork: True",
            "ended: True",
            "by default: False",
            "the program's own: True",
            "its actor ended: True",
        ], done.stderr


KEPT = """
import os
import time
import psutil
import ray
from dotflow import Config, DotFlow, action
from dotflow.errors import ClusterError
from dotflow.providers import ExecutorRay, LogDefault


def run(**keep):
    workflow = DotFlow(Config(executor=ExecutorRay({address!r}, **keep), log=LogDefault(output="none")))
    workflow.task.add(action(lambda: (psutil.Process().ppid(), psutil.Process().parent().ppid(), os.getpid())))
    return workflow.start().tasks[0].value


def has_ended(is_there):
    until = time.monotonic() + 20
    while is_there() and time.monotonic() < until:
        time.sleep(0.02)
    return not is_there()


(_, actor, process), (_, again, other) = run(keep=3), run(keep=3)
print("the same actor, another process:", actor == again, process != other)
child = os.fork()
if not child:
    try:
        run()
    except ClusterError as error:
        os._exit(7 if "forked" in str(error) else 8)
    os._exit(9)
print("refused in a fork:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7)
print("ended:", has_ended(ray.is_initialized))
run()
print("by default:", ray.is_initialized())
ray.init({address!r}, log_to_driver=False)
_, actor, _ = run(keep=0.1)
ended = has_ended(lambda: psutil.pid_exists(actor))
print("the program's own:", ray.is_initialized())
print("its actor ended:", ended)
"""


def clients_of(cluster: DaskProcesses) -> set[str]:
    """The names of dotflow's clients that a scheduler has."""
    from distributed import Client

    def look(dask_scheduler: Any) -> set[str]:
        return {name for name in dask_scheduler.clients if "dotflow" in name}

    with Client(cluster.address, set_as_default=False) as client:
        found: set[str] = client.run_on_scheduler(look)
    return found


class TestLostSchedulers:
    def test_runs_on_dask_go_on_when_it_is_back(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """As after the loss of all workers: what has come back is not made again, what has begun counts, and steps that
        ran have ended at once. Of two runs that share a connection, the one without a retry fails."""
        pid, effects = tmp_path / "pid", tmp_path / "effects"
        effects.mkdir()

        @action(retry=5, retry_delay=0)
        def step(number: int) -> int:
            descriptor = os.open(effects / f"{number}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
            os.write(descriptor, b"x")
            os.close(descriptor)
            time.sleep(0.01)
            return number

        @action
        def slow() -> None:
            pid.with_suffix(".tmp").write_text(str(os.getpid()))
            pid.with_suffix(".tmp").rename(pid)
            time.sleep(60)

        log, executor = LogList(), ExecutorDask(own_dask.address)
        without_retry, workflow = make_workflow(executor=executor), make_workflow(executor=executor, log=log)
        without_retry.task.add(slow)
        workflow.task.add(step, each=list(range(600)))
        failing = without_retry.launch(lambda: None)
        wait_for(pid.exists, "the slow step", 60)
        run = workflow.launch(lambda: None, mode="parallel")
        wait_for(lambda: completed_items(run) > 100, "items", 60)
        completed = {item.item for item in run.tasks[0].items if item.status is COMPLETED}
        own_dask.scheduler.kill()
        wait_for(lambda: not psutil.pid_exists(int(pid.read_text())), "the end of the slow step", 15)
        own_dask.restart_scheduler()
        assert run.wait(100)
        assert failing.wait(60)

        counted = {item.item: item.attempt for item in run.tasks[0].items}
        made = {int(path.name): len(path.read_text()) for path in effects.iterdir()}
        assert run.value("step") == list(range(600))
        assert {number: made[number] for number in completed} == dict.fromkeys(completed, 1)
        assert all(made[number] <= counted[number] for number in counted), "an effect that is no attempt"
        assert sum(counted.values()) - 600 <= 4, "one for each thread of the workers"
        errors = [error for item in run.tasks[0].items for error in item.errors]
        assert {error.exception for error in errors} <= {"WorkerDied"}
        assert [error.exception for error in failing.tasks[0].errors] == ["WorkerDied"]
        assert "lost the worker of step" in failing.tasks[0].errors[0].message
        said = [line for line in log.told if "scheduler" in line and "waited" not in line]
        assert [line.rpartition("scheduler at ")[2].partition(" ")[2] for line in said] == [
            "is lost. The run waits up to 30 s for it to come back.",
            "is back.",
        ]

    def test_runs_on_dask_go_on_after_an_outage_of_the_network(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """The scheduler ends what ran, so each step that had begun counts, and is repeated by its policy."""
        tries = tmp_path / "tries"

        @action(retry=2, retry_delay=0)
        def step() -> str:
            with tries.open("a") as file:
                file.write("x")
            time.sleep(60 if tries.read_text() == "x" else 0)
            return "survived"

        with TcpProxy(int(own_dask.address.rpartition(":")[2])) as proxy:
            workflow = make_workflow(executor=ExecutorDask(f"tcp://127.0.0.1:{proxy.port}"))
            workflow.task.add([action(lambda: "before"), step])
            run = workflow.start(mode="background")
            wait_for(tries.exists, "the step", 60)
            time.sleep(REPORTED)
            proxy.cut()
            assert run.wait(60)

        assert workflow.result_storage() == ["before", "survived"]
        assert [error.exception for error in run.tasks[1].errors] == ["WorkerDied"]
        assert tries.read_text() == "xx"

    @pytest.mark.exhaustive
    def test_one_that_stays_away_ends_the_run_and_keeps_the_checkpoints(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """The error says what is gone and what to do; a later run takes up what was finished."""
        begun = tmp_path / "begun"

        @action
        def slow() -> str:
            if not begun.exists():
                begun.touch()
                time.sleep(30)
            return "second"

        def make(executor: Executor) -> DotFlow:
            workflow = make_workflow(executor=executor, storage=StorageFile(tmp_path / "kept"), workflow_id="nightly")
            workflow.task.add([action(lambda: "first"), slow])
            return workflow

        workflow = make(ExecutorDask(own_dask.address, timeout=3))
        run = workflow.start(mode="background")
        wait_for(begun.exists, "the second step")
        own_dask.scheduler.kill()
        with pytest.raises(ClusterLost, match=r"is lost.*resume=True"):
            run.wait(30)

        assert [task.status for task in run.tasks] == [COMPLETED, FAILED]
        assert "ClusterLost" in run.tasks[1].errors[-1].exception
        again = make(ExecutorDask())
        again.start(resume=True)
        assert again.result_storage() == ["first", "second"]

    def test_a_connection_that_is_ended_in_the_middle(self, ray_cluster: RayProcesses) -> None:
        """ray.shutdown() in the user's program ends the run with an error, and Ray makes no new connection for it."""
        script = SHUTDOWN.format(address=ray_cluster.address)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

        assert done.stdout == "disconnected: True, connected again: False\n", done.stderr

    def test_one_that_is_not_there(self, make_workflow: MakeWorkflow) -> None:
        """Nothing runs, and the error names the address and what to look at."""
        workflow = make_workflow(executor=ExecutorDask("tcp://127.0.0.1:9", timeout=0.5))
        workflow.task.add(action(lambda: 1))

        with pytest.raises(ClusterLost, match=r"tcp://127.0.0.1:9 can't be reached.*timeout="):
            workflow.start()


SHUTDOWN = """
import time
import ray
from dotflow import Config, DotFlow, action
from dotflow.errors import ClusterError
from dotflow.providers import ExecutorRay, LogDefault
from dotflow.providers.executors.ray import ray_session

ray_session.HEAD_CHECK_INTERVAL = 0.2
workflow = DotFlow(Config(executor=ExecutorRay({address!r}), log=LogDefault(output="none")))
workflow.task.add([action(lambda: 1), action(lambda: time.sleep(60))])
run = workflow.start(mode="background")
while run.tasks[1].status != "In progress":
    run.wait(0.02)
ray.shutdown()
try:
    run.wait(30)
except ClusterError as error:
    print("disconnected: " + str("ray.shutdown()" in str(error)), end=", ")
print("connected again: " + str(ray.is_initialized()))
"""


class TestStops:
    def test_cancelling_ends_running_and_waiting_steps(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """Nothing of a cancelled run goes on in the cluster."""

        @action
        def step(initial_context: Any) -> None:
            (tmp_path / f"pid{os.getpid()}").touch()
            time.sleep(30)

        workflow = make_workflow(executor=executor)
        for number in range(12):
            workflow.task.add(step, initial_context=number)
        run = workflow.launch(lambda: None, mode="parallel")
        wait_for(lambda: list(tmp_path.glob("pid*")), "a step's beginning")
        run.cancel()
        assert run.wait(20)

        def begun() -> list[int]:
            return [int(path.name[3:]) for path in tmp_path.glob("pid*")]

        assert {task.status for task in run.tasks} <= {FAILED, NOT_STARTED}
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in begun()), "the end of the steps")
        assert len(begun()) <= 4, "no more than there are workers"

    def test_no_process_of_a_cancelled_run_stays_on_dasks_workers(
        self, dask_client: Any, make_workflow: MakeWorkflow
    ) -> None:
        """Thousands of tasks may be queued on the workers; what is still begun of them after the end, they drop.

        Each worker keeps its fork server, from which the processes of the next run begin.
        """
        workflow = make_workflow(executor=ExecutorDask(dask_client))
        workflow.task.add([action(lambda: None)] * 3000)
        run = workflow.launch(lambda: None, mode="parallel")
        wait_for(lambda: any(task.status is COMPLETED for task in run.tasks), "the end of a first step")
        run.cancel()
        assert run.wait(30)

        def children() -> dict[str, int]:
            counted: dict[str, int] = dask_client.run(
                lambda: sum(child.ppid() != os.getpid() for child in psutil.Process().children(recursive=True))
            )
            return counted

        wait_for(lambda: not any(children().values()), "the end of the processes", seconds=10)

    @pytest.mark.exhaustive(keep_every=2)
    @pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
    def test_the_end_of_the_process_that_called_start(self, kind: str, name: str, address: str, tmp_path: Path) -> None:
        """Ctrl-C and kill -9 there end the step here, in C code too, and a run that resumes skips what was finished."""
        script = tmp_path / "pipeline.py"
        script.write_text(PIPELINE.format(kind=kind, address=address, folder=str(tmp_path)))
        command = [sys.executable, "-W", "error::UserWarning", str(script)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            wait_for((tmp_path / "pid").exists, "the step's beginning")
            pid = int((tmp_path / "pid").read_text())
            process.send_signal(getattr(signal, name))
            _, said = process.communicate(timeout=30)
        wait_for(lambda: not psutil.pid_exists(pid), "the end of the step's process")
        again = subprocess.run(command, capture_output=True, text=True, timeout=50)

        assert "KeyboardInterrupt" in said or name == "SIGKILL"
        assert again.stdout == "['first', 'second']\n", again.stderr
        assert (tmp_path / "ran").read_text() == "x"


PIPELINE = """
import hashlib, os, pathlib
from dotflow import Config, DotFlow, action
from dotflow.providers import Executor{kind}, LogDefault, StorageFile

folder = pathlib.Path({folder!r})

@action
def first():
    with (folder / "ran").open("a") as file:
        file.write("x")
    return "first"

@action
def second():
    if not (folder / "pid").exists():
        (folder / "pid.tmp").write_text(str(os.getpid()))
        (folder / "pid.tmp").rename(folder / "pid")
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 200_000_000)
    return "second"

executor, storage = Executor{kind}({address!r}), StorageFile(folder / "kept")
config = Config(executor=executor, storage=storage, log=LogDefault(output="none"))
workflow = DotFlow(config, workflow_id="nightly")
workflow.task.add([first, second])
workflow.start(resume=True)
print(workflow.result_storage())
"""


@pytest.fixture(params=["Dask", "Ray"])
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of cluster, as its executor is called."""
    return str(request.param)


@pytest.fixture
def address(kind: str, request: pytest.FixtureRequest) -> str:
    """Where there is one of the kind."""
    return str(request.getfixturevalue(f"{kind.lower()}_cluster").address)


class TestFurtherRuns:
    """What a cluster has of earlier runs makes the next one short."""

    def test_a_worker_keeps_its_fork_server_for_the_next_run(
        self, dask_executor: Executor, make_workflow: MakeWorkflow
    ) -> None:
        """A run starts no interpreter on a worker that has made an attempt before; its processes are its own."""

        @action
        def step() -> tuple[int, int]:
            time.sleep(0.2)  # long enough for all four threads of the workers
            return os.getppid(), os.getpid()

        def run() -> set[tuple[int, int]]:
            workflow = make_workflow(executor=dask_executor)
            workflow.task.add([step] * 4)
            return {task.value for task in workflow.start(mode="parallel").tasks}

        run()
        (first, second) = run(), run()

        assert {server for server, _ in first} == {server for server, _ in second}
        assert not {process for _, process in first} & {process for _, process in second}

    def test_a_worker_is_asked_for_its_versions_once(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that joins later is asked, and the differences of all are in the log of each run."""
        from distributed import Client

        asked: list[list[str]] = []
        with Client(own_dask.address, set_as_default=False) as client:
            broadcast = client.scheduler.broadcast

            def counted(**options: Any) -> Any:
                if options["msg"]["op"] == "versions":
                    asked.append(options["workers"])
                return broadcast(**options)

            def run() -> list[str]:
                log = LogList()
                workflow = make_workflow(executor=ExecutorDask(client), log=log)
                workflow.task.add(action(lambda: 1))
                workflow.start()
                return log.told

            pretend(monkeypatch, "Dask", cloudpickle="1.0")
            client.wait_for_workers(2)
            monkeypatch.setattr(client.scheduler, "broadcast", counted, raising=False)
            first, second = run(), run()
            own_dask.add_worker()
            client.wait_for_workers(3)
            run()

        assert [len(workers) for workers in asked] == [2, 1]
        assert len(first) == 1
        assert second == first


def pretend(monkeypatch: pytest.MonkeyPatch, kind: str, **versions: str) -> None:
    """Has runs on a kind of cluster find these versions in this process."""
    if kind == "Ray":
        found = {**versions_here("ray"), **versions}
        monkeypatch.setattr("dotflow.providers.executors.ray.ray_session.versions_here", lambda engine: found)
        return
    from distributed.versions import get_versions

    here = get_versions(["dotflow"])
    here["packages"] |= versions
    monkeypatch.setattr("dotflow.providers.executors.dask.dask_session.get_versions", lambda packages: here)


def older_dotflow(folder: Path) -> Path:
    """Makes a folder for PYTHONPATH in which dotflow seems to be an older one."""
    found = folder / "older" / "dotflow-0.0.0.dist-info" / "METADATA"
    found.parent.mkdir(parents=True)
    found.write_text("Metadata-Version: 2.1\nName: dotflow\nVersion: 0.0.0\n")
    return folder / "older"


class TestVersions:
    def test_another_version_of_a_package_is_reported(
        self, executor: Executor, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is installed in another version over there is said once, at the beginning, with both versions."""
        pretend(monkeypatch, type(executor).__name__.removeprefix("Executor"), cloudpickle="1.0")
        log = LogList()
        workflow = make_workflow(executor=executor, log=log)
        workflow.task.add([action(lambda: 1)] * 3)
        workflow.start(mode="parallel")

        assert len(log.told) == 1
        assert "(here 1.0)" in log.told[0]
        assert "install the same" in log.told[0]

    def test_another_dotflow_is_refused(
        self, executor: Executor, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Nothing runs, and the error names both versions, the workers and the cure."""
        kind = type(executor).__name__.removeprefix("Executor")
        pretend(monkeypatch, kind, dotflow="99")
        workflow = make_workflow(executor=executor)
        workflow.task.add(action((tmp_path / "ran").touch))
        place = r"tcp://127\.0\.0\.1:\d+, tcp://127\.0\.0\.1:\d+" if kind == "Dask" else r"\d+\.\d+\.\d+\.\d+"
        text = rf"dotflow {version('dotflow')} \(here 99\) on {place}\. Install the same"
        with pytest.raises(ClusterError, match=text):
            workflow.start()

        assert not (tmp_path / "ran").exists()

    @pytest.mark.filterwarnings("ignore:Mismatched versions found")  # Dask's own
    @pytest.mark.parametrize("part", ["worker", "scheduler"])
    def test_another_python_on_dask_is_refused(self, part: str, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """Its bytecode is another, so not even code that asks for its version is sent there."""
        python = other_python()
        here, there = "{}.{}".format(*sys.version_info), Path(python).parts[-3]
        with DaskProcesses(workers=0, python=python if part == "scheduler" else sys.executable) as cluster:
            cluster.add_worker(python=python)
            wait_for(lambda: cluster.worker_count() == 1, "the start of the worker")
            workflow = make_workflow(executor=ExecutorDask(cluster.address))
            workflow.task.add(action((tmp_path / "ran").touch))
            with pytest.raises(ClusterError, match=rf"Python {there} \(here {here}\).* on (the scheduler|tcp://127)"):
                workflow.start()

        assert not (tmp_path / "ran").exists()

    def test_a_worker_that_joins_dask_is_compared(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """The run ends in the same words, as soon as calls have waited for a worker for a second."""
        begun = tmp_path / "begun"

        def hold() -> None:
            begun.touch()
            time.sleep(60)

        with DaskProcesses(workers=1, threads=1) as cluster:
            workflow = make_workflow(executor=ExecutorDask(cluster.address))
            workflow.task.add([action(hold)] * 2)
            run = workflow.launch(lambda: None, mode="parallel")
            wait_for(begun.exists, "the first step")
            cluster.add_worker("--no-nanny", PYTHONPATH=str(older_dotflow(tmp_path)))
            with pytest.raises(ClusterError, match=r"dotflow 0\.0\.0 \(here .*\) on tcp://127.*Install the same"):
                run.wait(60)

    def test_a_worker_that_does_not_answer(self, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is said that its versions are not known, and the others work."""
        from distributed import Client

        monkeypatch.setattr("dotflow.providers.executors.dask.dask_session.REPLY_TIMEOUT", 1.0)
        with DaskProcesses(workers=1) as cluster, Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(1)
            (frozen,) = client.run(os.getpid).values()
            cluster.add_worker("--resources", "AWAKE=1")
            client.wait_for_workers(2)
            os.kill(frozen, signal.SIGSTOP)
            log = LogList()
            workflow = make_workflow(executor=ExecutorDask(client), log=log)
            workflow.task.add(action(resources={"AWAKE": 1})(lambda: 1))
            run = workflow.start()
            os.kill(frozen, signal.SIGCONT)

        assert run.status is COMPLETED
        assert "Not all workers have answered within 1 s" in log.told[0]

    def test_a_worker_without_dotflow(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """The run ends, and the error says what to install there."""
        (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['dotflow'] = None")
        with DaskProcesses(workers=0) as cluster:
            cluster.add_worker(PYTHONPATH=str(tmp_path))
            workflow = make_workflow(executor=ExecutorDask(cluster.address))
            workflow.task.add(action(lambda: 1))
            with pytest.raises(ClusterError, match=r"without dotflow.*in the same version.*\[dask\]"):
                workflow.start()


class TestData:
    def test_a_lanes_value_stays_where_it_was_made(self, executor: Executor, make_workflow: MakeWorkflow) -> None:
        """The next step of the lane is given the very object, which never went through the coordinator and back."""

        class Counting:
            def __init__(self) -> None:
                self.payload = bytes(1 << 20)
                self.pickled = 0
                self.unpickled = 0

            def __reduce__(self) -> Any:
                return rebuild, (self.payload, self.pickled + 1, self.unpickled)

        def rebuild(payload: bytes, pickled: int, unpickled: int) -> Counting:
            made = Counting()
            made.payload, made.pickled, made.unpickled = payload, pickled, unpickled + 1
            return made

        workflow = make_workflow(executor=executor)
        workflow.task.add(action(lambda: Counting()))
        workflow.task.add(action(lambda previous_context: (previous_context.storage.pickled, os.getpid())))
        workflow.start()

        assert workflow.result_storage()[0].pickled == 1
        assert workflow.result_storage()[1][0] == 0

    def test_an_array_may_be_changed_where_it_arrives(self, executor: Executor, make_workflow: MakeWorkflow) -> None:
        """What travels beside the pickle is no read-only view, here or there."""
        import numpy as np

        def change(previous_context: Any) -> Any:
            previous_context.storage[0] += 1
            return previous_context.storage

        workflow = make_workflow(executor=executor)
        workflow.task.add([action(lambda: np.zeros(300_000)), action(change), action(isolate=True)(change)])
        workflow.start()

        arrays = workflow.result_storage()
        arrays[2][0] += 1
        assert [array[0] for array in arrays] == [0, 1, 3]


class TestModules:
    def test_a_module_that_workers_lack_is_reported_once(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The task's error and one line of the log name the module and what to do."""
        (tmp_path / "only_here.py").write_text("from dotflow import action\n@action\ndef step():\n    return 'found'\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        import only_here  # type: ignore[import-not-found]

        log = LogList()
        workflow = make_workflow(executor=executor, log=log)
        workflow.task.add([only_here.step, only_here.step])
        run = workflow.start(keep_going=True)
        sys.modules.pop("only_here")

        assert {task.errors[0].exception for task in run.tasks} == {"ModuleNotOnWorker"}
        told = [line for line in log.told if "only_here" in line]
        assert len(told) == 1
        assert "Install it on the workers" in told[0]

    def test_it_may_be_sent_along(
        self, executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the message says helps: cloudpickle.register_pickle_by_value."""
        import cloudpickle  # type: ignore[import-untyped]

        (tmp_path / "sent_along.py").write_text(
            "from dotflow import action\nHELPED = 'found'\n@action\ndef step():\n    return HELPED\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        import sent_along  # type: ignore[import-not-found]

        cloudpickle.register_pickle_by_value(sent_along)
        workflow = make_workflow(executor=executor)
        workflow.task.add(sent_along.step)
        try:
            workflow.start()
        finally:
            cloudpickle.unregister_pickle_by_value(sent_along)
            sys.modules.pop("sent_along")

        assert workflow.result_storage() == ["found"]


@pytest.mark.exhaustive
def test_a_storage_of_this_machine_is_warned_of_once(
    executor: Executor, make_workflow: MakeWorkflow, tmp_path: Path
) -> None:
    """A run that is resumed on another machine needs a shared storage: said once, and never of one in memory."""
    log, silent = LogList(), LogList()
    workflow = make_workflow(executor=executor, storage=StorageFile(tmp_path), log=log)
    other = make_workflow(executor=executor, storage=StorageDefault(), log=silent)
    for made in (workflow, other):
        made.task.add(action(lambda: 1))
        made.start()
        made.start()

    assert len([line for line in log.told if "StorageFile keeps their checkpoints on this machine" in line]) == 1
    assert "a storage that all machines reach" in log.told[0]
    assert silent.told == []


def where() -> Callable[[], int]:
    """A step, which travels by value: the process of the cluster's worker that has it made."""

    def workers_pid() -> int:
        return int(psutil.Process().parent().parent().pid)  # through the nursery

    return workers_pid


def node() -> Callable[[], int]:
    """A step: the process of the node that it runs on."""

    def nodes_pid() -> int:
        return int(psutil.Process().parent().parent().parent().pid)

    return nodes_pid


class TestAFailure:
    def test_a_ready_task_with_room_begins(
        self, executor: Executor, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Though no worker was up for it: Dask takes one step for each thread and one beyond, Ray one for each CPU."""
        failed, begun = threading.Event(), [0]
        make_room = ClusterSession.make_room

        def make_room_late(session: ClusterSession, pool: Hashable, lane: int, waiting: int) -> bool:
            room = (failed.is_set() or not begun[0]) and make_room(session, pool, lane, waiting)
            begun[0] += room
            return room

        monkeypatch.setattr(ClusterSession, "make_room", make_room_late)
        workflow = make_workflow(executor=executor)
        workflow.task.add(action(lambda: 1 / 0), callback=lambda task: failed.set())
        workflow.task.add([action(lambda: 1)] * 9)
        run = workflow.start(mode="parallel")

        if isinstance(executor, ExecutorDask):
            places = 5
        else:
            import ray

            places = int(ray.cluster_resources()["CPU"])
        statuses = [task.status for task in run.tasks]
        assert statuses == [FAILED, *[COMPLETED] * (places - 1), *[NOT_STARTED] * (10 - places)]


class TestAdaptive:
    def test_an_adaptive_cluster_grows_with_waiting_steps(self, make_workflow: MakeWorkflow) -> None:
        """Where it is not known how many steps wait in the run, ten short ones are worth no second worker to Dask."""
        from distributed import LocalCluster

        def works() -> int:
            time.sleep(0.5)
            return os.getppid()

        with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
            cluster.adapt(minimum=1, maximum=2, interval="200ms", target_duration="1s")
            with cluster.get_client() as client:
                workflow = make_workflow(executor=ExecutorDask(client))
                workflow.task.add([action(works)] * 24)
                workflow.start(mode="parallel")

        assert len(set(workflow.result_storage())) > 1


class TestResources:
    @pytest.mark.exhaustive
    def test_dask_gives_a_step_a_worker_that_has_them(
        self, own_dask: DaskProcesses, make_workflow: MakeWorkflow
    ) -> None:
        """resources= goes to Dask's own; other steps run anywhere."""
        from distributed import Client

        with Client(own_dask.address, set_as_default=False) as client:
            client.wait_for_workers(2)
            known = set(client.run(os.getpid).values())
            own_dask.add_worker("--resources", "GPU=1")
            client.wait_for_workers(3)
            (special,) = set(client.run(os.getpid).values()) - known
            workflow = make_workflow(executor=ExecutorDask(client))
            workflow.task.add([action(resources={"GPU": 1})(where())] * 6)
            workflow.task.add([action(where())] * 6)
            workflow.start(mode="parallel")

        found = workflow.result_storage()
        assert set(found[:6]) == {special}
        assert set(found[6:]) <= {*known, special}

    def test_ray_gives_a_step_a_worker_that_has_them(
        self, ray_executor: Executor, ray_cluster: RayProcesses, make_workflow: MakeWorkflow
    ) -> None:
        """resources= goes to Ray's own, also while steps that ask for nothing have taken every CPU."""
        workflow = make_workflow(executor=ray_executor)
        workflow.task.add([action(node())] * 8)
        workflow.task.add([action(resources={"moon": 1})(node())] * 2)
        workflow.start(mode="parallel")

        found = workflow.result_storage()
        assert set(found[8:]) == {ray_cluster.pid_of(ray_cluster.second)}

    def test_a_lane_may_ask_for_more_in_its_middle(self, ray_executor: Executor, make_workflow: MakeWorkflow) -> None:
        """What a step returned is there for the next one, on whatever worker that is."""
        workflow = make_workflow(executor=ray_executor)
        workflow.task.add(action(lambda: bytes(200_000)))
        workflow.task.add(action(resources={"moon": 1})(lambda previous_context: previous_context.storage + b"1"))
        workflow.task.add(action(lambda previous_context: len(previous_context.storage)))
        workflow.start()

        assert workflow.result_storage()[2] == 200_001

    def test_the_log_reports_steps_that_wait_in_vain(
        self, executor: Executor, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A step that asks for what no worker has waits, and the log says so, and what there is."""
        monkeypatch.setattr("dotflow.providers.executors.cluster.cluster_session.WAIT_REPORT_DELAY", 0.2)
        log = LogList()
        workflow = make_workflow(executor=executor, log=log)
        workflow.task.add(action(resources={"MOONS": 1})(lambda: 1))
        run = workflow.start(mode="background")
        wait_for(lambda: log.told, "the line in the log")
        run.cancel()
        run.wait(20)

        has = (
            r"[1-9]\d* worker\(s\) with [1-9]\d* thread\(s\)\."
            if isinstance(executor, ExecutorDask)
            else r".*CPU: [1-9]"
        )
        assert "waited" in log.told[0]
        assert re.search(f"which has {has}", log.told[0])
        assert "memory" not in log.told[0]
        assert "the resources that the steps need" in log.told[0]
