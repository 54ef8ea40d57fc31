"""A step whose time is up ends in every mode, and leaves nothing behind."""

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.core.types.status import TypeStatus
from dotflow.providers import ExecutorAsync, ExecutorThread, LogDefault
from tests.integration.children import SOON, Scripts, held_back
from tests.integration.victims import (
    GRACE,
    SLACK,
    TIMEOUT,
    VICTIMS,
    Fate,
    Victim,
    Way,
    can_end,
    fates_of,
    start_cases,
    ways_for,
)

MakeWorkflow = Callable[..., DotFlow]

pytestmark = pytest.mark.processes

IN_PROCESSES = pytest.param("parallel", marks=pytest.mark.start_method)


# Every victim in every mode

#: One for each way to be ended. Of those that swallow it, of coroutines and of grandchildren there are tests below, and
#: in the contract of executors.
TYPICAL = {"sleep", "Python loop", "C call", "coroutine, blocks"}


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.start_method
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in TYPICAL else pytest.mark.exhaustive) for name in VICTIMS],
)
def test_a_stuck_step_is_ended_retried_and_leaves_nothing(name: str, tmp_path: Path, start_method: str | None) -> None:
    """The attempt of a step that hangs ends in time in every mode, is retried, and leaves nothing behind."""
    victim = VICTIMS[name]
    ways = [way for way in ways_for(start_method) if can_end(victim, way)]

    fates = fates_of(start_cases(tmp_path, victim, ways, start_method))

    faults = {way.name: faults_of(victim, way, fate) for way, fate in fates.items()}
    assert {way: found for way, found in faults.items() if found} == {}


def faults_of(victim: Victim, way: Way, fate: Fate) -> list[str]:
    """Returns what is not as promised."""
    left_behind = way.in_thread and victim.left_in_thread
    status, value, errors = fate.tasks[0]
    faults = []
    if fate.seconds > TIMEOUT + GRACE + SLACK:
        faults.append(f"ended after {fate.seconds:.2f} s")
    messages = " ".join(message for _, message in errors)  # one, unless the machine is too busy for a quick attempt
    if [status, value] != ["Completed", "again"] or not errors:
        faults.append(f"the retry: {status}, {value!r}, {errors}")
    elif not all(kind == "TimeoutError" and "'stuck'" in message and "0.3 s" in message for kind, message in errors):
        faults.append(f"the errors: {errors}")
    elif left_behind != ("left behind" in messages):
        faults.append(f"the errors say of the thread: {messages}")
    elif "process was killed" in messages and not victim.hard:
        faults.append(f"it has used up the grace: {messages}")
    if fate.tasks[1][0] != "Completed":
        faults.append(f"the next step: {fate.tasks[1]}")
    if fate.later:
        faults.append("later lines ran")
    if bool(fate.threads) != left_behind:
        faults.append(f"threads left: {fate.threads}")
    if fate.grandchild and (way.in_process or way.in_thread):
        faults.append("the grandchild lives")
    if fate.processes:
        faults.append(f"processes left: {fate.processes}")
    if fate.code != 0 or fate.exit_seconds > SOON:
        faults.append(f"the interpreter exited with {fate.code} after {fate.exit_seconds:.2f} s")
    if fate.err:
        faults.append(f"stderr: {fate.err}")
    return faults


DEAF = {
    "holds the GIL": "sum(range(10**11))",  # and looks for no signal
    "blocks the signal": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]); time.sleep(60)",
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
}


@pytest.mark.start_method
def test_a_worker_that_cannot_be_interrupted_is_killed(tmp_path: Path, start_method: str | None) -> None:
    """A worker that can't be interrupted is killed after the grace, and the retry gets a new one."""
    cases = {}
    for name, body in DEAF.items():
        folder = tmp_path / name
        folder.mkdir()
        victim = Victim(body, hard=True)
        ways = [way for way in ways_for(start_method) if way in (Way("parallel"), Way("sequential", isolate=True))]
        started = start_cases(folder, victim, ways, start_method)
        cases |= {(name, way.name, way): script for way, script in started.items()}

    fates = fates_of(cases)

    faults = {case[:2]: faults_of(Victim("", hard=True), case[2], fate) for case, fate in fates.items()}
    assert {case: found for case, found in faults.items() if found} == {}
    assert all(any("killed" in message for _, message in fate.tasks[0][2]) for fate in fates.values())


