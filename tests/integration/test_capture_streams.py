"""Output of attempts in the program's own process: sys.stdout, sys.stderr and logging, while a run goes on."""

import asyncio
import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from dotflow import Config, DotFlow, action
from dotflow.core.events import AttemptOutput, TaskCompleted
from dotflow.core.types.capture import TypeCapture
from dotflow.providers import ExecutorAsync, ExecutorThread, LogDefault
from tests.captured import WAYS, RecordingHistory

EXECUTORS = [None, ExecutorThread(), ExecutorAsync()]
IDS = ["inline", "threads", "async"]

#: The ways that need no descriptor.
PRINTED = {name: way for name, way in WAYS.items() if not way.by_descriptor}


def workflow(history: RecordingHistory | None, *steps: Any, executor: Any = None) -> DotFlow:
    made = DotFlow(config=Config(history=history, log=LogDefault(output="none"), executor=executor))
    for step in steps:
        made.task.add(step)
    return made


@pytest.fixture
def history() -> RecordingHistory:
    return RecordingHistory()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Both streams are the same objects before and after."""
    before = sys.stdout, sys.stderr
    yield
    assert (sys.stdout, sys.stderr) == before
    assert all(type(stream).__name__ != "StreamProxy" for stream in before)


@pytest.fixture
def logger(capfd: Any) -> Iterator[logging.Logger]:
    found = logging.getLogger("tests.captured")
    found.propagate = False
    handler = logging.StreamHandler()
    found.addHandler(handler)
    yield found
    found.propagate = True
    found.removeHandler(handler)
    assert type(handler.stream).__name__ != "StreamProxy"


@pytest.mark.parametrize("executor", EXECUTORS, ids=IDS)
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_the_output_of_a_step_is_its_own(
    executor: Any, mode: str, history: RecordingHistory, logger: logging.Logger, capfd: Any
) -> None:
    """However Python prints it, also at once with others; it is shown as before."""
    logger.handlers[0].stream = sys.stderr  # type: ignore[attr-defined]
    executor = executor or (ExecutorThread() if mode == "parallel" else None)
    steps = [way.step for name, way in PRINTED.items() if mode == "sequential" or name != "thread"]
    workflow(history, *steps, executor=executor).start(mode=mode)

    for task_id, (name, way) in enumerate(
        item for item in PRINTED.items() if mode == "sequential" or item[0] != "thread"
    ):
        assert history.output(task_id, 1) == way.stdout, name
        assert way.stderr in history.output(task_id, 2), name
    if mode == "sequential":
        shown = os.read(capfd_file(capfd), 10_000)
        assert shown == b"".join(way.stdout for way in PRINTED.values())


def capfd_file(capfd: Any) -> int:
    """Returns the file that pytest's sys.stdout writes to: readouterr() would fail at bytes that are no text."""
    sys.stdout.flush()
    descriptor = sys.stdout.fileno()
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@pytest.mark.parametrize("executor", EXECUTORS, ids=IDS)
def test_coroutines_side_by_side_have_their_own(executor: Any, history: RecordingHistory, capfd: Any) -> None:
    """Also where they await each other's turn, and their CPU time is their own."""

    def make(number: int) -> Any:
        @action
        async def step() -> None:
            for line in range(5):
                print(f"step {number} line {line}")
                await asyncio.sleep(0)
            sum(range(1_000_000 if number == 0 else 1))

        return step

    steps = [make(number) for number in range(4)]
    workflow(history, *steps, executor=executor).start(mode="sequential" if executor is None else "parallel")

    for number in range(4):
        assert history.output(number) == b"".join(b"step %d line %d\n" % (number, line) for line in range(5))
    usages = {event.task_id: event.usage for event in history.of(TaskCompleted)}
    assert all(usage.cpu < usages[0].cpu for number, usage in usages.items() if number)


def test_a_thread_of_a_step_prints_for_the_only_attempt_else_for_the_run(history: RecordingHistory, capfd: Any) -> None:
    """With several attempts at once, nothing tells whose thread it is."""
    both = threading.Barrier(2)

    def make(number: int) -> Any:
        @action
        def step() -> None:
            both.wait()
            # print writes the end of a line by itself: the other thread may come between.
            line = (f"thread {number}\n",)
            thread = threading.Thread(target=print, args=line, kwargs={"end": ""})
            thread.start()
            thread.join()
            both.wait()

        return step

    workflow(history, make(1), make(2), executor=ExecutorThread()).start(mode="parallel")
    assert history.output(0) + history.output(1) == b""
    assert sorted(history.output(-1).splitlines()) == [b"thread 1", b"thread 2"]


