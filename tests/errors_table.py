"""Provokes every error for real and prints its messages. Run: python tests/errors_table.py [NAME]

docs/errors.md shows these messages, and tests/acceptance/test_errors.py compares them. A new error needs a function
here, decorated with the error, and a section of its name there.
"""

import asyncio
import contextlib
import inspect
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal
from unittest import mock

import boto3

sys.path[:0] = [str(Path(__file__).parent.parent / "src"), str(Path(__file__).parent.parent)]

from dotflow import Config, Context, Control, DotFlow, Secret, action, clock, errors, serve, shell, used  # noqa: E402 (found through the path just set)
from dotflow.abc.storage import Storage  # noqa: E402
from dotflow.core.events import RunStarted  # noqa: E402
from dotflow.core.task import Task  # noqa: E402
from dotflow.providers import (  # noqa: E402
    ExecutorAsync,
    ExecutorDask,
    ExecutorInline,
    ExecutorProcess,
    HistorySQLite,
    LogDefault,
    NotifyTelegram,
    SchedulerCron,
    StorageFile,
    StoragePostgres,
    StorageS3,
    StorageSQLite,
    optional,
)
from dotflow.testing import virtual_clock  # noqa: E402
from tests.clouds.process import ServerProcess  # noqa: E402
from tests.clouds.settings import set_up_s3  # noqa: E402

QUIET: Final = LogDefault(output="none")

Provoke = Callable[[], object]

#: Error -> the functions that provoke it: they raise it, or return its message.
CASES: Final[dict[str, list[Provoke]]] = {}


def case(error: type[errors.DotflowError]) -> Callable[[Provoke], Provoke]:
    """Registers a function that provokes the error."""

    def note(provoke: Provoke) -> Provoke:
        CASES.setdefault(error.__name__, []).append(provoke)
        return provoke

    return note


def message_of(provoke: Provoke) -> str:
    """Returns the last line of the traceback or of the task's record: `InvalidStep: A step is ...`."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        try:
            result = provoke()
        except errors.DotflowError as error:
            return f"{type(error).__name__}: {error}"
    return str(result)


def workflow_of(*steps: Any, **config: Any) -> DotFlow:
    """Returns a workflow of these steps that logs nothing."""
    workflow = DotFlow(Config(log=QUIET, **config))
    workflow.task.add(steps[0] if len(steps) == 1 else list(steps))
    return workflow


def failed(workflow: DotFlow, mode: str = "sequential") -> str:
    """Returns the last error of the first task that failed."""
    workflow.start(mode=mode)
    error = next(task.error for task in workflow.result_task() if task.error is not None)
    return f"{error.exception}: {error.message}"


@contextlib.contextmanager
def a_module(name: str, text: str) -> Iterator[None]:
    """Makes a module importable, and removes it."""
    Path(f"{name}.py").write_text(text)
    with mock.patch.object(sys, "path", [str(Path.cwd()), *sys.path]), mock.patch.dict(sys.modules):
        yield


def in_another(program: str) -> str:
    """Returns the last line of a program that runs in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", inspect.cleandoc(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    return (ended.stdout or ended.stderr).strip().splitlines()[-1].removeprefix("dotflow.errors.")


# -- steps that go wrong -----------------------------------------------------------------------------------------------


def forgotten() -> None: ...


@action
def extract() -> list[int]:
    return [1, 2, 3]


@action
def needs_rows(rows: list[int]) -> int:
    return len(rows)


class Report:
    @action
    def load(self) -> int:
        return 1


@action
def opens_a_file() -> object:
    return {"rows": [1, 2], "log": threading.Lock()}


@action(timeout=0.05)
def sleeps() -> None:
    time.sleep(30)


@action(timeout=0.05, isolate=True)
def ignores_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(30)


@action
def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@action(memory="50 MB")
def eats() -> None:
    kept = bytearray(b"x") * 300_000_000
    time.sleep(30)
    del kept


@action
def exits() -> None:
    os._exit(3)