@pytest.mark.exhaustive
def test_c_code_in_the_callers_thread_is_reported(scripts: Scripts) -> None:
    """While a step hangs in C code in the caller's own thread, the log names it and says what to do."""
    source = """
@action(timeout=0.2)
def crunch():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)

workflow = DotFlow(Config(log=LogDefault(output="console")))
workflow.task.add(crunch)
workflow.start()
"""

    with scripts.start(source) as script:
        lines = [script.error_line()]
        while lines[-1] and "isolate=True" not in lines[-1]:
            lines.append(script.error_line())
        running = script.process.poll() is None

    assert "'crunch'" in lines[-1]
    assert "isolate=True" in lines[-1]
    assert running


# Programs that a step in a thread has started

IN_THREADS = {
    "background": ("background", "None"),
    "ExecutorThread": ("parallel", "ExecutorThread()"),
}


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the programs of a thread")
@pytest.mark.parametrize("way", IN_THREADS)
def test_programs_end_with_the_thread_that_has_started_them(way: str, scripts: Scripts) -> None:
    """A timeout in a thread ends a stuck subprocess.run, with all that its program has started."""
    mode, executor = IN_THREADS[way]

    with scripts.start(f"""
@action(timeout=0.3)
def stuck():
    subprocess.run(["sh", "-c", "sleep 60 & sleep 60"])
    (HERE / "later").touch()

@action(timeout=0.3)
def own_session():
    subprocess.run(["sh", "-c", "(sleep 60 &) ; sleep 60"], start_new_session=True)
    (HERE / "later").touch()

@action(timeout=0.3)
def cleans_up():
    child = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"])
    try:
        while True:
            time.sleep(0.001)
    finally:
        child.kill()
        child.wait()

workflow = DotFlow(Config(log=LogDefault(output="none"), executor={executor}))
workflow.task.add([stuck, own_session, cleans_up])
workflow.start(mode="{mode}", keep_going=True).wait()
say(tasks=told(workflow.result_task()))
signal.pause()
""") as script:
        facts = json.loads(script.line())
        left = script.left_behind(besides=[script.process.pid])

    for status, _, errors in facts["tasks"]:
        assert status == "Failed"
        assert [error[0] for error in errors] == ["TimeoutError"]
        assert "left behind" not in errors[0][1]
    assert left == []
    assert not (scripts.folder / "later").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the programs of a thread")
def test_programs_end_with_a_cancelled_run(scripts: Scripts) -> None:
    """Cancelling a run in a thread ends the program that its step waits for, and what that has started."""
    with scripts.start("""
@action
def stuck():
    subprocess.run(["sh", "-c", "sleep 60 & echo ready; sleep 60"])
    (HERE / "later").touch()

workflow = DotFlow(Config(log=LogDefault(output="none")))
workflow.task.add(stuck)
run = workflow.start(mode="background")
signal.signal(signal.SIGUSR1, lambda *_: run.cancel())
os.write(1, b"ready\\n")
run.wait()
say(tasks=told(workflow.result_task()))
signal.pause()
""") as script:
        assert [script.line(), script.line()] == ["ready", "ready"]
        script.send(signal.SIGUSR1)
        facts = json.loads(script.line())
        left = script.left_behind(besides=[script.process.pid])

    assert facts["tasks"][0][2][0][0] == "RunCancelled"
    assert left == []
    assert not (scripts.folder / "later").exists()


def test_programs_of_others_are_left_alone(scripts: Scripts) -> None:
    """A timeout in a thread ends neither programs of earlier attempts in this thread nor those of other threads."""
    facts = scripts.run("""
servers = [subprocess.Popen(["sleep", "60"])]

@action
def serve():
    servers.append(subprocess.Popen(["sleep", "60"]))

@action(timeout=0.2)
def stuck():
    subprocess.run(["sleep", "60"])

def start_inner(seconds):
    inner = DotFlow(Config(log=LogDefault(output="none")))
    inner.task.add([action(lambda: time.sleep(seconds))] * 2)
    inner.start(mode="parallel", keep_going=True)

@action(timeout=0.2)
def nested():
    start_inner(60)

def start_others():
    servers.append(subprocess.Popen(["sleep", "60"]))
    start_inner(0)  # the fork server, which may take long on a busy machine

other = threading.Thread(target=start_others)
other.start()
other.join()
workflow = DotFlow(Config(log=LogDefault(output="none")))
workflow.task.add([serve, stuck, nested])
workflow.start(mode="background", keep_going=True).wait()
say(alive=[server.poll() is None for server in servers], tasks=told(workflow.result_task()))
for server in servers:
    server.kill()
    server.wait()
""").facts

    assert facts["alive"] == [True, True, True]
    assert [task[0] for task in facts["tasks"]] == ["Completed", "Failed", "Failed"]
    assert [task[2][0][0] for task in facts["tasks"][1:]] == ["TimeoutError", "TimeoutError"]


