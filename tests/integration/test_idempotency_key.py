"""The idempotency key: a text that a step gets for its effects, the same until it has finished."""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, Secret, action
from dotflow.abc.storage import Storage
from dotflow.control import Control
from dotflow.errors import InvalidArgument, InvalidLink, NotInHistory
from dotflow.providers import (
    ExecutorAsync,
    HistorySQLite,
    StorageDefault,
    StorageFile,
    StorageGCS,
    StoragePostgres,
    StorageS3,
)
from dotflow.resume.journal import Journal
from dotflow.serving import serve
from tests.integration.modes import COMPLETED, FAILED, MODES, group, start
from tests.storages import STORAGES, StorageThree

MakeWorkflow = Callable[..., DotFlow]


class Shop:
    """The other side of the effects: the keys that came, in a file that all processes share."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys"
        self.fails = folder / "fails"

    def take(self, key: str) -> str:
        with self.path.open("a") as file:
            file.write(f"{key}\n")
        if self.fails.exists():
            raise ConnectionError("after the effect")
        return key

    @property
    def keys(self) -> list[str]:
        return self.path.read_text().split() if self.path.exists() else []


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def in_s3(request: pytest.FixtureRequest, prefix: str) -> Storage:
    return StorageS3(request.getfixturevalue("s3"), prefix=prefix)


def in_gcs(request: pytest.FixtureRequest, prefix: str) -> Storage:
    return StorageGCS(request.getfixturevalue("gcs"), prefix=prefix)


def in_postgres(request: pytest.FixtureRequest, prefix: str) -> Storage:
    return StoragePostgres(request.getfixturevalue("postgres"))


SERVICES = {"s3": in_s3, "gcs": in_gcs, "postgres": in_postgres}


@pytest.fixture(params=[*STORAGES, "three", pytest.param("s3", marks=pytest.mark.exhaustive), "gcs", "postgres"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Each of ours, and of the least kind."""
    if request.param in SERVICES:
        return SERVICES[request.param](request, tmp_path.as_posix().strip("/"))
    return StorageThree() if request.param == "three" else STORAGES[request.param](tmp_path)


@action
def orders() -> int:
    return 17


@action
def done() -> None: ...


def charge_at(shop: Shop, **options: Any) -> Any:
    @action(**options)
    def charge(idempotency_key: str) -> str:
        return shop.take(idempotency_key)

    return charge


class TestHowLongItStays:
    @pytest.mark.parametrize("mode", MODES)
    def test_it_stays_over_attempts_and_runs_until_the_step_has_finished(
        self, make_workflow: MakeWorkflow, shop: Shop, tmp_path: Path, mode: str
    ) -> None:
        """A retry and a resume of what failed after its effect have the same key; a new run has another one."""

        def workflow() -> DotFlow:
            made = make_workflow(storage=StorageFile(tmp_path / "out"), workflow_id="w")
            made.task.add(orders, group_name=group(mode, 0))
            made.task.add(charge_at(shop, retry=2, retry_delay=0), group_name=group(mode, 1))
            return made

        shop.fails.touch()
        assert start(workflow(), mode).task("charge").status is FAILED
        shop.fails.unlink()
        assert start(workflow(), mode, resume=True).task("charge").value == shop.keys[0]
        assert len(shop.keys) == 3
        assert len(set(shop.keys)) == 1

        start(workflow(), mode, resume=True)
        assert len(shop.keys) == 3
        start(workflow(), mode)
        assert len(set(shop.keys)) == 2

    def test_it_stays_in_every_storage(self, make_workflow: MakeWorkflow, shop: Shop, storage: Storage) -> None:
        """One with three methods, whose keys ignore names, keeps it, too, and a bucket with its generations."""

        def run(**options: Any) -> Any:
            workflow = make_workflow(storage=storage, workflow_id="w")
            workflow.task.add(orders)
            workflow.task.add(charge_at(shop), name="charge")
            return workflow.start(**options)

        shop.fails.touch()
        run()
        shop.fails.unlink()
        assert run(resume=True).status is COMPLETED
        assert run(resume=True).task("charge").restored_from == "checkpoint"
        assert len(shop.keys) == 2
        assert len(set(shop.keys)) == 1
        run(rerun="charge")
        assert len(set(shop.keys)) == 2
        run()
        assert len(set(shop.keys)) == 3

    def test_a_kill_between_the_effect_and_the_value(self, shop: Shop, tmp_path: Path) -> None:
        """`kill -9` right after the effect: the next process has the same key."""
        program = tmp_path / "program.py"
        program.write_text(
            f"""
import os, signal, sys
from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

@action
def charge(idempotency_key):
    with open({str(shop.path)!r}, "a") as file:
        file.write(idempotency_key + chr(10))
    if sys.argv[1] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)

workflow = DotFlow(Config(storage=StorageFile({str(tmp_path / "out")!r})), workflow_id="w")
workflow.task.add(charge)
workflow.start(resume=True)
"""
        )
        codes = [subprocess.run([sys.executable, program, how]).returncode for how in ("dies", "dies", "lives")]

        assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
        assert len(shop.keys) == 3
        assert len(set(shop.keys)) == 1

    def test_a_workflow_without_an_id_keeps_it_in_its_process(self, make_workflow: MakeWorkflow, shop: Shop) -> None:
        """The same object resumes with the same key; another one has another."""
        storage = StorageDefault()
        for _ in range(2):
            workflow = make_workflow(storage=storage)
            workflow.task.add(charge_at(shop))
            shop.fails.touch()
            workflow.start()
            shop.fails.unlink()
            workflow.start(resume=True)

        assert shop.keys[0] == shop.keys[1] != shop.keys[2] == shop.keys[3]

    def test_a_submitted_run_and_those_that_continue_it_have_one(self, shop: Shop, tmp_path: Path) -> None:
        """The chain has the key; the next submission has another."""
        history, storage = HistorySQLite(tmp_path / "history.db"), StorageFile(tmp_path / "out")
        workflow = DotFlow(Config(history=history, storage=storage, executor=ExecutorAsync()), workflow_id="w")
        workflow.task.add(charge_at(shop))

        shop.fails.touch()
        run = workflow.submit()
        serve(workflow, once=True)
        shop.fails.unlink()
        Control(workflow).resume(run)
        serve(workflow, once=True)
        assert workflow.value(run, "charge") == shop.keys[0] == shop.keys[1]

        workflow.submit()
        serve(workflow, once=True)
        assert len(set(shop.keys)) == 2