@action
def interrupts() -> None:
    raise KeyboardInterrupt


# -- the workflow is wrong ---------------------------------------------------------------------------------------------


@case(errors.InvalidStep)
def _a_call() -> object:
    return workflow_of(extract())


@case(errors.InvalidStep)
def _no_action() -> object:
    return workflow_of(forgotten)


@case(errors.InvalidStep)
def _an_instance() -> object:
    return workflow_of(Report())


@case(errors.InvalidStep)
def _nothing() -> object:
    return workflow_of()


@case(errors.InvalidStep)
def _a_generator() -> object:
    @action
    def rows() -> Iterator[int]:
        yield 1

    return rows


@case(errors.InvalidStep)
def _an_option_by_place() -> object:
    return action(3)  # type: ignore[call-overload]


@case(errors.InvalidPath)
def _no_module() -> object:
    return workflow_of("stepz.extract")


@case(errors.InvalidPath)
def _no_name() -> object:
    with a_module("pipelines", "from dotflow import action\nextract = action(abs)\nload = action(max)\n"):
        return workflow_of("pipelines.extrakt")


@case(errors.InvalidPath)
def _a_module_that_raises() -> object:
    with a_module("pipelines", "1 / 0\n"):
        return workflow_of("pipelines.extract")


@case(errors.InvalidPath)
def _no_path() -> object:
    return workflow_of("extract")


@case(errors.UnknownParameter)
def _a_parameter() -> object:
    return workflow_of(needs_rows)


@case(errors.UnknownParameter)
def _a_method() -> object:
    return workflow_of(Report.load)


def orders() -> list[int]:
    return [1, 2]


@case(errors.UnknownParameter)
def _a_misspelt_task() -> object:
    @action
    def report(order: object) -> None: ...

    return workflow_of(action(orders)).task.add(report)


@case(errors.UnknownParameter)
def _a_parameter_of_an_action_of_a_class() -> object:
    @action
    class Sales:
        @action
        def line(self, day: object) -> None: ...

    return workflow_of(Sales)


@case(errors.UnknownTask)
def _an_unknown_task() -> object:
    return workflow_of(action(orders)).task.add(action(print), needs=["ordres"])


@case(errors.UnknownTask)
def _an_unknown_task_to_rerun() -> object:
    return workflow_of(action(orders)).start(rerun="ordres")


@case(errors.UnknownTask)
def _an_output_is_no_task() -> object:
    @action
    def split() -> tuple[int, int]:
        return 1, 2

    workflow = DotFlow(Config(log=QUIET))
    workflow.task.add(split, outputs=["train", "test"])
    return workflow.start()["train"]


@case(errors.AmbiguousTask)
def _an_ambiguous_task() -> object:
    return workflow_of(action(orders), action(orders)).task.add(action(print), needs=["orders"])


@case(errors.InvalidLink)
def _a_limit_without_items() -> object:
    return workflow_of(action(orders)).task.add(action(orders), max_parallel=2)


@case(errors.InvalidLink)
def _two_orders_of_one_task() -> object:
    return workflow_of(action(orders)).task.add(action(print), needs=["orders"], after=["orders"])


@case(errors.InvalidLink)
def _a_value_that_can_not_fit() -> object:
    @action
    def total() -> list[str]:
        return []

    @action
    def count(orders: list[int]) -> None: ...

    return DotFlow(Config(log=QUIET)).task.add(total, name="orders").add(count)


@case(errors.InvalidLink)
def _items_of_no_list() -> object:
    @action
    def count() -> int:
        return 1

    @action
    def load(part: int) -> None: ...

    return DotFlow(Config(log=QUIET)).task.add(count).add(load, each=count)


@case(errors.InvalidLink)
def _a_written_down_value_that_can_not_fit() -> object:
    @action
    def load(day: date) -> None: ...

    return DotFlow(Config(log=QUIET)).task.add(load, each=["2026-11-25"])


