"""Output of attempts, and what they use, on its way to the history."""

import contextlib
import faulthandler
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, Secret, action
from dotflow.capture import chunks, collector
from dotflow.capture.collector_main import ANSWER, SIZE
from dotflow.core.events import AttemptOutput, TaskCompleted, TaskFailed
from dotflow.core.types.capture import TypeCapture
from dotflow.own_descriptor import OwnDescriptor
from dotflow.providers import ExecutorProcess, ExecutorThread, HistorySQLite, LogDefault
from tests.captured import MEGABYTES, WAYS, RecordingHistory, crash, get_stuck

DESCRIPTOR_MODES = ["fork", "forkserver"]


def run(history: RecordingHistory | None, *steps: Any, executor: Any = None, **arguments: Any) -> Any:
    """Runs steps; *executor* may be a start method."""
    if isinstance(executor, str):
        executor = ExecutorProcess(start_method=executor)
    config = Config(history=history, log=LogDefault(output="none"), executor=executor)
    workflow = DotFlow(config=config)
    for step in steps:
        workflow.task.add(step)
    return workflow.start(keep_going=True, **arguments)


@contextlib.contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Logs to stderr, as programs do."""
    handler, logger = logging.StreamHandler(sys.stderr), logging.getLogger("tests.captured")
    logger.addHandler(handler)
    logger.propagate = False
    yield
    logger.propagate = True
    logger.removeHandler(handler)


@pytest.fixture
def no_faulthandler() -> Iterator[None]:
    """Takes back pytest's own, as in most programs."""
    faulthandler.disable()
    yield
    faulthandler.enable(sys.__stderr__)


@pytest.fixture
def history() -> RecordingHistory:
    return RecordingHistory()


# Worker processes


@pytest.mark.parametrize("method", DESCRIPTOR_MODES)
def test_all_that_a_worker_prints_is_that_of_its_attempt(
    method: str, history: RecordingHistory, capfdbinary: Any
) -> None:
    """However it is printed, each attempt has exactly its own, and the terminal shows the same bytes."""
    with logging_to_stderr():
        run(history, *(way.step for way in WAYS.values()), executor=method)

    shown = capfdbinary.readouterr()
    for task_id, (name, way) in enumerate(WAYS.items()):
        assert history.output(task_id, 1) == way.stdout, name
        assert way.stderr in history.output(task_id, 2), name
    printed = b"".join(way.stdout for way in WAYS.values())  # to pytest's own stdout, which takes text
    assert shown.out == printed.decode("utf-8", "backslashreplace").encode()
    assert shown.err == b"".join(history.output(task_id, 2) for task_id in range(len(WAYS)))


def test_the_output_of_an_isolated_step_is_its_own(history: RecordingHistory, capfdbinary: Any) -> None:
    """In the process that makes it alone, too."""
    steps = [action(isolate=True)(WAYS[name].step.function) for name in ("print", "C printf", "program")]
    run(history, *steps)

    shown = capfdbinary.readouterr()
    assert [history.output(task_id) for task_id in range(3)] == [b"with print\n", b"with printf\n", b"with a program\n"]
    assert shown.out == b"with print\nwith printf\nwith a program\n"
    assert shown.err == b"to stderr\nits error\n"


def test_a_caller_that_has_redirected_its_stdout_gets_it(history: RecordingHistory, capsys: Any) -> None:
    """As without a history; C output and invalid text, too."""
    run(history, *(WAYS[name].step for name in ("print", "C printf", "invalid UTF-8")), executor="fork")

    shown = capsys.readouterr()
    assert shown.out == "with print\nwith printf\nwith \\xff\\xfe bytes\n"
    assert shown.err == "to stderr\n"
    assert history.output(2) == b"with \xff\xfe bytes\n"


@pytest.mark.parametrize("method", DESCRIPTOR_MODES)
def test_the_last_words_of_a_crash_are_quoted(
    method: str, history: RecordingHistory, capfd: Any, no_faulthandler: None
) -> None:
    """The error has the first lines of the traceback, which name the line, and the output has all of it."""
    result = run(history, crash, executor=method)

    message = result.tasks[0].errors[-1].message
    assert "was killed by SIGSEGV. C code crashed.\nIts last output:\nFatal Python error: Segmentation fault" in message
    assert "in crash" in message
    assert history.output(0, 2).startswith(b"last words\nFatal Python error: Segmentation fault")


@pytest.mark.parametrize("method", DESCRIPTOR_MODES)
def test_the_output_of_a_killed_step_is_kept(method: str, history: RecordingHistory, capfd: Any) -> None:
    """And what its process has used is known to the coordinator."""
    run(history, get_stuck, executor=method)

    (failed,) = history.of(TaskFailed)
    assert history.output(0) == b"before it is stuck\nin C, too\n"
    assert failed.usage.peak > 1_000_000
    assert failed.usage.cpu >= 0


