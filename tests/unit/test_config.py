"""Config: the providers of a workflow."""

from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, Task
from dotflow.abc.executor import Executor
from dotflow.abc.history import History
from dotflow.abc.log import Log
from dotflow.abc.notify import Notify
from dotflow.abc.scheduler import Scheduler
from dotflow.abc.storage import Storage
from dotflow.abc.tracer import Tracer
from dotflow.core.events import Event
from dotflow.errors import InvalidArgument, InvalidProvider
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    NotifyDefault,
    SchedulerDefault,
    StorageDefault,
)
from tests.names import plain

KINDS = {
    "storage": Storage,
    "notify": Notify,
    "log": Log,
    "scheduler": Scheduler,
    "executor": Executor,
    "history": History,
    "tracer": Tracer,
}


class MyStorage(Storage):
    """With only the abstract methods."""

    def post(self, key: str, context: Context) -> None: ...

    def get(self, key: str) -> Context:
        return Context()

    def key(self, task: Task) -> str:
        return "key"


class MyNotify(Notify):
    def send(self, task: Task) -> None: ...


class MyLog(Log):
    def info(self, task: Task) -> None: ...

    def error(self, task: Task) -> None: ...


class MyScheduler(Scheduler):
    def start(self, workflow: DotFlow, **kwargs: Any) -> None: ...

    def stop(self) -> None: ...


class MyHistory(History):
    def record(self, run_id: str, event: Event) -> None: ...


class MyTracer(Tracer):
    def trace(self, run_id: str, event: Event) -> None: ...


MINE: dict[str, type] = {
    "storage": MyStorage,
    "notify": MyNotify,
    "log": MyLog,
    "scheduler": MyScheduler,
    "executor": ExecutorInline,
    "history": MyHistory,
    "tracer": MyTracer,
}


def test_everything_is_optional() -> None:
    """Without arguments there is memory, a log, no notifications, no schedule, and each mode's own executor."""
    config = Config()

    assert type(config.storage) is StorageDefault
    assert type(config.notify) is NotifyDefault
    assert type(config.log) is LogDefault
    assert type(config.scheduler) is SchedulerDefault
    assert (config.executor, config.history, config.tracer, config.notify_grace) == (None, None, None, 5.0)


def test_two_configs_share_no_storage() -> None:
    """Each has a memory of its own."""
    assert Config().storage is not Config().storage


@pytest.mark.parametrize("kind", KINDS)
def test_takes_implementations_of_the_contracts(kind: str) -> None:
    """A user's class with only the abstract methods is a provider."""
    provider = MINE[kind]()

    assert getattr(Config(**{kind: provider}), kind) is provider


@pytest.mark.parametrize("kind", KINDS)
def test_takes_one_that_looks_empty(kind: str) -> None:
    """A provider with a length of 0, or that is false, is kept."""
    provider = type("Empty", (MINE[kind],), {"__len__": lambda self: 0})()

    assert getattr(Config(**{kind: provider}), kind) is provider


@pytest.mark.parametrize("wrong", ["file", 5, object(), {}, print, False, []], ids=plain)
@pytest.mark.parametrize("kind", KINDS)
def test_refuses_the_wrong_kind(kind: str, wrong: object) -> None:
    """The message has the argument, its type, the contract and its module."""
    with pytest.raises(InvalidProvider) as caught:
        Config(**{kind: wrong})

    message = str(caught.value)
    assert f"Config({kind}=...)" in message
    assert type(wrong).__name__ in message
    assert f"dotflow.abc.{kind}.{KINDS[kind].__name__}" in message


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_the_class_itself(kind: str) -> None:
    """Forgotten parentheses get their own hint."""
    with pytest.raises(InvalidProvider, match=rf"Write {MINE[kind].__name__}\(\.\.\.\)"):
        Config(**{kind: MINE[kind]})


def test_refuses_a_provider_in_the_wrong_place() -> None:
    """A notification is no log."""
    with pytest.raises(InvalidProvider, match=r"Config\(log=\.\.\.\)"):
        Config(log=MyNotify())