@case(errors.InvalidLink)
def _a_condition_that_never_holds() -> object:
    @action
    def route() -> Literal["fast", "slow"]:
        return "fast"

    return DotFlow(Config(log=QUIET)).task.add(route).add(action(orders), when={"route": "fats"})


@case(errors.InvalidLink)
def _a_previous_context_in_parallel() -> object:
    @action
    def report(orders: object, previous_context: Context) -> None: ...

    workflow = workflow_of(action(orders))
    workflow.task.add(report)
    return workflow.start(mode="parallel")


@case(errors.UnknownParam)
def _an_unknown_run_parameter() -> object:
    return DotFlow(Config(log=QUIET), params={"day": ...}).start(params={"dya": "2026-11-25"})


@case(errors.SecretChanged)
def a_run_is_continued_with_another_secret() -> object:
    @action
    def sync(token: str) -> str:
        raise ValueError(f"{len(token)} characters")

    history = HistorySQLite("history.db")
    config = Config(log=QUIET, history=history, storage=StorageFile("values"), secrets={"API_TOKEN": "of-another-day"})
    workflow = DotFlow(config, workflow_id="nightly", params={"token": Secret("API_TOKEN")})
    workflow.task.add(sync)
    run = workflow.start(params={"token": "of-this-run"})
    Control(history).resume(run.run_id)
    (ended,) = serve(workflow, once=True)
    return ended.error


@case(errors.SecretMissing)
def a_secret_is_missing() -> object:
    @action
    def sync(token: str = Secret("API_TOKEN")) -> str:
        return token

    workflow = DotFlow(Config(log=QUIET))
    workflow.task.add(sync)
    with mock.patch.dict(os.environ):
        os.environ.pop("API_TOKEN", None)
        return workflow.start()


@case(errors.ResourcesNotOffered)
def resources_on_this_machine() -> object:
    @action(resources={"GPU": 1})
    def train() -> None: ...

    workflow = DotFlow(Config(log=QUIET))
    workflow.task.add(train)
    return workflow.start()


@case(errors.CallsNotKept)
def durable_on_an_executor_of_ones_own() -> object:
    class ExecutorFarm(ExecutorInline):
        keeps_calls = False

    @action(durable=True)
    def agent() -> None: ...

    workflow = DotFlow(Config(log=QUIET, executor=ExecutorFarm()))
    workflow.task.add(agent)
    return workflow.start()


@case(errors.MissingParam)
def _no_value_of_a_run_parameter() -> object:
    return DotFlow(Config(log=QUIET), params={"day": ...}).start()


@case(errors.InvalidPolicy)
def _no_attempt() -> object:
    return action(retry=0)


@case(errors.InvalidPolicy)
def _a_timeout_in_words() -> object:
    return action(timeout="10 seconds")


@case(errors.InvalidPolicy)
def _an_errors_name() -> object:
    return action(retry=3, retry_on="ConnectionError")  # type: ignore[call-overload]


@case(errors.InvalidPolicy)
def _a_cache_without_a_checkpoint() -> object:
    return action(cache=True, checkpoint=False)


@case(errors.InvalidAction)
def _quoted_parameter() -> object:
    return shell("grep '{word}' {files}", name="find")


@case(errors.InvalidAction)
def _unwritten_output() -> object:
    return shell("sort {rows}", name="sort", outputs={"out": "sorted.csv"})


@case(errors.InvalidArgument)
def _a_mode() -> object:
    return workflow_of(extract).start(mode="paralel")


@case(errors.InvalidArgument)
def _a_resume() -> object:
    return workflow_of(extract).start(resume="change")  # type: ignore[arg-type]


@case(errors.InvalidArgument)
def _a_format_of_a_diagram() -> object:
    return workflow_of(extract).task.graph("svg")


@case(errors.UnknownArgument)
def _a_start_argument() -> object:
    return workflow_of(extract, scheduler=SchedulerCron("@daily")).schedule(retry=3)


@case(errors.InvalidArgument)
def _a_chat() -> object:
    return NotifyTelegram("123456:ABC-DEF", "my chat")