def test_the_main_thread_prints_for_itself(history: RecordingHistory, capfd: Any) -> None:
    """While a run goes on in the background."""
    begun, go = threading.Event(), threading.Event()

    @action
    def step() -> None:
        begun.set()
        go.wait()
        print("the step")

    run = workflow(history, step).start(mode="background")
    begun.wait()
    print("the program")
    go.set()
    run.wait()
    assert [event.data for event in history.of(AttemptOutput)] == [b"the step\n"]
    assert capfd.readouterr().out == "the program\nthe step\n"


@pytest.mark.parametrize("inner_executor", [None, ExecutorThread()], ids=["inline", "threads"])
def test_the_attempts_of_a_run_in_a_step_have_their_own(
    inner_executor: Any, history: RecordingHistory, capfd: Any
) -> None:
    """The step around them has what it prints itself."""
    inner_history = RecordingHistory()

    @action
    def inner() -> None:
        print("inner")
        thread = threading.Thread(target=print, args=("thread of the inner",))
        thread.start()
        thread.join()

    @action
    def outer() -> None:
        print("before")
        workflow(inner_history, inner, executor=inner_executor).start()
        print("after")

    workflow(history, outer).start()
    assert history.output(0) == b"before\nafter\n"
    assert inner_history.output(0) == b"inner\nthread of the inner\n"
    assert capfd.readouterr().out == "before\ninner\nthread of the inner\nafter\n"


def test_a_run_without_history_in_a_step_prints_for_the_step(history: RecordingHistory, capfd: Any) -> None:
    """Its lines are kept nowhere else."""

    @action
    def inner() -> None:
        print("inner")

    @action
    def outer() -> None:
        workflow(None, inner).start()

    workflow(history, outer).start()
    assert history.output(0) == b"inner\n"


def test_two_runs_at_once_in_two_threads(capfd: Any) -> None:
    """Each has its own; the first that ends leaves the other's capture alone."""
    histories = [RecordingHistory(), RecordingHistory()]
    first_ended, both = threading.Event(), threading.Barrier(2)

    def make(number: int) -> Any:
        @action
        def step() -> None:
            both.wait()
            print(f"run {number}")
            if number == 1:
                first_ended.wait()
                print("alone")

        return step

    def run(number: int) -> None:
        workflow(histories[number], make(number)).start()
        if number == 0:
            first_ended.set()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [history.output(0) for history in histories] == [b"run 0\n", b"run 1\nalone\n"]


def test_a_redirection_within_a_step_is_left_alone(history: RecordingHistory, capfd: Any) -> None:
    """What the step has led elsewhere is not its output."""
    texts: list[str] = []

    @action
    def step() -> None:
        print("shown")
        with contextlib.redirect_stdout(io.StringIO()) as text:
            print("led elsewhere")
        texts.append(text.getvalue())
        print("shown again")

    workflow(history, step).start()
    assert texts == ["led elsewhere\n"]
    assert history.output(0) == b"shown\nshown again\n"


def test_a_stream_that_a_step_replaces_stays(history: RecordingHistory, capfd: Any) -> None:
    """It is the program's wish; the proxy around the old one goes."""
    own, before = io.StringIO(), sys.stdout

    @action
    def step() -> None:
        sys.stdout = own

    try:
        workflow(history, step).start()
        assert sys.stdout is own
    finally:
        sys.stdout = before


def test_a_redirection_that_outlives_the_run_puts_back_a_stream_that_works(
    history: RecordingHistory, capfd: Any
) -> None:
    """And the next run puts nothing around it."""
    before = sys.stdout
    kept = contextlib.redirect_stdout(io.StringIO())

    @action
    def step() -> None:
        kept.__enter__()

    @action
    def next_step() -> None:
        print("next")

    workflow(history, step).start()
    kept.__exit__(None, None, None)
    print("afterwards")
    again = RecordingHistory()
    workflow(again, next_step).start()
    assert again.output(0) == b"next\n"
    assert sys.stdout is before
    assert capfd.readouterr().out == "afterwards\nnext\n"


