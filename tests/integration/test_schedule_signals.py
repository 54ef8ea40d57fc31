"""A schedule and its signals, in real processes: the first lets the active run end, the second stops it."""

import contextlib
import os
import signal
import subprocess

import pytest

from tests.integration.children import Script, Scripts
from tests.marks import each_once

pytestmark = pytest.mark.processes

PROGRAM = """
from dotflow.providers import SchedulerCron
OVERLAP, MODE, BEFORE = {overlap!r}, {mode!r}, {before!r}

def work(seconds):
    with open("begun", "a") as file:
        file.write("x")
    os.write(1, b"begun\\n")
    until = time.monotonic() + seconds
    while time.monotonic() < until and not Path("let_go").exists():
        time.sleep(0.01)
    return "whole"

@action
def step():
    return work(60)

def handler(signum, frame):
    os.write(1, b"handled %d\\n" % signum)

if BEFORE:
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]

def tell(ended):
    after = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    say(ended=ended, tasks=told(workflow.result_task()), put_back=after == before, begun=Path("begun").read_text())

def tell_failure(tasks):
    os.write(1, b"failed %s\\n" % tasks[0].errors[-1].exception.encode())

scheduler = SchedulerCron("* * * * * *", overlap=OVERLAP)
workflow = DotFlow(config(scheduler=scheduler))
workflow.task.add(step)
"""

SCHEDULE = """
try:
    workflow.schedule(mode=MODE, on_failure=tell_failure)
except KeyboardInterrupt:
    tell("interrupted")
    raise
tell("returned")
"""

WAYS = [("skip", "sequential"), ("queue", "background"), ("parallel", "sequential"), ("skip", "parallel")]
SIGNALS = [signal.SIGINT, signal.SIGTERM]
every_way = pytest.mark.parametrize(("overlap", "mode", "signum"), each_once(WAYS, SIGNALS))
both_signals = pytest.mark.parametrize("signum", SIGNALS, ids=["SIGINT", "SIGTERM"])


def start(scripts: Scripts, overlap: str, mode: str, source: str = SCHEDULE, before: bool = False) -> Script:
    """Starts a schedule, and waits until its first run has begun."""
    script = scripts.start(PROGRAM.format(overlap=overlap, mode=mode, before=before) + source)
    assert script.line() == "begun"
    return script


def let_go(scripts: Scripts) -> None:
    (scripts.folder / "let_go").touch()


def start_and_warn(
    scripts: Scripts, overlap: str, mode: str, signum: int, source: str = SCHEDULE, before: bool = False
) -> Script:
    """Starts a schedule, and sends a first signal in its first run; its notice is on stderr."""
    script = start(scripts, overlap, mode, source, before)
    script.send(signum)
    assert "Press Ctrl-C again" in script.error_line()
    return script


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line != "begun"]


@pytest.mark.exhaustive(keep_every=4)
@every_way
def test_the_first_lets_the_run_end(overlap: str, mode: str, signum: int, scripts: Scripts) -> None:
    """No new run begins, the active one is not disturbed; schedule() returns with the earlier handlers."""
    with start_and_warn(scripts, overlap, mode, signum) as script:
        let_go(scripts)
        end = script.end()
        left = script.left_behind()

    facts = end.facts
    assert facts["ended"] == "returned"
    assert facts["tasks"] == [["Completed", "whole", []]]
    assert facts["put_back"]
    assert end.code == 0
    assert left == []


@pytest.mark.exhaustive(keep_every=4)
@every_way
def test_the_second_stops_it(overlap: str, mode: str, signum: int, scripts: Scripts) -> None:
    """The run is stopped, its task is FAILED, and the signal has its earlier effect."""
    with start_and_warn(scripts, overlap, mode, signum) as script:
        script.send(signum)
        end = script.end()
        left = script.left_behind()

    exception = "RunCancelled" if overlap == "parallel" else "KeyboardInterrupt"
    assert end.code == -signum
    assert f"failed {exception}" in end.out.splitlines()
    if signum == signal.SIGINT:
        assert end.facts["ended"] == "interrupted"
        assert end.facts["tasks"][0][0] == "Failed"
        assert end.facts["put_back"]
    assert left == []


def test_the_second_calls_the_programs_own_handler(scripts: Scripts) -> None:
    """A program's SIGTERM handler is called after the run was stopped, and then schedule() returns."""
    with start_and_warn(scripts, "skip", "sequential", signal.SIGTERM, before=True) as script:
        script.send(signal.SIGTERM)
        end = script.end()

    first, second, *_ = lines_of(end.out)
    assert [first, second] == ["failed KeyboardInterrupt", f"handled {signal.SIGTERM}"]
    assert end.facts["ended"] == "returned"
    assert end.facts["put_back"]
    assert end.code == 0