@case(errors.UnknownArgument)
def _a_word_of_the_decorators() -> object:
    return DotFlow().task.add(extract, retries=3)  # type: ignore[arg-type]


@case(errors.UnknownArgument)
def _a_word_of_another_library() -> object:
    return action(max_retries=3)  # type: ignore[call-overload]


@case(errors.UnknownArgument)
def _a_misspelt_option() -> object:
    return action(time_out=3)  # type: ignore[call-overload]


@case(errors.InvalidCallback)
def _a_coroutine_function() -> object:
    async def tell(tasks: list[Task]) -> None: ...

    return workflow_of(extract).start(on_success=tell)


@case(errors.InvalidCallback)
def _a_called_callback() -> object:
    return workflow_of(extract).start(on_success=sorted([]))  # type: ignore[arg-type]


@case(errors.InvalidCallback)
def _a_callback_that_takes_nothing() -> object:
    return DotFlow().task.add(extract, callback=forgotten)  # type: ignore[arg-type]


@case(errors.InvalidCallback)
def _two_steps() -> object:
    return DotFlow().task.add(extract, extract)  # type: ignore[arg-type]


@case(errors.InvalidProvider)
def _a_class() -> object:
    return Config(storage=StorageFile)  # type: ignore[arg-type]


@case(errors.InvalidProvider)
def _a_path() -> object:
    return Config(storage="output/")  # type: ignore[arg-type]


@case(errors.InvalidProvider)
def _a_provider_for_a_config() -> object:
    return DotFlow(StorageFile())  # type: ignore[arg-type]


@case(errors.InvalidSchedule)
def _four_fields() -> object:
    return SchedulerCron("30 2 * *")


@case(errors.InvalidSchedule)
def _a_field() -> object:
    return SchedulerCron("30 25 * * *")


@case(errors.InvalidSchedule)
def _a_day_that_never_comes() -> object:
    return SchedulerCron("0 0 31 2 *")


@case(errors.InvalidSchedule)
def _a_zone() -> object:
    return SchedulerCron("@daily", timezone="Europe/Berln")


@case(errors.InvalidSchedule)
def _missed_firings_of_one_name() -> object:
    return SchedulerCron("@daily", catch_up="all")


@case(errors.NoSchedule)
def _no_schedule() -> object:
    return workflow_of(extract).schedule()


def served(history: str | None = "history.db", **arguments: Any) -> DotFlow:
    """A workflow with a queue in a history."""
    workflow = DotFlow(Config(log=QUIET, history=history and HistorySQLite(history)), **arguments)
    workflow.task.add(extract)
    return workflow


@case(errors.NotServable)
def _no_queue() -> object:
    return served(None, workflow_id="nightly").submit()


@case(errors.NotServable)
def _no_id() -> object:
    return served().submit()


@case(errors.NotServable)
def _nothing_to_control() -> object:
    return Control()


@case(errors.NotServable)
def _nothing_to_serve() -> object:
    return serve(served(None, workflow_id="nightly"))


@case(errors.NotServable)
def _no_name() -> object:
    return Control(HistorySQLite("history.db")).submit("nightly", {"day": "2026-11-25"}, replace=True)


@case(errors.NotServable)
def _two_queues() -> object:
    return serve(served(workflow_id="nightly"), served("other.db", workflow_id="weekly"))


# -- what happens to an attempt ----------------------------------------------------------------------------------------


@case(errors.StepTimeout)
def _too_slow() -> object:
    return failed(workflow_of(sleeps))


@case(errors.StepTimeout)
def _too_slow_and_deaf() -> object:
    return failed(workflow_of(ignores_signals))


@case(errors.NotYet)
def _not_yet() -> object:
    def files() -> None:
        raise errors.NotYet("3 of 5 files")

    return failed(workflow_of(action(files)))


@case(errors.Throttled)
def _throttled() -> object:
    @action
    def ask() -> None:
        raise errors.Throttled(7 * 86_400)

    return failed(workflow_of(ask))