def test_no_stream_no_capture(history: RecordingHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sys.stdout is None, print does nothing, as before."""
    monkeypatch.setattr(sys, "stdout", None)
    workflow(history, WAYS["print"].step).start()
    assert sys.stdout is None
    assert history.output(0, 2) == b"to stderr\n"


def test_streams_of_notebooks_and_tests_are_captured_too(history: RecordingHistory, capsys: Any) -> None:
    """They need no descriptor, and may have attributes and no buffer of their own."""

    class Notebook(io.StringIO):
        parent = "cell 1"

    with contextlib.redirect_stdout(Notebook()) as stream:

        @action
        def step() -> None:
            print("in a cell")
            sys.stdout.parent = "cell 2"  # type: ignore[attr-defined]
            assert not hasattr(sys.stdout, "buffer")
            assert isinstance(sys.stdout, Notebook)

        workflow(history, step).start().raise_for_failure()
        assert sys.stdout is stream
    assert (stream.getvalue(), stream.parent) == ("in a cell\n", "cell 2")
    assert history.output(0) == b"in a cell\n"
    workflow(history, WAYS["print"].step).start()
    assert capsys.readouterr() == ("with print\n", "to stderr\n")


def test_failures_and_interrupts_restore_the_streams(history: RecordingHistory, capfd: Any) -> None:
    """Ctrl-C, too."""

    @action
    def fail() -> None:
        print("before it fails")
        raise ValueError

    @action
    def interrupt() -> None:
        print("before Ctrl-C")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workflow(history, fail, interrupt).start(keep_going=True)
    assert [history.output(0), history.output(1)] == [b"before it fails\n", b"before Ctrl-C\n"]


def test_handlers_that_a_step_makes_are_led_back(history: RecordingHistory, logger: logging.Logger) -> None:
    """They would write through the proxy for ever."""

    @action
    def step() -> None:
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.warning("twice")

    workflow(history, step).start()
    made = logger.handlers.pop()
    assert isinstance(made, logging.StreamHandler)
    assert made.stream is sys.stdout
    assert history.output(0) == b"twice\n"


def test_a_forked_child_of_a_step_records_nothing(history: RecordingHistory, capfd: Any) -> None:
    """It is a copy of the process, whose history is its parent's."""

    @action
    def step() -> None:
        pid = os.fork()
        if not pid:
            print("child")
            sys.stdout.flush()
            os._exit(len(history.of(AttemptOutput)))
        assert os.waitpid(pid, 0)[1] == 0

    workflow(history, step).start().raise_for_failure()
    assert history.of(AttemptOutput) == []


def test_a_step_that_keeps_stdout_can_be_isolated(history: RecordingHistory, capfd: Any) -> None:
    """The pickle of the stream names it, although a proxy is in its place."""
    stream = sys.stdout

    @action(isolate=True)
    def step() -> None:
        print("isolated", file=stream)

    workflow(history, step, executor=ExecutorThread()).start().raise_for_failure()
    assert history.output(0) == b"isolated\n"


def test_a_step_can_patch_stdout(history: RecordingHistory, capfd: Any) -> None:
    """unittest.mock deletes the attribute that it has set."""

    @action
    def step() -> None:
        with mock.patch.object(sys.stdout, "write") as write:
            print("patched", end="")
        assert "".join(call.args[0] for call in write.call_args_list) == "patched"
        print("after")

    workflow(history, step).start().raise_for_failure()
    assert capfd.readouterr().out == "after\n"


def test_it_can_be_followed_while_the_step_runs(capfd: Any) -> None:
    """The first line is recorded at once, later ones within a quarter of a second, if the step prints."""
    seen: list[bool] = []

    class Settling(RecordingHistory):
        def settle(self, run_id: str, begins: bool) -> float | None:
            seen.append(bool(self.of(AttemptOutput)))
            return None

    @action
    def step() -> None:
        print("first")
        assert seen[-1]

    workflow(Settling(), step).start().raise_for_failure()


def test_a_thread_that_prints_much_is_bounded(capfd: Any) -> None:
    """Beginning and end are kept, and the bytes between are counted."""
    history = RecordingHistory(output_limit=10_000)

    @action
    def step() -> None:
        for number in range(20_000):
            print(f"line {number:06}")

    workflow(history, step, executor=ExecutorThread()).start()
    parts = history.parts(0, 1)
    kept = b"".join(part.data for part in parts)
    assert kept.startswith(b"line 000000\nline 000001\n")
    assert kept.endswith(b"line 019999\n")
    assert sum(len(part.data) + part.skipped for part in parts) == 20_000 * 12


def test_the_history_may_want_none(capfd: Any) -> None:
    """Then the streams stay as they are."""
    seen: list[Any] = []

    @action
    def step() -> None:
        seen.append(sys.stdout)

    workflow(RecordingHistory(TypeCapture.NONE), step).start()
    assert seen == [sys.stdout]