def test_shows_no_secret() -> None:
    """A wrong value may be a token: the message has its type, never itself."""
    with pytest.raises(InvalidProvider) as caught:
        Config(notify="123456:telegram-token")

    assert "telegram-token" not in str(caught.value)
    assert "telegram-token" not in repr(caught.value)


@pytest.mark.parametrize(
    "seconds", [-1, float("nan"), float("inf"), True, "5", None, 10**400], ids=lambda s: str(s)[:5]
)
def test_refuses_a_grace_that_is_no_number_of_seconds(seconds: Any) -> None:
    """notify_grace is a number of seconds from 0 that can be waited for."""
    with pytest.raises(InvalidArgument, match="notify_grace"):
        Config(notify_grace=seconds)


@pytest.mark.parametrize("seconds", [0, 0.5, 30])
def test_takes_a_grace(seconds: float) -> None:
    """Fractions and 0 are fine."""
    assert Config(notify_grace=seconds).notify_grace == seconds


@pytest.mark.parametrize("kind", KINDS)
def test_a_contract_that_is_not_fulfilled_is_a_type_error(kind: str) -> None:
    """A subclass without a method can't be instantiated; Python names the method."""
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (KINDS[kind],), {})()


@pytest.mark.parametrize("executor", [ExecutorThread, ExecutorProcess, ExecutorAsync])
@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "4"], ids=plain)
def test_executors_refuse_a_number_of_workers_that_means_nothing(executor: Any, workers: object) -> None:
    """max_workers is a whole number from 1."""
    with pytest.raises(InvalidArgument, match="max_workers"):
        executor(max_workers=workers)


@pytest.mark.parametrize("method", ["thread", "spawn", "", 5, []], ids=plain)
def test_the_process_executor_refuses_an_unknown_start_method(method: Any) -> None:
    """The message names the two that there are."""
    with pytest.raises(InvalidArgument, match="one of fork, forkserver"):
        ExecutorProcess(start_method=method)


@pytest.mark.parametrize(
    ("argument", "wrong", "allowed"),
    [
        ("level", "LOUD", "DEBUG, INFO, WARNING, ERROR"),
        ("level", 20, "DEBUG, INFO, WARNING, ERROR"),
        ("output", "screen", "both, console, file, none"),
        ("output", [], "both, console, file, none"),
        ("output", None, "both, console, file, none"),
        ("format", "xml", "simple, json"),
        ("format", {}, "simple, json"),
    ],
)
def test_the_log_refuses_unknown_words(argument: str, wrong: object, allowed: str) -> None:
    """The message names the accepted words."""
    with pytest.raises(InvalidArgument) as caught:
        LogDefault(**{argument: wrong})

    assert argument in str(caught.value)
    assert allowed in str(caught.value)


def test_a_variable_turns_the_history_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """DOTFLOW_HISTORY is the path of a history for each Config without one; all of them share it."""
    monkeypatch.setenv("DOTFLOW_HISTORY", str(tmp_path / "h.db"))
    own = MyHistory()

    first, second = Config().history, Config().history

    assert isinstance(first, HistorySQLite)
    assert first.path == tmp_path / "h.db"
    assert first is second
    assert Config(history=own).history is own


def test_a_variable_turns_the_history_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """With DOTFLOW_HISTORY=0 there is none, whatever the Config has."""
    monkeypatch.setenv("DOTFLOW_HISTORY", "0")

    assert Config(history=MyHistory()).history is None


@pytest.mark.parametrize("options", [{"files": 1}, {"files": None}, {"digest_limit": "much"}, {"digest_limit": -1}])
def test_files_are_left_out_or_limited(options: Any) -> None:
    """files is True or False, and digest_limit a size."""
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        Config(**options)


def test_a_limit_is_a_size_in_bytes() -> None:
    """256 MB unless given."""
    assert [Config().digest_limit, Config(digest_limit="1 kB").digest_limit] == [256_000_000, 1000]