class TestOtherArguments:
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return StorageFile(tmp_path / "out")

    @pytest.mark.parametrize("has_finished", [True, False])
    def test_other_arguments_have_another_key(
        self, make_workflow: MakeWorkflow, shop: Shop, storage: Storage, has_finished: bool
    ) -> None:
        """A source that is made anew changes it, even if the step was cut off after its effect."""
        amounts = iter((5, 6))

        @action
        def amount() -> int:
            return next(amounts)

        @action
        def charge(amount: int, idempotency_key: str) -> int:
            shop.take(idempotency_key)
            return amount

        workflow = make_workflow(storage=storage, workflow_id="w")
        workflow.task.add(amount).add(charge)
        if not has_finished:
            shop.fails.touch()
        workflow.start()
        shop.fails.unlink(missing_ok=True)
        run = workflow.start(rerun="amount")

        assert run.task("charge").value == 6
        assert len(shop.keys) == len(set(shop.keys)) == 2

    def test_another_part_of_a_value_has_another_key(
        self, make_workflow: MakeWorkflow, shop: Shop, storage: Storage
    ) -> None:
        """It is another argument, though it is made by the same run."""

        @action
        def mails() -> dict[str, str]:
            return {"ann": "to Ann", "bob": "to Bob"}

        @action
        def send(mail: str, idempotency_key: str) -> str:
            return shop.take(idempotency_key)

        shop.fails.touch()
        for part in ("ann", "ann", "bob"):
            workflow = make_workflow(storage=storage, workflow_id="w")
            workflow.task.add(mails, outputs=["ann", "bob"]).add(send, needs={"mail": part})
            workflow.start(resume=True)

        assert shop.keys[0] == shop.keys[1] != shop.keys[2]

    def test_another_initial_context_has_another_key(
        self, make_workflow: MakeWorkflow, shop: Shop, storage: Storage
    ) -> None:
        """It is an argument, too."""

        @action
        def charge(initial_context: Context, idempotency_key: str) -> str:
            return shop.take(idempotency_key)

        shop.fails.touch()
        for amount in (1, 1, 2):
            workflow = make_workflow(storage=storage, workflow_id="w")
            workflow.task.add(charge, initial_context=amount)
            workflow.start(resume=True)

        assert shop.keys[0] == shop.keys[1] != shop.keys[2]

    def test_an_optional_value_that_comes_later_changes_it(
        self, make_workflow: MakeWorkflow, shop: Shop, storage: Storage
    ) -> None:
        """The step took its default, since its source had failed: with the value it is another effect."""
        fails = [True]

        @action
        def discount() -> int:
            if fails.pop():
                raise ValueError
            return 5

        @action
        def charge(idempotency_key: str, discount: int = 0) -> int:
            shop.take(idempotency_key)
            return discount

        workflow = make_workflow(storage=storage, workflow_id="w")
        workflow.task.add(discount).add(charge)
        shop.fails.touch()
        workflow.start(keep_going=True)
        fails.append(False)
        workflow.start(keep_going=True, resume=True)

        assert len(shop.keys) == len(set(shop.keys)) == 2

    def test_changed_code_of_a_step_that_failed_keeps_it(
        self, make_workflow: MakeWorkflow, shop: Shop, storage: Storage
    ) -> None:
        """A mended step goes on with the effect that it may have had; one that had finished has another."""

        def run(version: str) -> None:
            workflow = make_workflow(storage=storage, workflow_id="w")
            workflow.task.add(charge_at(shop, version=version))
            workflow.start(resume="changed")

        shop.fails.touch()
        run("1")
        shop.fails.unlink()
        run("2")
        run("3")

        assert shop.keys[0] == shop.keys[1] != shop.keys[2]

    def test_a_storage_of_values_only_keeps_it(self, make_workflow: MakeWorkflow, shop: Shop) -> None:
        """It does not show what a value was made from, so the key does not depend on that."""

        class StorageValues(StorageThree):
            def get(self, key: str) -> Context:
                return Context(self.kept.get(key, Context()).storage)

        storage = StorageValues()

        @action
        def charge(orders: int, idempotency_key: str) -> str:
            return shop.take(idempotency_key)

        workflow = make_workflow(storage=storage, workflow_id="w")
        workflow.task.add(orders).add(charge)
        shop.fails.touch()
        workflow.start()
        workflow.start(resume=True)

        assert len(shop.keys) == 2
        assert len(set(shop.keys)) == 1