# The attempt, and nothing but the attempt


def test_each_attempt_has_the_whole_time(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """The timeout is for each attempt, not for all of them together."""
    began = tmp_path / "began"

    @action(timeout=1.4, retry=100, retry_delay=0)
    def slow() -> str:
        if not (began.exists() and began.read_text()):  # it may be interrupted while it writes
            began.write_text(str(time.monotonic()))
        time.sleep(0.15)
        if time.monotonic() < float(began.read_text()) + 1.5:
            raise ValueError("not yet")
        return "done"

    workflow = make_workflow()
    workflow.task.add(slow)
    workflow.start()

    (task,) = workflow.result_task()
    assert "ValueError" in {error.exception for error in task.errors}
    assert task.current_context.storage == "done"  # an attempt that a busy machine holds up has its own timeout, too


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("mode", ["sequential", "background", IN_PROCESSES])
def test_a_step_in_time_is_left_alone(mode: str, make_workflow: MakeWorkflow) -> None:
    """A step that returns before its time is up is not disturbed, nor is the next one when that time is up."""

    @action(timeout=0.7, retry=20, retry_delay=0)  # once, unless the machine is busy
    def short() -> float:
        return time.monotonic() + 0.8  # when its time is up

    @action
    def long(initial_context: Context, previous_context: Context) -> bool:
        until = previous_context.storage or time.monotonic() + 0.8  # a parallel run passes no context
        while time.monotonic() < until:
            time.sleep(0.01)
        return True

    workflow = make_workflow()
    for _ in range(2):
        workflow.task.add([short, long])
    workflow.start(mode=mode).wait()

    assert workflow.result_storage()[1::2] == [True] * 2
    assert [task.errors for task in workflow.result_task()[1::2]] == [[]] * 2


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_the_last_failed_attempt_is_a_timeout_too(mode: str, make_workflow: MakeWorkflow) -> None:
    """When all attempts run out of time, the task is FAILED with a TimeoutError for each of them."""

    @action(timeout=0.1, retry=2, retry_delay=0)
    def spin() -> None:
        while True:
            time.sleep(0.005)

    workflow = make_workflow()
    workflow.task.add(spin)
    run = workflow.start(mode=mode)
    run.wait()

    (task,) = workflow.result_task()
    assert task.status is run.status is TypeStatus.FAILED
    assert [(error.attempt, error.exception) for error in task.errors] == [(1, "TimeoutError"), (2, "TimeoutError")]
    assert "test_timeouts.py" in task.errors[-1].traceback
    assert "time.sleep(0.005)" in task.errors[-1].traceback


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_except_exception_and_finally_see_the_end(mode: str, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """`except Exception` can't swallow a timeout, and `finally` blocks and context managers still close up."""

    @action(timeout=0.1)
    def careful() -> str:
        try:
            while True:
                try:
                    time.sleep(0.005)
                except Exception:
                    (tmp_path / "swallowed").touch()
        finally:
            (tmp_path / "closed").touch()

    workflow = make_workflow()
    workflow.task.add(careful)
    workflow.start(mode=mode).wait()

    assert workflow.result_task()[0].errors[-1].exception == "TimeoutError"
    assert (tmp_path / "closed").exists()
    assert not (tmp_path / "swallowed").exists()


@pytest.mark.parametrize("mode", ["sequential", "background", IN_PROCESSES])
def test_a_step_that_swallows_its_timeout_and_returns_is_late(mode: str, make_workflow: MakeWorkflow) -> None:
    """A step that catches its timeout and returns a value has timed out."""

    @action(timeout=0.1)
    def stubborn() -> str:
        try:
            while True:
                time.sleep(0.005)
        except BaseException:
            return "I am fine"

    workflow = make_workflow()
    workflow.task.add(stubborn)
    workflow.start(mode=mode).wait()

    (task,) = workflow.result_task()
    assert task.status is TypeStatus.FAILED
    assert task.errors[-1].exception == "TimeoutError"
    assert task.current_context.storage is None


def test_a_thread_left_behind_does_not_come_back(quiet: Callable[..., Config], tmp_path: Path) -> None:
    """After its sleep, a step that was left behind runs no later lines, and its value is dropped."""

    wakes = threading.Event()
    slept: list[int] = []

    @action(timeout=0.5, retry=20, retry_delay=0)  # twice, unless the machine is busy
    def asleep() -> str:
        slept.append(1)
        if len(slept) > 1:
            return "second"
        wakes.wait(60)  # a call into C, which nothing can end
        (tmp_path / "later").touch()
        return "first"

    before = set(threading.enumerate())
    workflow = DotFlow(quiet(executor=None))
    workflow.task.add(asleep)
    workflow.start(mode="background").wait()
    left = [thread for thread in set(threading.enumerate()) - before if thread.name != "dotflow-run"]
    wakes.set()
    for thread in left:
        thread.join(SLACK)

    assert "dotflow-worker" in {thread.name for thread in left}
    assert all(thread.daemon for thread in left)
    assert not [thread for thread in left if thread.is_alive()]
    assert not (tmp_path / "later").exists()
    assert workflow.result_storage() == ["second"]


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_classs_own_action_has_a_timeout_of_its_own(mode: str, make_workflow: MakeWorkflow) -> None:
    """An action of a class that hangs times out and is retried by itself; those before it don't run again."""

    class Report:
        loads = 0
        calls = 0

        @action
        def load(self) -> int:
            self.loads += 1
            return self.loads

        @action(timeout=0.5, retry=20, retry_delay=0)  # twice, unless the machine is busy
        def send(self) -> str:
            self.calls += 1
            while self.calls == 1:
                time.sleep(0.005)
            return f"sent after {self.loads} load"

    @action
    def report() -> Report:
        return Report()

    workflow = make_workflow()
    workflow.task.add(report)
    workflow.start(mode=mode).wait()

    (task,) = workflow.result_task()
    assert [context.storage for context in task.current_context.storage] == [1, "sent after 1 load"]
    assert {error.exception for error in task.errors} == {"TimeoutError"}


# Timeouts in timeouts


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
@pytest.mark.parametrize("inner_mode", ["sequential", "background", "parallel"])
def test_an_inner_timeout_does_not_end_the_outer_step(mode: str, inner_mode: str, make_workflow: MakeWorkflow) -> None:
    """A step goes on when a timeout of its inner workflow passes."""
    task = nested(make_workflow, mode, inner_mode, outer=40, inner=0.1)

    assert task.status is TypeStatus.COMPLETED
    assert task.current_context.storage == ["Failed", "TimeoutError"]


OUTER = 1.0  # seconds in which the worker of a worker has begun, on a busy machine too


@pytest.mark.exhaustive(keep_every=12)
@pytest.mark.parametrize("mode", ["sequential", "background", IN_PROCESSES])
@pytest.mark.parametrize("inner_mode", ["sequential", "background", "parallel"])
def test_an_outer_timeout_ends_the_inner_workflow(
    mode: str, inner_mode: str, make_workflow: MakeWorkflow, tmp_path: Path
) -> None:
    """A step's timeout ends the workflow that runs in it, too."""
    task = nested(make_workflow, mode, inner_mode, outer=OUTER, inner=60, beat=tmp_path / "beat")

    ended = time.time()
    assert task.status is TypeStatus.FAILED
    assert task.errors[-1].exception == "TimeoutError"
    assert "'outer'" in task.errors[-1].message
    time.sleep(0.15)
    beats = list(tmp_path.glob("beat"))  # none, if a busy machine did not even begin the inner step in time
    assert all(beat.stat().st_mtime < ended + 0.1 for beat in beats)


def nested(
    make_workflow: MakeWorkflow, mode: str, inner_mode: str, outer: float, inner: float, beat: Path = Path(os.devnull)
) -> Task:
    """Runs a step with a timeout in a step with a timeout; returns the outer task."""

    def run_inner() -> list[str]:
        @action(timeout=inner)
        def deep() -> None:
            while True:
                time.sleep(0.01)
                beat.touch()

        workflow = DotFlow(Config(log=LogDefault(output="none")))
        workflow.task.add(deep)
        workflow.start(mode=inner_mode).wait()
        (task,) = workflow.result_task()
        return [str(task.status), task.errors[-1].exception]

    step = action(timeout=outer)(named(run_inner, "outer"))
    workflow = make_workflow()
    workflow.task.add(step)
    workflow.start(mode=mode).wait()
    return workflow.result_task()[0]


def named(function: Callable[[], object], name: str) -> Callable[[], object]:
    """Returns *function* under another name."""
    function.__name__ = function.__qualname__ = name
    return function


# The user's own timer


def test_the_users_alarm_handler_is_put_back(make_workflow: MakeWorkflow) -> None:
    """After a run, SIGALRM has the program's handler again, and no timer is left."""
    rang = []

    @action(timeout=0.1)
    def spin() -> None:
        while True:
            time.sleep(0.005)

    with held_back():
        handler = lambda signum, frame: rang.append(signum)
        signal.signal(signal.SIGALRM, handler)
        workflow = DotFlow(Config(log=make_workflow().config.log))
        workflow.task.add(spin)
        workflow.start()

        assert signal.getsignal(signal.SIGALRM) is handler
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert workflow.result_task()[0].errors[-1].exception == "TimeoutError"
        assert rang == []


@pytest.mark.parametrize("due", [0.1, 0.95], ids=["during the step", "after the step"])
def test_the_users_timer_goes_off_when_it_is_due(due: float, make_workflow: MakeWorkflow) -> None:
    """The program's own timer goes off once, not before it is due: during a step with a timeout, or afterwards."""
    rang: list[float] = []

    @action(timeout=0.8)
    def spin() -> None:
        while True:
            time.sleep(0.005)

    with held_back():
        signal.signal(signal.SIGALRM, lambda signum, frame: rang.append(time.monotonic()))
        began = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, due)
        workflow = DotFlow(Config(log=make_workflow().config.log))
        workflow.task.add(spin)
        workflow.start()
        ended = time.monotonic()
        until = began + SLACK
        while not rang and time.monotonic() < until:
            time.sleep(0.01)

    assert workflow.result_task()[0].errors[-1].exception == "TimeoutError"
    assert ended - began >= 0.79
    assert len(rang) == 1
    assert rang[0] - began >= due - 0.01
    assert rang[0] < ended or due > 0.8


def test_the_users_interval_goes_on(make_workflow: MakeWorkflow) -> None:
    """A periodic timer goes on during a step with a timeout and after it."""
    rang: list[float] = []

    @action(timeout=0.8)
    def spin() -> None:
        while True:
            time.sleep(0.005)

    with held_back():
        signal.signal(signal.SIGALRM, lambda signum, frame: rang.append(time.monotonic()))
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        workflow = DotFlow(Config(log=make_workflow().config.log))
        workflow.task.add(spin)
        workflow.start()
        ended = time.monotonic()
        during = len(rang)
        while len(rang) < during + 2 and time.monotonic() < ended + SLACK:
            time.sleep(0.01)

    assert during >= 1
    assert len(rang) >= during + 2


# Executors that the user chose


@pytest.mark.parametrize("executor", [ExecutorThread, ExecutorAsync])
def test_other_executors_keep_timeouts(executor: type, quiet: Callable[..., Config]) -> None:
    """In threads and in a shared loop, functions and coroutines are ended, and the others go on."""

    @action(timeout=0.2)
    def spin() -> None:
        while True:
            time.sleep(0.005)

    @action(timeout=0.2)
    async def wait() -> None:
        await asyncio.sleep(60)

    @action(retry=20, retry_delay=0)  # once, unless the machine is so busy that the loop seems blocked
    async def fine() -> str:
        await asyncio.sleep(0.4)
        return "fine"

    workflow = DotFlow(quiet(executor=executor()))
    workflow.task.add([spin, wait, fine])
    workflow.start(mode="parallel", keep_going=True)

    assert [task.status for task in workflow.result_task()] == [
        TypeStatus.FAILED,
        TypeStatus.FAILED,
        TypeStatus.COMPLETED,
    ]
    assert [task.errors[-1].exception for task in workflow.result_task()[:2]] == ["TimeoutError"] * 2
    assert workflow.result_storage()[2] == "fine"


@pytest.mark.slow
@pytest.mark.parametrize("executor", [ExecutorThread, ExecutorAsync])
def test_a_loop_that_a_step_has_blocked_ends_with_that_step(
    executor: type, quiet: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    """Its thread ends with it, and asyncio logs nothing. Meanwhile the run has ended."""
    begun, freed, before = threading.Event(), threading.Event(), set(threading.enumerate())

    @action(timeout=0.1, retry=100, retry_delay=0, retry_on=TimeoutError)
    async def block() -> None:
        assert not begun.is_set()
        begun.set()  # in the first attempt, unless the machine is too busy to begin in time
        freed.wait(60)

    @action
    async def fine() -> None:
        pass

    workflow = DotFlow(quiet(executor=executor()))
    workflow.task.add([block, fine])
    workflow.start(mode="parallel", keep_going=True)
    left = {thread for thread in threading.enumerate() if thread.name == "dotflow-loop"} - before
    freed.set()
    for thread in left:
        thread.join(45)

    assert left
    assert not any(thread.is_alive() for thread in left)
    gc.collect()
    assert caplog.messages == []
