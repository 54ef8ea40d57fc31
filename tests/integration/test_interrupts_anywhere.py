"""An interrupt at any moment of a background run's start and wait, and of a script's end, stops the run."""

import contextlib
import dis
import functools
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import dotflow
from dotflow import DotFlow, action
from dotflow.engine import background
from dotflow.providers import StorageDefault, StorageFile
from dotflow.providers.schedulers.runs import ScheduledRuns, ShutdownSignals
from dotflow.resume import checkpoint, turns
from dotflow.resume.checkpoint import Checkpoints
from dotflow.worker import waiting
from dotflow.worker.waiting import WakeupEvent
from tests.integration.children import Scripts

MakeWorkflow = Callable[..., DotFlow]

TRACED = (str(Path(dotflow.__file__).parent), threading.__file__)


class LongStep:
    """A step that runs until it is stopped."""

    def __init__(self) -> None:
        self.has_begun = False
        self.failures: list[str] = []

    def run(self) -> None:
        self.has_begun = True
        until = time.monotonic() + 20
        while time.monotonic() < until:
            time.sleep(0.001)

    def note_failure(self, tasks: Any) -> None:
        """The on_failure of its runs."""
        self.failures.append(tasks[0].errors[-1].exception)


@functools.cache
def interruptible(code: CodeType) -> frozenset[int]:
    """Returns the offsets before which CPython calls signal handlers: after a call, at a function's start, in loops."""
    offsets, is_after_call = set(), False
    for instruction in dis.get_instructions(code):
        if is_after_call:
            offsets.add(instruction.offset)
        is_after_call = instruction.opname.startswith(("CALL", "RESUME"))
        if instruction.opname.startswith("JUMP_BACKWARD"):
            offsets.add(instruction.argval)
    return frozenset(offsets)


def interrupted_at(
    number: int, step: LongStep, function: Callable[[], object], traced: tuple[str, ...] = TRACED
) -> bool:
    """Calls *function*, with a SIGINT at the *number*-th moment at which it can come in the *traced* files.

    Returns False if it was waiting for the step before that moment. Then the signal came in the wait.
    """
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(traced):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in interruptible(frame.f_code):
            count += 1
            if count == number or (step.has_begun and frame.f_code is WakeupEvent.wait.__code__):
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    with contextlib.suppress(KeyboardInterrupt, RuntimeError):  # threading.Condition has a moment for the second
        try:
            sys.settrace(trace)
            function()
        finally:
            sys.settrace(before)
    return count == number


def start_by_schedule(workflow: DotFlow, **arguments: Any) -> None:
    """Starts a run as a schedule does, after its first signal."""
    wakeup = WakeupEvent()
    signals = ShutdownSignals(wakeup.set)
    signals.count = 1
    with signals:
        ScheduledRuns(workflow, arguments, signals, wakeup, wakeup.set).run_here(datetime.now(UTC))


def start_by_command(workflow: DotFlow, **arguments: Any) -> None:
    """Starts a run as the command does."""
    try:
        workflow.start(**arguments).wait()
    except BaseException:
        background.interrupt_all()
        raise


@pytest.fixture(autouse=True)
def interrupts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests run as a shell's background job."""
    monkeypatch.setattr(waiting, "MAX_SLEEP", 0.01)
    monkeypatch.setattr("dotflow.engine.run.CANCEL_GRACE", 15.0)  # a busy machine takes its time
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("owner", "when"), [(threading.Thread, "before"), (threading.Thread, "after"), (DotFlow, "after")]
)
@pytest.mark.parametrize("start", [start_by_schedule, start_by_command])
def test_before_it_is_waited_for_it_stops_a_background_run(
    start: Callable[..., None], owner: Any, when: str, make_workflow: MakeWorkflow
) -> None:
    """Right before or after the start of its thread, and when the caller has the run."""
    original = owner.start

    def interrupted(*arguments: Any, **named: Any) -> Any:
        patch.undo()
        result = original(*arguments, **named) if when == "after" else None
        signal.raise_signal(signal.SIGINT)
        return original(*arguments, **named) if when == "before" else result  # a schedule only counts the signal here

    step = LongStep()
    workflow = make_workflow(workflow_id="nightly")
    workflow.task.add(action(step.run))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(workflow, mode="background", on_failure=step.note_failure)

    for run in background._running.copy():  # on a busy machine, the grace of its waiter is over before its end
        assert run._end.wait(60)
    assert step.failures in ([["KeyboardInterrupt"]] if step.has_begun else [[], ["KeyboardInterrupt"]])