@case(errors.BudgetExceeded)
def _over_budget() -> object:
    @action(budget="llm: $5/run")
    def draft() -> None:
        used(usd=4.97)

    @action(budget="llm: $5/run", uses=lambda: {"usd": 0.2})
    def ask() -> None: ...

    return failed(workflow_of(draft, ask))


@case(errors.LimitTooSmall)
def _too_much() -> object:
    @action(limit="openai: 200000 tokens/min", uses=lambda: {"tokens": 250_000})
    def ask() -> None: ...

    return failed(workflow_of(ask))


@case(errors.PollTimeout)
def _waited_in_vain() -> object:
    def files() -> None:
        raise errors.NotYet("3 of 5 files")

    with virtual_clock():
        return failed(workflow_of(action(poll="30s", poll_timeout="1m")(files)))


@case(errors.CommandFailed)
def _failed_command() -> object:
    return shell("cat {rows} | wc -l", name="count")(rows=Path("no such.csv"))


@case(errors.WorkerDied)
def _killed() -> object:
    return failed(workflow_of(is_killed), "parallel")


@case(errors.WorkerDied)
def _exited() -> object:
    return failed(workflow_of(exits), "parallel")


@case(errors.MemoryExceeded)
def _of_memory() -> object:
    return failed(workflow_of(eats))


@case(errors.WorkerNotStarted)
def _no_descriptors() -> object:
    workflow = workflow_of(extract, executor=ExecutorProcess(max_workers=1))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.dup(0) for _ in range(4)]  # the run takes three files, and its first worker four
    for number in free:
        os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1] + 1, before[1]))
    try:
        return failed(workflow, "parallel")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@case(errors.ModuleNotOnWorker)
def _only_here() -> object:
    shop = types.ModuleType("shop")  # in this process only: no file that another one could import

    def load() -> None: ...

    load.__module__, load.__qualname__ = "shop", "load"
    vars(shop)["load"] = step = action(load)
    with mock.patch.dict(sys.modules, shop=shop):
        return failed(workflow_of(step, executor=ExecutorProcess(start_method="forkserver")), "parallel")


@case(errors.ClusterError)
def _no_certificate() -> object:
    return workflow_of(extract, executor=ExecutorDask("tls://127.0.0.1:9")).start()


@case(errors.ClusterLost)
def _no_scheduler() -> object:
    return workflow_of(extract, executor=ExecutorDask("tcp://127.0.0.1:9", timeout=0.5)).start()


@case(errors.HistoryError)
def _a_history_of_another_program() -> object:
    with contextlib.closing(sqlite3.connect("shop.db")) as database:
        database.execute("CREATE TABLE orders (id)")
    history = HistorySQLite("shop.db")
    return history.record("run", RunStarted("nightly", "run", 0, clock.now()))


@case(errors.HistoryError)
def _a_forged_row() -> object:
    history = HistorySQLite("history.db")
    workflow_of(extract, history=history).start()
    with contextlib.closing(sqlite3.connect("history.db", isolation_level=None)) as database:
        database.execute("UPDATE runs SET run_id = '/../../x'")
    return history.load("last")


@case(errors.NotInHistory)
def _no_failed_run() -> object:
    history = HistorySQLite("history.db")
    workflow_of(extract, history=history).start()
    return history.load("failed")


@case(errors.NotPicklable)
def _a_lock() -> object:
    return failed(workflow_of(opens_a_file), "parallel")


@case(errors.EventLoopBlocked)
def _a_blocked_loop() -> object:
    @action(timeout=0.05)
    async def blocks() -> None:
        with contextlib.suppress(BaseException):
            time.sleep(30)

    @action
    async def waits() -> None:
        await asyncio.sleep(30)

    workflow = workflow_of(waits, blocks, executor=ExecutorAsync())
    return failed(workflow, "parallel")


@case(errors.ValueNotStorable)
def _a_lock_in_a_checkpoint() -> object:
    return failed(workflow_of(opens_a_file, storage=StorageFile()))