@action
def use(initial_context: Context) -> int:
    """Uses so many bytes and some CPU time, also in a child."""
    block = bytearray(initial_context.storage)
    subprocess.run([sys.executable, "-I", "-S", "-c", "sum(range(1_000_000))"], check=True)
    return len(block)


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system has no /proc")
@pytest.mark.parametrize("method", [None, "fork", "forkserver", "isolate"])
def test_an_attempt_has_its_own_peak(method: str | None, history: RecordingHistory) -> None:
    """A large attempt before it, in the same process, does not count. Children's CPU time does."""
    step = action(isolate=True)(use.function) if method == "isolate" else use
    workflow = DotFlow(
        config=Config(
            history=history,
            log=LogDefault(output="none"),
            executor=ExecutorProcess(start_method=method) if method in DESCRIPTOR_MODES else None,
        )
    )
    for size in (1_000_000, 100_000_000, 1_000_000):
        workflow.task.add(step, initial_context=size)
    workflow.start()

    first, large, last = [event.usage for event in history.of(TaskCompleted)]
    assert large.peak > 100_000_000
    assert large.peak - max(first.peak, last.peak) > 80_000_000
    assert last.cpu > 0.005
    assert (last.worker == os.getpid()) == (method is None)


def test_no_history_no_capture(capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a history, a worker has the descriptors of a caller that prints to them."""

    @action
    def same() -> bool:
        return os.fstat(1) == os.fstat(descriptor)

    for number, name in ((1, "stdout"), (2, "stderr")):
        monkeypatch.setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 (as in a program)
    descriptor = os.dup(1)
    assert run(None, same, executor="fork").tasks[0].current_context.storage is True
    os.close(descriptor)


def test_capture_may_be_off(capfd: Any) -> None:
    """NONE and STREAMS leave the descriptors of workers alone."""
    for capture in (TypeCapture.NONE, TypeCapture.STREAMS):
        history = RecordingHistory(capture)
        run(history, WAYS["print"].step, executor="fork")
        assert history.of(AttemptOutput) == []


def test_a_killed_worker_says_how_large_it_was(capfd: Any) -> None:
    """Also without a history."""

    @action
    def die() -> None:
        block = bytearray(100_000_000)
        os.kill(os.getpid(), signal.SIGKILL if block else 0)

    message = run(None, die, executor="fork").tasks[0].errors[-1].message
    assert re.search(r"was killed by SIGKILL. It had [0-9.]+ [MG]B of memory.", message)


def test_a_program_that_a_step_leaves_behind_can_print(history: RecordingHistory, capfd: Any, tmp_path: Path) -> None:
    """After the run, too: it is no reason to die that nobody captures it any more."""
    go = tmp_path / "go"

    @action
    def leave() -> None:
        script = f"while [ ! -e {go} ]; do sleep 0.01; done; echo one; sleep 0.01; echo two"
        subprocess.Popen(["sh", "-c", script], start_new_session=True)

    run(history, leave, executor="fork")
    go.touch()
    shown = ""
    while "two\n" not in shown:  # the test's own timeout ends it
        time.sleep(0.01)
        shown += capfd.readouterr().out
    assert shown == "one\ntwo\n"


def test_a_chatty_step_takes_little_memory(capfd: Any) -> None:
    """Half of the limit is kept of the beginning; a chunk has at most the other half, and what is lost is counted."""
    history = RecordingHistory(output_limit=100_000)

    @action
    def chat() -> None:
        os.write(1, MEGABYTES)

    run(history, chat, executor="fork")
    parts = history.parts(0, 1)
    kept = b"".join(part.data for part in parts)
    assert kept[:50_000] == MEGABYTES[:50_000]
    assert MEGABYTES.endswith(parts[-1].data)
    assert sum(len(part.data) + part.skipped for part in parts) == len(MEGABYTES)
    assert max(len(part.data) for part in parts) <= 150_000


def test_output_arrives_while_the_step_runs(history: RecordingHistory, capfd: Any, tmp_path: Path) -> None:
    """So that it can be followed."""
    seen = tmp_path / "seen"

    class Touching(RecordingHistory):
        def record(self, run_id: str, event: Any) -> None:
            super().record(run_id, event)
            if isinstance(event, AttemptOutput):
                seen.touch()

    @action
    def wait_until_seen() -> None:
        print("here")
        while not seen.exists():
            time.sleep(0.01)

    run(Touching(), wait_until_seen, executor="fork")


@pytest.mark.parametrize("method", DESCRIPTOR_MODES)
def test_attempts_side_by_side_and_items_have_their_own(method: str, history: RecordingHistory, capfd: Any) -> None:
    """Workers print at once, and each attempt of each item has its own lines; no line in the terminal is torn."""

    @action
    def numbers() -> list[int]:
        return list(range(6))

    @action(retry=2, retry_delay=0)
    def fetch(number: int) -> int:
        for line in range(20):
            print(f"item {number} line {line}")
        if not Path(f"{folder}/{number}").exists():
            Path(f"{folder}/{number}").touch()
            raise ValueError
        return number

    with tempfile.TemporaryDirectory() as folder:
        workflow = DotFlow(
            config=Config(
                history=history, log=LogDefault(output="none"), executor=ExecutorProcess(4, start_method=method)
            )
        )
        workflow.task.add(numbers)
        workflow.task.add(fetch, each={"number": "numbers"})
        workflow.start()
    for item in range(6):
        lines = b"".join(b"item %d line %d\n" % (item, line) for line in range(20))
        assert [history.output(1, 1, attempt, item) for attempt in (1, 2)] == [lines, lines]
    shown = sorted(capfd.readouterr().out.splitlines())
    assert shown == sorted(f"item {item} line {line}" for item in range(6) for line in range(20) for _ in "12")


@pytest.mark.parametrize("executor", [None, "fork"], ids=["inline", "fork"])
def test_secrets_are_masked_in_kept_output(executor: str | None, history: RecordingHistory, capfd: Any) -> None:
    """Also in two writes; the terminal shows what was printed."""

    @action
    def leak(token: str = Secret("TEST_TOKEN", default="s3cr3t-of-tests")) -> None:
        print(f"the token {token}")
        sys.stdout.write(token[:7])
        sys.stdout.flush()
        time.sleep(0.3)  # so that the two parts are in two chunks
        print(token[7:])

    run(history, leak, executor=executor).raise_for_failure()
    assert history.output(0) == b"the token ***\n***\n"
    assert capfd.readouterr().out == "the token s3cr3t-of-tests\ns3cr3t-of-tests\n"


@pytest.mark.parametrize("end", ["return", "exit", "kill"])
def test_the_beginning_of_a_secret_is_masked_at_the_end(end: str, history: RecordingHistory, capfd: Any) -> None:
    """However the attempt ends, in its output and in the error that quotes its last words."""

    @action
    def leak(token: str = Secret("TEST_TOKEN", default="s3cr3t-of-tests-at-length")) -> None:
        for stream in (1, 2):
            os.write(stream, f"the token {token[:12]}".encode())
        if end != "return":
            os._exit(1) if end == "exit" else os.kill(os.getpid(), signal.SIGKILL)

    result = run(history, leak, executor="fork")

    assert [history.output(0, stream) for stream in (1, 2)] == [b"the token ***"] * 2
    messages = [error.message for error in result.tasks[0].errors]
    assert len(messages) == (end != "return")
    assert all("the token ***" in message and "s3cr3t" not in message for message in messages)


def test_only_the_thread_of_a_run_settles_its_history(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """Other threads only hand over what a process of theirs prints."""
    monkeypatch.setattr(chunks, "INTERVAL", 0)
    threads: list[int] = []

    class Settling(RecordingHistory):
        def settle(self, run_id: str, begins: bool) -> None:
            threads.append(threading.get_ident())

    @action(isolate=True)
    def prints() -> None:
        for number in range(3):
            print(number, flush=True)

    history = Settling()
    run(history, prints, executor=ExecutorThread())

    assert history.output(0) == b"0\n1\n2\n"
    assert set(threads) == {threading.get_ident()}


@pytest.mark.parametrize("inner", ["inline", "thread", "fork"])
def test_a_run_in_a_worker_has_its_own_output(
    inner: str, history: RecordingHistory, capfd: Any, tmp_path: Path
) -> None:
    """The step around it has what it prints itself; a run without a history prints for it."""

    @action
    def inside() -> None:
        print("inside")
        sys.stdout.flush()

    @action
    def around() -> str:
        print("before")
        own = RecordingHistory()
        executor = {"inline": None, "thread": ExecutorThread(), "fork": "fork"}[inner]
        run(own, inside, executor=executor)
        print("between")
        run(None, inside)
        return own.output(0).decode()

    result = run(history, around, executor="fork")
    assert result.tasks[0].current_context.storage == "inside\n"
    assert history.output(0) == b"before\nbetween\ninside\n"
    assert capfd.readouterr().out == "before\ninside\nbetween\ninside\n"


def test_a_history_that_can_not_be_pickled_has_no_collector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its runs are captured as those of a program."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)  # other tests may have left some
    history: Any = HistorySQLite(tmp_path / "history.db")
    with open(1, "w", closefd=False) as stdout, open(2, "w", closefd=False) as stderr:  # pytest has its own
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", stderr)
        assert collector.can_record(history)
        history.connected = lambda: None
        assert not collector.can_record(history)
        monkeypatch.undo()


def test_an_interrupted_wait_for_the_collector_is_counted(request: pytest.FixtureRequest) -> None:
    """Its answer comes all the same, and the next wait does not take it for its own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    class Interrupting(socket.socket):
        interrupts = [signal.SIGINT]  # noqa: RUF012

        def sendall(self, data: Any, flags: int = 0) -> None:
            super().sendall(data)
            while self.interrupts:
                signal.raise_signal(self.interrupts.pop())  # it is held until the message is sent

    waiting = collector.Collector(None)
    own, other = socket.socketpair()
    with Interrupting(own.family, own.type, fileno=own.detach()) as control, other:
        waiting._control, waiting._own_control = control, OwnDescriptor(control.fileno())
        with pytest.raises(KeyboardInterrupt):
            waiting.wait()
        other.sendall(ANSWER * 2)
        waiting.wait()

        assert other.recv(64) == SIZE.pack(0) * 2
        assert waiting._unanswered == 0