class TestWhoGetsOne:
    @pytest.mark.parametrize("mode", MODES)
    def test_each_item_has_its_own(self, make_workflow: MakeWorkflow, shop: Shop, tmp_path: Path, mode: str) -> None:
        """Equal ones too; it belongs to the item, wherever that stands in the list."""

        @action
        def charge(order: int, idempotency_key: str) -> tuple[int, str]:
            return order, shop.take(idempotency_key)

        def run(orders: list[int], **options: Any) -> dict[int, str]:
            workflow = make_workflow(storage=StorageFile(tmp_path / "out"), workflow_id="w")
            workflow.task.add(charge, each=orders, keep_going=True, group_name=group(mode, 0))
            workflow.task.add(done, group_name=group(mode, 1))
            made = start(workflow, mode, **options)
            return dict(made.task("charge").value or ())

        shop.fails.touch()
        run([1, 2, 2])
        assert len(set(shop.keys)) == 3
        shop.fails.unlink()
        values = run([3, 2, 1], resume=True)
        assert len(set(shop.keys)) == 4
        assert {values[1], values[2]} < set(shop.keys[:3])
        assert values[3] not in shop.keys[:3]

    def test_each_action_of_a_class_and_the_fallback_have_their_own(
        self, make_workflow: MakeWorkflow, shop: Shop
    ) -> None:
        """Each has an effect of its own; a coroutine function gets it, too."""

        @action
        class Order:
            def __init__(self, idempotency_key: str) -> None:
                self.key = idempotency_key

            @action
            def hold(self, idempotency_key: str) -> list[str]:
                return [self.key, idempotency_key]

            @action
            async def charge(self, hold: list[str], idempotency_key: str) -> list[str]:
                return [*hold, idempotency_key]

        @action
        def by_card(idempotency_key: str) -> None:
            raise ConnectionError(shop.take(idempotency_key))

        @action
        async def by_invoice(idempotency_key: str) -> str:
            return shop.take(idempotency_key)

        workflow = make_workflow()
        workflow.task.add(Order).add(by_card, fallback=by_invoice)
        run = workflow.start()

        assert run.status is COMPLETED
        keys = [*run.tasks[0].value[1].storage, *shop.keys]
        assert len(keys) == len(set(keys)) == 5

    @pytest.mark.processes
    def test_it_reaches_other_processes(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """A worker process or a cluster makes the attempt, and the class is there with its actions."""

        @action
        class Order:
            @action
            def charge(self, idempotency_key: str) -> str:
                return f"{os.getpid()} {idempotency_key}"

        storage = StorageFile(tmp_path)
        workflow = make_workflow(storage=storage, workflow_id="w")
        workflow.task.add(Order)
        run = workflow.start(mode="parallel")

        pid, key = run.tasks[0].value[0].storage.split()
        assert int(pid) != os.getpid()
        assert len(key) == 36

    def test_a_partial_has_its_own_and_a_default_is_replaced(self, make_workflow: MakeWorkflow) -> None:
        """Whoever passes a key has said what it is."""

        def charge(idempotency_key: str = "") -> str:
            return idempotency_key

        workflow = make_workflow()
        workflow.task.add(action(functools.partial(charge, idempotency_key="mine")))
        workflow.task.add(action(charge))
        first, second = (task.value for task in workflow.start().tasks)

        assert first == "mine"
        assert len(second) == 36
        assert charge("plain call") == "plain call"

    def test_an_instance_that_a_step_returns_is_refused(self, make_workflow: MakeWorkflow) -> None:
        """dotflow does not know its actions before, so it could not keep a key."""

        class Order:
            @action
            def charge(self, idempotency_key: str = "") -> str:
                return idempotency_key

        @action
        def make() -> Order:
            return Order()

        workflow = make_workflow()
        workflow.task.add(make)
        error = workflow.start().tasks[0].error

        assert error is not None
        assert error.exception == "UnknownParameter"
        assert "Make its class the step." in error.message

    def test_the_name_is_reserved(self, make_workflow: MakeWorkflow) -> None:
        """No task and no run parameter has it, and no option fills it."""
        workflow = make_workflow()
        workflow.task.add(orders)
        with pytest.raises(InvalidArgument, match="idempotency_key"):
            workflow.task.add(orders, name="idempotency_key")
        with pytest.raises(InvalidArgument, match="idempotency_key"):
            DotFlow(params={"idempotency_key": 1})
        with pytest.raises(InvalidLink, match="idempotency_key"):
            workflow.task.add(charge_at(None), needs={"idempotency_key": orders})  # type: ignore[arg-type]


class TestWithoutCheckpoints:
    def test_a_step_without_a_checkpoint_keeps_it_until_rerun_names_it(
        self, make_workflow: MakeWorkflow, shop: Shop, tmp_path: Path
    ) -> None:
        """Nothing shows whether it has finished, so a resume does not repeat its effect."""
        workflow = make_workflow(storage=StorageFile(tmp_path / "out"), workflow_id="w")
        workflow.task.add(charge_at(shop, checkpoint=False))
        workflow.start()
        workflow.start(resume=True)
        workflow.start(rerun="charge")
        workflow.start(resume=True)

        assert shop.keys[0] == shop.keys[1] != shop.keys[2] == shop.keys[3]

    def test_a_cached_value_needs_none(self, make_workflow: MakeWorkflow, shop: Shop, tmp_path: Path) -> None:
        """The key is no part of the cache's: a new run has another key, and takes the value from the cache."""
        workflow = make_workflow(storage=StorageFile(tmp_path / "out"), workflow_id="w")
        workflow.task.add(charge_at(shop, cache=True))
        first = workflow.start().tasks[0].value
        task = workflow.start().tasks[0]

        assert task.restored_from == "cache"
        assert task.value == first == shop.keys[0]
        assert len(shop.keys) == 1


class TestWhereItIsWritten:
    def test_no_history_has_it(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """It travels beside the arguments, as secrets do: no copy and no preview shows it."""
        seen = []

        @action
        def charge(orders: int, idempotency_key: str, token: str = Secret("SHOP_TOKEN", default="t0ken-t0ken")) -> None:
            seen.append(idempotency_key)

        history = HistorySQLite(tmp_path / "history.db", values="all")
        workflow = make_workflow(storage=StorageFile(tmp_path / "out"), history=history, workflow_id="w")
        workflow.task.add(orders).add(charge)
        workflow.start()

        assert len(seen) == 1
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and seen[0].encode() in path.read_bytes()]

    def test_a_workflow_that_asks_for_none_writes_nothing(self, make_workflow: MakeWorkflow, storage: Storage) -> None:
        """What is not asked for costs no write; where an origin was there, a new run replaces it."""
        workflow = make_workflow(storage=storage, workflow_id="w")
        workflow.task.add(orders)
        workflow.start()
        workflow.start(resume=True)
        saved = Journal(storage, "w")
        assert not storage.contains("w/@origin")

        saved.put(origin="of another chain")
        run = workflow.start()
        assert saved.read() == run.run_id

    def test_it_is_no_task_for_a_plan(self, make_workflow: MakeWorkflow, shop: Shop, storage: Storage) -> None:
        """`plan` does not list it among the tasks that the workflow no longer has; it may run, and changes nothing."""
        workflow = make_workflow(storage=storage, workflow_id="w")
        workflow.task.add(charge_at(shop)).add(orders, name="gone")
        workflow.start()
        keys = sorted(storage.list_keys())
        workflow = make_workflow(storage=storage, workflow_id="w")
        workflow.task.add(charge_at(shop))

        assert workflow.plan(resume=True).removed == (["gone"] if keys else [])
        assert sorted(storage.list_keys()) == keys
        assert not keys or "w/@origin" in keys

    def test_the_commands_of_the_cache_leave_it_alone(
        self, make_workflow: MakeWorkflow, shop: Shop, tmp_path: Path
    ) -> None:
        """`dotflow cache list` and `clear` know cached values only, and a new run leaves these."""
        storage = StorageFile(tmp_path / "out")
        workflow = make_workflow(storage=storage, workflow_id="w")
        workflow.task.add(charge_at(shop, cache=True))
        workflow.start()
        command = [sys.executable, "-m", "dotflow", "cache"]
        options = ["--storage", "file", "--path", str(tmp_path / "out")]

        listed = subprocess.run([*command, "list", *options], capture_output=True, text=True, check=True).stdout
        assert "1 value" in listed
        assert "journal" not in listed
        subprocess.run([*command, "clear", *options], check=True, capture_output=True)
        assert sorted(storage.list_keys()) == ["w/0", "w/@origin"]


class TestValueOfARun:
    @pytest.fixture
    def workflow(self, tmp_path: Path) -> DotFlow:
        config = Config(
            history=HistorySQLite(tmp_path / "history.db"),
            storage=StorageFile(tmp_path / "out"),
            executor=ExecutorAsync(),
        )

        @action
        def double(item: int) -> int:
            return 2 * item

        @action(checkpoint=False)
        def unsaved() -> int:
            return 1

        workflow = DotFlow(config, workflow_id="w", params={"day": ...})
        workflow.task.add(orders).add(double, each=[1, 2]).add(unsaved)
        return workflow

    def test_it_comes_from_the_storage(self, workflow: DotFlow) -> None:
        """That of a task, and that of a map: the list of its items' values."""
        run = workflow.submit(params={"day": 1})
        with pytest.raises(NotInHistory, match="it has not completed"):
            workflow.value(run, "orders")
        serve(workflow, once=True)

        assert workflow.value(run, "orders") == 17
        assert workflow.value(run, "double") == [2, 4]
        with pytest.raises(NotInHistory, match="checkpoint=False"):
            workflow.value(run, "unsaved")
        workflow.config.storage.clear("w@day=1")
        with pytest.raises(NotInHistory, match="StorageFile does not have it"):
            workflow.value(run, "orders")
        with pytest.raises(NotInHistory):
            workflow.value("no such run", "orders")

    def test_a_part_of_it_has_a_name(self, workflow: DotFlow) -> None:
        """That of a task, and that of a map; a saved value that lacks it is not there."""
        parts = action(lambda item=1: (item, -item))
        workflow.task.add(parts, name="one", outputs=["a", "b"])
        workflow.task.add(parts, name="many", each={"item": [2, 3]}, outputs=["c", "d"])
        run = workflow.submit(params={"day": 1})
        serve(workflow, once=True)

        assert (workflow.value(run, "b"), workflow.value(run, "d")) == (-1, [-2, -3])
        workflow.config.storage.post("w@day=1/one", Context(7, 3, "w@day=1"))
        with pytest.raises(NotInHistory, match="StorageFile does not have it"):
            workflow.value(run, "a")

    def test_a_newer_run_has_replaced_it(self, workflow: DotFlow) -> None:
        """The newer one of the same name; one with other parameters has values of its own."""
        old, other = workflow.submit(params={"day": 1}), workflow.submit(params={"day": 2})
        serve(workflow, once=True)
        workflow.start(params={"day": 1})

        for name in ("orders", "double"):
            with pytest.raises(NotInHistory, match="a newer run has replaced its values"):
                workflow.value(old, name)
        assert workflow.value(other, "orders") == 17