@case(errors.CallRefused)
def _call_without_a_digest() -> object:
    @action
    def search(client: object, query: str) -> None: ...

    @action(durable=True)
    def agent() -> None:
        search(object(), "storks")

    return failed(workflow_of(agent))


@case(errors.ArgumentChanged)
def _call_that_changes_its_argument() -> object:
    @action
    def collect(rows: list[int]) -> None:
        rows.append(1)

    @action(durable=True)
    def agent() -> None:
        collect([])

    return failed(workflow_of(agent))


@case(errors.NotAList)
def _map_over_a_dict() -> object:
    @action
    def prices() -> object:
        return {"tea": 3}

    @action
    def count(price: object) -> None: ...

    workflow = workflow_of(prices)
    workflow.task.add(count, each=prices)
    return failed(workflow)


@case(errors.WrongOutputs)
def _three_parts_for_two_outputs() -> object:
    @action
    def split() -> tuple[int, ...]:
        return 1, 2, 3

    workflow = DotFlow(Config(log=QUIET))
    workflow.task.add(split, outputs=["train", "test"])
    return failed(workflow)


@case(errors.UnequalLists)
def _map_over_unequal_lists() -> object:
    @action
    def pair(one: int, other: int) -> None: ...

    workflow = DotFlow(Config(log=QUIET))
    workflow.task.add(pair, each={"one": [1, 2], "other": [1, 2, 3]})
    return failed(workflow)


@case(errors.ItemsFailed)
def _items_fail() -> object:
    @action
    def parse(text: str) -> None:
        if text != "one":
            raise ValueError(text)

    workflow = DotFlow(Config(log=QUIET))
    workflow.task.add(parse, each=["one", "two", "three"], keep_going=True)
    return failed(workflow)


@case(errors.NotReached)
def _not_reached() -> object:
    @action
    def double(value: int) -> int:
        return 2 * value

    @action
    def is_large(double: int) -> bool:
        return double > 100

    workflow = DotFlow(Config(log=QUIET))
    workflow.task.add(double, params={"value": 1}, repeat=2, until=is_large)
    return failed(workflow)


@case(errors.Rejected)
def _rejected() -> object:
    @action(approve="Publish {rows} rows?")
    def publish(rows: int) -> None: ...

    workflow = served(workflow_id="nightly", params={"rows": 3})
    workflow.task.add(publish)
    Control(workflow).reject(workflow.start().run_id, by="ben", comment="the day is not over")
    error = workflow.start(resume=True)["publish"].error
    assert error is not None
    return f"{error.exception}: {error.message}"


@case(errors.ApprovalExpired)
def _approval_expired() -> object:
    @action(approve="Publish?", approve_within="2d")
    def publish() -> None: ...

    workflow = served(workflow_id="nightly")
    workflow.task.add(publish)
    with virtual_clock() as clock:
        workflow.start()
        clock.advance(3 * 86_400)
        error = workflow.start(resume=True)["publish"].error
    assert error is not None
    return f"{error.exception}: {error.message}"


@case(errors.RunStopped)
def _cancelled() -> object:
    begun = threading.Event()

    @action
    async def waits() -> None:
        begun.set()
        await asyncio.sleep(30)

    run = workflow_of(waits).start(mode="background")
    begun.wait()
    run.cancel()
    run.wait()
    return f"{run.tasks[0].errors[-1].exception}: {run.tasks[0].errors[-1].message}"


@case(errors.RunStopped)
def _interrupted() -> object:
    workflow = workflow_of(interrupts)
    with contextlib.suppress(KeyboardInterrupt):
        workflow.start()
    error = workflow.result_task()[0].errors[-1]
    return f"{error.exception}: {error.message}"


# -- providers ---------------------------------------------------------------------------------------------------------


@case(errors.MissingExtra)
def _no_boto3() -> object:
    with mock.patch.object(optional, "find_spec", return_value=None):  # it is installed here
        return StorageS3("bucket")


class Unplugged(Storage):
    """A user's storage whose disk is gone."""

    def post(self, key: str, context: Context) -> None:
        raise OSError(28, "No space left on device")

    def get(self, key: str) -> Context:
        return Context()

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}/{task.task_id}"