def wait_for_threads() -> None:
    """Waits for the threads of runs, without whose end the program has none."""
    until = time.monotonic() + 30
    while any(thread.name == "dotflow-run" and thread.ident is not None for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.mark.parametrize("start", [start_by_schedule, start_by_command])
def test_while_its_thread_starts_it_leaves_none_behind(
    start: Callable[..., None], make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own lock of the start is not kept: the thread would wait for it, and the program for the thread."""
    entering = [one.__code__ for one in (threading.Condition.__enter__, threading.Event.wait, threading.Thread.start)]
    caller, original = threading.get_ident(), threading.Event.set
    has_begun: list[bool] = []
    has_entered: list[bool] = []

    def set_later(event: threading.Event) -> None:
        if threading.get_ident() != caller:
            has_begun.append(True)
            while not has_entered:
                time.sleep(0.001)
        original(event)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        callers = [frame, frame.f_back, frame.f_back and frame.f_back.f_back]
        if event == "return" and [one and one.f_code for one in callers] == entering:
            sys.settrace(None)
            while not has_begun:
                time.sleep(0.001)
            has_entered.append(True)
            signal.raise_signal(signal.SIGINT)
        return trace

    step = LongStep()
    workflow = make_workflow(workflow_id="nightly")
    workflow.task.add(action(step.run))
    monkeypatch.setattr(threading.Event, "set", set_later)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(KeyboardInterrupt):
            start(workflow, mode="background", on_failure=step.note_failure)
    finally:
        sys.settrace(before)

    wait_for_threads()
    assert step.failures in ([["KeyboardInterrupt"]] if step.has_begun else [[], ["KeyboardInterrupt"]])


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.version_info < (3, 12), reason="while opcodes are traced, a signal may stop 3.11 for ever")
@pytest.mark.filterwarnings("ignore:.*scandir:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("start", [start_by_schedule, start_by_command])
def test_at_any_moment_it_stops_a_background_run(
    start: Callable[..., None], make_workflow: MakeWorkflow, tmp_path: Path
) -> None:
    """A step that has begun fails with KeyboardInterrupt, and the workflow can be started again."""
    number = 1
    while True:
        step = LongStep()
        workflow = make_workflow(workflow_id="nightly", storage=StorageFile(tmp_path))
        workflow.task.add(action(step.run))
        begin = functools.partial(start, workflow, mode="background", on_failure=step.note_failure)
        is_reached = interrupted_at(number, step, begin)
        wait_for_threads()

        assert background._running == set(), number
        assert step.failures in ([["KeyboardInterrupt"]] if step.has_begun else [[], ["KeyboardInterrupt"]]), number
        sys.audit("os.fork")  # filelock refuses it for ever where one of its calls was interrupted
        if not is_reached:
            break
        number += 4
    assert step.has_begun


@pytest.mark.skipif(sys.version_info < (3, 12), reason="while opcodes are traced, a signal may stop 3.11 for ever")
@pytest.mark.parametrize("resume", [False, True])
def test_at_any_moment_of_its_start_it_leaves_the_storage_to_other_runs(
    resume: bool, make_workflow: MakeWorkflow
) -> None:
    """Even while the traceback is kept, as in an interactive session."""
    kept: list[BaseException] = []
    free: list[bool] = []

    def begin() -> None:
        try:
            checkpoints.open(tasks, resume=resume)
        except KeyboardInterrupt as error:
            kept.append(error)
            raise

    def take() -> None:
        free.append(checkpoints.turn.lock.acquire(blocking=False))

    for number in itertools.count(1):
        workflow = make_workflow()
        workflow.task.add(action(lambda: 1))
        tasks = [task._new_record("w", "r") for task in workflow.task]
        checkpoints = Checkpoints(StorageDefault(), "w", exclusive=False, log_line=lambda *_: None, run_id="r")
        if not interrupted_at(number, LongStep(), begin, (checkpoint.__file__, turns.__file__, contextlib.__file__)):
            break
        other = threading.Thread(target=take)
        other.start()
        other.join()

    assert len(kept) > 20
    assert free == [True] * len(kept)


@pytest.mark.processes
@pytest.mark.parametrize("function", ["_shutdown", "_wait_for_all"])
def test_at_the_end_of_a_script_it_stops_background_runs(function: str, scripts: Scripts) -> None:
    """Also where Python itself waits for threads, and only prints it."""
    with scripts.start(f"""
import atexit
atexit.register(lambda: print("exit handler"))

def stuck():
    os.write(1, b"ready\\n")
    for _ in range(6000):
        time.sleep(0.01)

def interrupt(frame, event, argument):
    if frame.f_code.co_name == {function!r}:
        sys.settrace(None)
        os.kill(os.getpid(), signal.SIGINT)

workflow = DotFlow(config())
workflow.task.add(action(stuck))
workflow.start(mode="background", on_failure=lambda tasks: os.write(1, b"failed\\n"))
while not Path("begun").exists():
    time.sleep(0.01)
sys.settrace(interrupt)
""") as script:
        assert script.line() == "ready"
        (scripts.folder / "begun").touch()
        end = script.end()
        left = script.left_behind()

    assert end.out == "failed\nexit handler\n"
    assert end.code == -signal.SIGINT
    assert left == []


@pytest.mark.processes
def test_a_forked_child_does_not_wait_for_its_parents_runs(scripts: Scripts) -> None:
    """They run in the parent only."""
    end = scripts.run("""
import warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside threads
workflow = DotFlow(config())
workflow.task.add(action(lambda: time.sleep(60)))
run = workflow.start(mode="background")
child = os.fork()
if child:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    run.cancel()
    say(code=code)
""")

    assert end.facts == {"code": 0}
