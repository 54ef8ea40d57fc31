"""What an attempt records of files, and when it reads them."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Context, action
from dotflow.core.attempt_id import AttemptId
from dotflow.core.call import Call, Watch
from dotflow.core.context import NOTHING
from dotflow.core.files import FileRecord, FileWatch
from dotflow.core.outcome import Outcome, Raised, Returned
from dotflow.worker import attempt as module
from dotflow.worker import attempt_async as async_module
from dotflow.worker.attempt import attempt
from dotflow.worker.attempt_async import attempt_async
from dotflow.worker.files import MAKER, Maker, note_written, record
from dotflow.worker.loops import Loops

WATCH = FileWatch(9)


def call_of(step: Any, files: FileWatch | None = WATCH, **more: Any) -> Call:
    return Call(0, 0, step, NOTHING, Context(), "w", files=files, **more)


def make_attempt(call: Call, returned: Callable[[], object] = int) -> Outcome:
    loops = Loops()
    try:
        return attempt(call, loops, returned)
    finally:
        loops.close()


def files_of(outcome: Any) -> FileRecord | None:
    assert isinstance(outcome, Returned)
    return outcome.files


@action
def make() -> Path:
    Path("made").write_text("x")
    return Path("made")


@action
async def make_async() -> Path:
    Path("made").write_text("x")
    return Path("made")


@action(timeout=10)
def make_in_time() -> Path:
    Path("made").write_text("x")
    return Path("made")


@action
class MakeInClass:
    @action
    def make(self) -> Path:
        Path("made").write_text("x")
        return Path("made")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


STEPS = [make, make_async, make_in_time, MakeInClass.__dict__["__dotflow_action__"]]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("watch", [None, Watch(AttemptId("run", 0, 1, None))])
def test_the_file_of_a_value_is_recorded_once(step: Any, watch: Watch | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By functions, coroutines and classes, with and without a history, after which another `attempt` is around it."""
    recorded: list[Any] = []

    def counted(*arguments: Any) -> Any:
        recorded.append(arguments)
        return record(*arguments)

    monkeypatch.setattr(module, "record", counted)

    found = files_of(make_attempt(call_of(step, watch=watch)))

    assert found is not None
    assert [*found.made] == ["made"]
    assert len(recorded) == 1


@pytest.mark.parametrize("step", [make, make_in_time])
def test_a_file_is_read_after_the_step_has_returned(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So no deadline ends a step that has returned, however long that takes."""
    order: list[str] = []

    def reading(*arguments: Any) -> Any:
        order.append("read")
        return record(*arguments)

    monkeypatch.setattr(module, "record", reading)

    make_attempt(call_of(step), lambda: order.append("returned"))

    assert order == ["returned", "read"]


def test_files_of_coroutines_are_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others run meanwhile, and the step's own time is over."""
    order: list[Any] = []

    def reading(*arguments: Any) -> Any:
        order.append(threading.current_thread() is threading.main_thread())
        return record(*arguments)

    monkeypatch.setattr(async_module, "record", reading)

    outcome = asyncio.run(attempt_async(call_of(make_async), Loops(), lambda: order.append("returned")))

    assert order == ["returned", False]
    assert files_of(outcome) is not None


@pytest.mark.parametrize(
    ("step", "files"),
    [(make, None), (action(files=False)(make.function), FileWatch(9, ("made",)))],
)
def test_nothing_is_recorded_where_files_are_left_out(step: Any, files: FileWatch | None) -> None:
    """For the workflow, or for the step."""
    assert files_of(make_attempt(call_of(step, files))) is None


def change() -> None:
    Path("given").write_text("changed")


@pytest.mark.parametrize("function", [change, lambda: 1])
def test_a_given_file_is_compared_before_and_after(function: Callable[[], Any]) -> None:
    """Only where the attempt has changed it, its record says so."""
    Path("given").write_text("x")
    step = action(function)

    found = files_of(make_attempt(call_of(step, FileWatch(9, ("given",)))))

    assert (found is not None) is (function is change)


def test_what_atomic_path_has_written_is_made() -> None:
    """Returned or not; what an attempt has written that then failed is not part of the next one."""
    has_failed = False

    def write() -> int:
        nonlocal has_failed
        Path("written").write_text("x")
        note_written(Path("written"))
        if not has_failed:
            has_failed = True
            raise ValueError
        return 1

    before = MAKER.set(Maker())
    assert isinstance(make_attempt(call_of(action(write))), Raised)
    assert files_of(make_attempt(call_of(action(lambda: 1)))) is None
    found = files_of(make_attempt(call_of(action(write))))
    MAKER.reset(before)

    assert found is not None
    assert [*found.made] == ["written"]