@case(errors.StorageError)
def _not_saved() -> object:
    return failed(workflow_of(extract, storage=Unplugged()))


@case(errors.StorageError)
def _a_file_in_the_way() -> object:
    Path("output").write_text("")
    return workflow_of(extract, storage=StorageFile("output")).start()


@case(errors.StorageError)
def _a_database_of_somebody_else() -> object:
    with contextlib.closing(sqlite3.connect("shop.db")) as database:
        database.execute("CREATE TABLE orders (id)")
    return workflow_of(extract, storage=StorageSQLite("shop.db")).start()


@case(errors.StorageError)
def _no_bucket() -> object:
    with contextlib.closing(ServerProcess("s3_server.py")) as server, mock.patch.dict(os.environ):
        set_up_s3(server.url, os.environ.__setitem__)
        return workflow_of(extract, storage=StorageS3("valeus")).start()


@case(errors.StorageError)
def _no_server() -> object:
    with socket.socket() as bound:  # no other program listens there, or can
        bound.bind(("127.0.0.1", 0))
        dsn = f"postgresql://me:secret@127.0.0.1:{bound.getsockname()[1]}/pipelines"
        return workflow_of(extract, storage=StoragePostgres(dsn)).start()


@case(errors.LeaseLost)
def _a_lease_that_somebody_deleted() -> object:
    with contextlib.closing(ServerProcess("s3_server.py")) as server, mock.patch.dict(os.environ):
        bucket = set_up_s3(server.url, os.environ.__setitem__)

        @action
        def deletes_all() -> None:
            service = boto3.client("s3")
            for entry in service.list_objects_v2(Bucket=bucket)["Contents"]:
                service.delete_object(Bucket=bucket, Key=entry["Key"])
            time.sleep(1.2)  # longer than the lease, which can't be renewed

        workflow = DotFlow(Config(storage=StorageS3(bucket, lease=1), log=QUIET), workflow_id="nightly")
        workflow.task.add(deletes_all)
        return failed(workflow)


@case(errors.NotifyError)
def _nobody_there() -> object:
    task = next(iter(workflow_of(extract).task))
    with socket.socket() as bound:  # no other program listens there, or can
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        return NotifyTelegram("123456:ABC-DEF", 1, base_url=address).send(task)


# -- the run as a whole ------------------------------------------------------------------------------------------------


@case(errors.NotRun)
def _no_run_yet() -> object:
    return DotFlow().last


@case(errors.OrderRefused)
def _cancelled_twice() -> object:
    workflow = served(workflow_id="nightly")
    run = workflow.submit()
    Control(workflow).cancel(run)
    return Control(workflow).cancel(run)


@case(errors.OrderRefused)
def _completed() -> object:
    workflow = served(workflow_id="nightly")
    workflow.submit()
    (run,) = serve(workflow, once=True)
    return Control(workflow).resume(run.run_id)


@case(errors.OrderRefused)
def _a_key_with_other_parameters() -> object:
    workflow = served(workflow_id="nightly", params={"day": ...})
    workflow.submit(params={"day": 1}, key="click-17")
    return workflow.submit(params={"day": 2}, key="click-17")


@case(errors.AlreadyScheduled)
def _twice() -> object:
    scheduler = SchedulerCron("@daily")
    messages: list[str] = []

    @action
    def schedules_again() -> None:
        messages.append(message_of(workflow.schedule))
        scheduler.stop()

    with virtual_clock():
        workflow = workflow_of(schedules_again, scheduler=scheduler)
        workflow.schedule()
    return messages[0]


@case(errors.ProcessesUnsupported)
def _windows() -> object:
    with mock.patch("os.name", "nt"), mock.patch("sys.platform", "win32"):  # the tests run on POSIX
        return ExecutorProcess().open({}, print)


@action
def breaks() -> None:
    raise ValueError("no rows")


