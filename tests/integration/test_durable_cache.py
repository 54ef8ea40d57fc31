"""The cache in durable steps: a call whose value is there is given it, and what a call returns goes there."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import cloudpickle
import pytest

from dotflow import Config, DotFlow, Run, action, clock
from dotflow.core.types.status import TypeStatus
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageDefault,
    StorageFile,
    StorageSQLite,
)
from dotflow.testing import virtual_clock

EXECUTORS: Final[dict[str, Callable[..., Any]]] = {
    "sequential": ExecutorInline,
    "threads": ExecutorThread,
    "loop": ExecutorAsync,
    "processes": ExecutorProcess,
}
STORAGES: Final[dict[str, Callable[..., Any]]] = {
    "memory": StorageDefault,
    "files": lambda: StorageFile(path="values"),
    "sqlite": lambda: StorageSQLite(path="values.db"),
}
COMPLETED, FAILED = TypeStatus.COMPLETED, TypeStatus.FAILED


@pytest.fixture(autouse=True)
def _by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Lab:
    """Runs workflows over one storage."""

    def __init__(self, executor: str = "sequential", storage: str = "files") -> None:
        self.storage = STORAGES[storage]()
        self.executor = EXECUTORS[executor]()
        self.log = LogDefault(output="file", path="log")

    def start(self, step: Any, *, workflow_id: str = "w", tasks: dict[str, Any] | None = None, **options: Any) -> Run:
        """Runs a step, and forgets what was made and logged before."""
        for name in ("made", "log"):
            Path(name).unlink(missing_ok=True)
        config = Config(
            storage=self.storage, executor=self.executor, log=self.log, history=HistorySQLite(path="history.db")
        )
        workflow = DotFlow(config, workflow_id=workflow_id)
        workflow.task.add(step, **(tasks or {}))
        return workflow.start(**options)


def note(text: object) -> None:
    """Notes that a call was made, in whichever process."""
    with Path("made").open("a") as file:
        file.write(f"{text}\n")


def made() -> list[str]:
    """The calls that the last run has made."""
    file = Path("made")
    return file.read_text().split() if file.exists() else []


def is_set(name: str) -> bool:
    return Path(name).exists()


@action(cache=True)
def lookup(name: str, page: int = 1) -> list[str]:
    note(f"lookup-{name}")
    return [name, str(page)]


@action(cache=True)
async def lookup_async(name: str) -> list[str]:
    note(f"lookup-{name}")
    return [name]


@action
def plain(name: str) -> str:
    note(f"plain-{name}")
    return name


@action(durable=True)
def report() -> list[str]:
    found = lookup("a")
    found.append("changed")  # in no cache and no record
    return [*lookup("b"), *lookup(name="a", page=1), plain("c")]


@action(durable=True)
async def report_async() -> list[str]:
    return [*await lookup_async("a"), *await lookup_async("b")]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_call_that_is_cached_is_not_made(executor: str, storage: str) -> None:
    """In another run, and as the second of two equal ones. Its value is what was returned, whatever the body did."""
    lab = Lab(executor, storage)

    first = lab.start(report)
    assert first.value(report) == ["b", "1", "a", "1", "c"]
    assert made() == ["lookup-a", "lookup-b", "plain-c"]

    second = lab.start(report)
    assert second.value(report) == ["b", "1", "a", "1", "c"]
    assert made() == ["plain-c"]


def test_a_coroutine_takes_cached_values(executor: str) -> None:
    lab = Lab(executor)

    assert lab.start(report_async).value(report_async) == ["a", "b"]
    assert made() == ["lookup-a", "lookup-b"]
    assert lab.start(report_async).value(report_async) == ["a", "b"]
    assert made() == []


def test_history_and_log_say_which_calls_were_cached(executor: str) -> None:
    lab = Lab(executor)
    lab.start(report)
    lab.start(report)

    page = HistorySQLite(path="history.db").calls("last", "report")
    assert [(call.shown, call.state, call.glimpse) for call in page.calls] == [
        ("lookup('a', 1)", "Cached", "['a', '1']"),
        ("lookup('b', 1)", "Cached", "['b', '1']"),
        ("lookup('a', 1)", "Cached", "['a', '1']"),
        ("plain('c')", "Made", "'c'"),
    ]
    assert "report: 1 call made, 3 from the cache\n" in Path("log").read_text()


@action(durable=True)
def fails() -> list[str]:
    found = lookup("a")
    if not is_set("fixed"):
        raise ValueError
    return [*found, *lookup("b")]


def test_a_cached_value_is_kept_as_that_of_the_call(executor: str) -> None:
    """A resume is given it back, though the cache has lost it, and says what was made."""
    lab = Lab(executor)
    lab.start(report)
    assert lab.start(fails).status is FAILED
    assert made() == []

    for file in Path("values").rglob("*"):
        if "cache" in str(file) and file.is_file():
            file.unlink()
    Path("fixed").touch()
    assert lab.start(fails, resume=True).value(fails) == ["a", "1", "b", "1"]
    assert made() == ["lookup-b"]
    assert "fails: 1 call made, 1 given back\n" in Path("log").read_text()


def test_a_step_and_a_call_share_their_values() -> None:
    lab = Lab()
    lab.start(lookup, workflow_id="other", tasks={"params": {"name": "a"}})
    assert made() == ["lookup-a"]

    lab.start(report)
    assert made() == ["lookup-b", "plain-c"]


def test_a_run_that_makes_its_values_anew_replaces_cached_ones() -> None:
    lab = Lab()
    lab.start(report)

    lab.start(report, cache=False)
    assert made() == ["lookup-a", "lookup-b", "lookup-a", "plain-c"]
    lab.start(report, rerun="report")
    assert made() == ["lookup-a", "lookup-b", "lookup-a", "plain-c"]
    lab.start(report)
    assert made() == ["plain-c"]


@action(cache="1h")
def weather() -> str:
    note("weather")
    return "rain"


@action(durable=True)
def forecasts() -> str:
    weather()
    clock.sleep(1800)
    weather()
    clock.sleep(1801)
    return weather()


def test_a_value_that_is_too_old_is_made_again() -> None:
    lab = Lab()
    with virtual_clock():
        lab.start(forecasts)

    assert made() == ["weather", "weather"]


@action(cache=True)
def broken() -> str:
    note("broken")
    raise ConnectionError


@action(durable=True)
def catches() -> str:
    try:
        broken()
    except ConnectionError:
        return plain("caught")
    return ""


def test_a_failure_is_not_cached() -> None:
    lab = Lab()
    lab.start(catches)
    lab.start(catches)
    assert made() == ["broken", "plain-caught"]


@action(cache=True)
def convert(source: Path, target: Path) -> Path:
    note("convert")
    target.write_text(source.read_text().upper())
    return target


@action(durable=True)
def converts() -> str:
    return convert(Path("source"), Path("target")).read_text()


def test_files_of_cached_calls_count(executor: str) -> None:
    """An argument by its content, and a value while its file is as it was made."""
    lab = Lab(executor)
    Path("source").write_text("one")
    assert lab.start(converts).value(converts) == "ONE"
    assert made() == ["convert"]
    assert lab.start(converts).value(converts) == "ONE"
    assert made() == []

    Path("source").write_text("two")
    assert lab.start(converts).value(converts) == "TWO"
    assert made() == ["convert"]

    Path("target").unlink()
    assert lab.start(converts).value(converts) == "TWO"
    assert made() == ["convert"]


@action(cache=True)
def spoils(source: Path) -> str:
    note("spoils")
    source.write_text(f"{source.read_text()}!")
    return source.read_text()


@action(durable=True)
def spoiled() -> str:
    return spoils(Path("source"))


def test_a_call_whose_file_changed_meanwhile_is_not_cached() -> None:
    lab = Lab()
    Path("source").write_text("one")
    assert lab.start(spoiled).value(spoiled) == "one!"
    assert (
        "spoils in task 0 spoiled is not cached: source, which it was given, changed while it ran, and it does not "
        "return it." in Path("log").read_text()
    )
    Path("source").write_text("one")
    assert lab.start(spoiled).value(spoiled) == "one!"
    assert made() == ["spoils"]


@action(cache=True, key=["name"])
def keyed(client: object, name: str) -> str:
    note("keyed")
    return name


@action(durable=True)
def asks_client() -> str:
    return keyed(object(), "a")


def test_what_tells_calls_apart_tells_cached_values_apart() -> None:
    lab = Lab()
    lab.start(asks_client)
    lab.start(asks_client)
    assert made() == []


@action(durable=True)
def cleans_up() -> list[str]:
    return lookup("a")


def test_a_cleanup_makes_its_calls() -> None:
    """It has effects, so it always runs."""
    lab = Lab()
    lab.start(report)
    lab.start(cleans_up, tasks={"always": True})
    assert made() == ["lookup-a"]


@action(cache=True, durable=True)
def inner() -> str:
    return plain("x")


@action(durable=True)
def outer() -> str:
    return inner()


def test_a_durable_call_is_cached() -> None:
    lab = Lab()
    lab.start(outer)
    lab.start(outer)
    assert made() == []


def test_a_cached_call_is_shown_as_that(capsys: pytest.CaptureFixture[str]) -> None:
    from dotflow.cli.main import main

    lab = Lab()
    lab.start(report)
    lab.start(report)

    main(["show", "last", "report", "--history", "history.db"])
    assert "cached" in capsys.readouterr().out