IDLE = """
from dotflow import clock
wait = clock.wait

def tell_and_wait(*arguments, **named):
    os.write(1, b"waits\\n")
    return wait(*arguments, **named)

clock.wait = tell_and_wait
scheduler = SchedulerCron("0 0 1 1 *", overlap=OVERLAP)
workflow.config.scheduler = scheduler
Path("begun").touch()
os.write(1, b"begun\\n")
signal.alarm(0)
try:
    workflow.schedule()
except BaseException as error:
    say(ended=repr(error))
    raise
say(ended="returned", put_back=[signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before)
"""


@both_signals
def test_the_first_ends_a_schedule_that_waits(signum: int, scripts: Scripts) -> None:
    """Without an active run it ends at once, and normally."""
    with start(scripts, "skip", "sequential", IDLE) as script:
        assert script.line() == "waits"
        script.send(signum)
        end = script.end()

    assert end.facts == {"ended": "returned", "put_back": True}
    assert end.code == 0


SWALLOWING = """
@action
def deaf():
    try:
        return work(60)
    except KeyboardInterrupt:
        return "interrupted"

workflow.config.executor = None  # in the main thread, whatever the start method
workflow.task.clear().add(deaf)
"""


def test_a_step_that_handles_ctrl_c_sees_only_the_second(scripts: Scripts) -> None:
    """The first signal raises nothing in a step."""
    with start_and_warn(scripts, "skip", "sequential", signal.SIGINT, SWALLOWING + SCHEDULE) as script:
        script.send(signal.SIGINT)
        end = script.end()

    assert end.facts["ended"] == "interrupted"
    assert end.facts["tasks"] == [["Completed", "interrupted", []]]
    assert end.facts["begun"] == "x"


BROKEN = """
def stop_all(tasks):
    sys.exit(7)

@action
def quick():
    return 1

workflow.task.clear().add(quick)
os.write(1, b"begun\\n")
try:
    workflow.schedule(on_success=stop_all)
except SystemExit as error:
    say(code=error.code, put_back=[signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before)
"""


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("overlap", ["skip", "parallel"])
def test_handlers_are_restored_when_it_raises(overlap: str, scripts: Scripts) -> None:
    """sys.exit() in a callback ends the schedule, and its handlers."""
    with start(scripts, overlap, "sequential", BROKEN) as script:
        end = script.end()

    assert end.facts == {"code": 7, "put_back": True}


FORKING = """
@action
def parent():
    child = os.fork()
    if not child:
        try:
            os.write(1, b"child %d\\n" % os.getpid())
            time.sleep(60)
        except KeyboardInterrupt:
            os._exit(9)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    scheduler.stop()
    return code

workflow.config.executor = None  # in the main thread, whatever the start method
workflow.task.clear().add(parent)
os.write(1, b"begun\\n")
workflow.schedule()
say(tasks=told(workflow.result_task()))
"""


@pytest.mark.exhaustive(keep_every=2)
@both_signals
def test_a_child_of_a_step_is_not_kept_alive(signum: int, scripts: Scripts) -> None:
    """A child of a step inherits the schedule's handlers, but signals have their usual effect."""
    with start(scripts, "skip", "sequential", FORKING) as script:
        child = int(script.line().removeprefix("child "))
        os.kill(child, signum)
        end = script.end()

    assert end.facts["tasks"] == [["Completed", -signal.SIGTERM if signum == signal.SIGTERM else 9, []]]


THREAD = """
thread = threading.Thread(target=workflow.schedule)
thread.start()
while not Path("begun").exists():
    time.sleep(0.01)
kept = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
scheduler.stop()
Path("let_go").touch()
thread.join(45)
say(kept=kept, alive=thread.is_alive(), tasks=told(workflow.result_task()))
"""


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("overlap", ["skip", "queue", "parallel"])
def test_in_another_thread_it_touches_no_signal(overlap: str, scripts: Scripts) -> None:
    """A schedule in another thread works without signals, and stop() ends it."""
    with scripts.start(PROGRAM.format(overlap=overlap, mode="sequential", before=False) + THREAD) as script:
        end = script.end()

    assert end.facts == {"kept": True, "alive": False, "tasks": [["Completed", "whole", []]]}


STORM = """
@action
def quick():
    os.write(1, b"ran\\n")

workflow.task.clear().add(quick)
os.write(1, b"begun\\n")
try:
    workflow.schedule()
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("overlap", ["skip", "parallel"])
def test_a_storm_of_signals_ends_it(overlap: str, scripts: Scripts) -> None:
    """Signals at any moment, during cleanup too, neither hang it nor leave anything."""
    with start(scripts, overlap, "sequential", STORM) as script:
        assert script.line() == "ran"
        for _ in range(30):
            script.send(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                script.process.wait(0.002)
        end = script.end()
        left = script.left_behind()

    assert end.code in (0, 1, -signal.SIGINT)
    assert left == []