@case(errors.RunFailed)
def _a_failed_run() -> object:
    workflow = workflow_of(breaks)
    workflow.workflow_id = "nightly"
    return workflow.start().raise_for_failure()


@case(errors.RunFailed)
def _a_cancelled_run() -> object:
    raise errors.RunFailed("nightly", "5", [], 5)


@case(errors.RunFailed)
def _a_paused_run() -> object:
    @action
    def pauses() -> None:
        workflow.last.pause()

    workflow = workflow_of(pauses, breaks)
    workflow.workflow_id = "nightly"
    return workflow.start().raise_for_failure()


@case(errors.RunTimeout)
def _a_run_that_takes_too_long() -> object:
    with virtual_clock() as clock:

        @action(retry=2, retry_delay="5h")
        def breaks_for_hours() -> None:
            raise ValueError("no rows")

        workflow = workflow_of(breaks_for_hours)
        workflow.workflow_id = "nightly"
        run = workflow.start(timeout="4h")
        assert clock.monotonic() == 4 * 3600
        return run.raise_for_failure()


@case(errors.StepFailed)
def _the_cause() -> object:
    try:
        workflow_of(breaks).start().raise_for_failure()
    except errors.RunFailed as error:
        return f"StepFailed: {error.__cause__}"


@case(errors.VirtualClockMisuse)
def _in_a_worker() -> object:
    with virtual_clock() as clock:

        @action
        def sleeps_in_vain() -> None:
            clock.sleep(1)

        return failed(workflow_of(sleeps_in_vain), "parallel")


@case(errors.VirtualClockMisuse)
def _two_clocks() -> object:
    with virtual_clock(), virtual_clock():
        return None


@action
def first() -> int:
    return 1


class Basket:
    """Of a class that is no dataclass."""


@action
def makes_a_basket() -> Basket:
    return Basket()


@action
def second() -> int:
    return 2


def nightly(*steps: Any, pickle: bool = False) -> DotFlow:
    """A workflow with a name and a file for each value."""
    workflow = DotFlow(Config(storage=StorageFile("output", pickle=pickle), log=QUIET), workflow_id="nightly")
    workflow.task.add(list(steps))
    return workflow


@case(errors.CheckpointMismatch)
def _reordered() -> object:
    nightly(first, second).start()
    return nightly(second, first).start(resume=True)


@case(errors.CheckpointUnreadable)
def _damaged() -> object:
    nightly(first).start()
    saved = next(path for path in Path("output").rglob("*0.json"))
    saved.write_bytes(saved.read_bytes()[:-20])
    return nightly(first).start(resume=True)


@case(errors.CheckpointUnreadable)
def _a_pickle() -> object:
    nightly(makes_a_basket, pickle=True).start()
    return nightly(makes_a_basket).start(resume=True)


@case(errors.CheckpointUnreadable)
def _damaged_journal() -> object:
    @action
    def report() -> Path:
        Path("report.csv").write_text("12")
        return Path("report.csv")

    nightly(report).start()
    saved = next(Path("output").rglob("origin~*"))
    saved.write_bytes(saved.read_bytes()[:-20])
    return nightly(report).start(resume=True)


@case(errors.ValidityUnknown)
def _validity() -> object:
    def table_is_there(value: str) -> bool:
        raise ConnectionError("the warehouse is down")

    @action(valid=table_is_there)
    def load() -> str:
        return "orders"

    nightly(load).start()
    return nightly(load).start(resume=True)


@case(errors.WorkflowBusy)
def _busy() -> object:
    @action
    def holds() -> str:
        return in_another(
            """
            from tests.errors_table import nightly, first
            nightly(first).start()
            """
        )

    workflow = nightly(holds)
    workflow.start()
    return workflow.result_storage()[0]


def main(only: str = "") -> None:
    """Prints the messages of all errors, or of one."""
    for name, provokes in CASES.items():
        for provoke in provokes if only in ("", name) else []:
            print(f"{provoke.__name__.strip('_').replace('_', ' ')}\n    {message_of(provoke)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
