"""Ctrl-C, SIGTERM and kill -9: completed steps are kept, no process is left, and the caller gets the interrupt."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dotflow import DotFlow, action
from dotflow.core.types.status import TypeStatus
from tests.integration.children import SOON, Script, Scripts

MakeWorkflow = Callable[..., DotFlow]

pytestmark = pytest.mark.processes


# Ctrl-C

SITUATIONS = {
    "sequential": ("workflow.task.add([done, stuck, never])", "sequential"),
    "sequential, with a timeout": ("workflow.task.add([done, patient, never])", "sequential"),
    "sequential, isolated": ("workflow.task.add([done, isolated, never])", "sequential"),
    "a coroutine": ("workflow.task.add([done, coroutine, never])", "sequential"),
    "parallel": ("workflow.task.add([done, stuck, hog])", "parallel"),
    "groups": ('workflow.task.add(done, group_name="a").add([stuck, never], group_name="b")', "sequential"),
    "background": ("workflow.task.add([done, stuck, never])", "background"),
    "background groups": ('workflow.task.add(done, group_name="a").add([hog, never], group_name="b")', "background"),
    "retry delay": ("workflow.task.add([done, failing, never])", "sequential"),
    "retry delay in parallel": ("workflow.task.add([done, failing])", "parallel"),
    "retry delay in the background": ("workflow.task.add([done, failing, never])", "background"),
}

#: Those that differ from another one in their mode or in a timeout only.
SIMILAR = (
    "sequential, with a timeout",
    "background groups",
    "retry delay in parallel",
    "retry delay in the background",
)

INTERRUPTED = """
from dotflow.abc.history import History
from dotflow.core.events import TaskCompleted

RUN, MODE = {run!r}, {mode!r}

class Recorded(History):
    def record(self, run_id, event):
        if isinstance(event, TaskCompleted):
            Path("recorded").touch()

def tell():
    while not Path("recorded").exists():  # the value of `done`, which may run in another process
        time.sleep(0.01)
    os.write(1, b"ready\\n")

def hang(seconds=60):
    if Path("again").exists():
        return "this time"
    tell()
    time.sleep(seconds)

@action
def done():
    with open("done", "a") as file:
        file.write("x")
    return "done"

stuck = action(hang)
patient = action(timeout=50)(lambda: hang())
isolated = action(isolate=True)(lambda: hang())

@action
def hog():
    hang(0)
    while not Path("again").exists():
        sum(range(10**11))
    return "this time"

@action
async def coroutine():
    if Path("again").exists():
        return "this time"
    tell()
    await asyncio.sleep(60)

@action(retry=2, retry_delay=60)
def failing():
    if Path("again").exists():
        return "this time"
    tell()
    raise ValueError("before the delay")

@action
def never():
    return "never"

calls = []
workflow = DotFlow(config(history=Recorded()))
exec(RUN)
try:
    workflow.start(mode=MODE, on_success=lambda tasks: calls.append("success"),
                   on_failure=lambda tasks: calls.append("failure")).wait()
except KeyboardInterrupt:
    tasks, status = told(workflow.result_task()), workflow.result().status
    Path("again").touch()
    workflow.start(mode=MODE, resume=True).wait()
    say(tasks=tasks, status=status, calls=calls, resumed=told(workflow.result_task()), done=Path("done").read_text())
    raise
"""


@pytest.mark.exhaustive(keep_every=9)
@pytest.mark.parametrize(
    "situation",
    [
        pytest.param(
            name,
            marks=[
                *([pytest.mark.start_method] if "parallel" in name or "groups" in name else []),
                *([pytest.mark.exhaustive] if name in SIMILAR else []),
            ],
        )
        for name in SITUATIONS
    ],
)
def test_ctrl_c_stops_the_run(situation: str, scripts: Scripts) -> None:
    """Ctrl-C ends the workers, keeps completed steps, fails interrupted ones and reaches the caller. A second run with
    resume=True does the rest."""
    run, mode = SITUATIONS[situation]
    ready = 2 if "hog])" in run else 1

    with scripts.start(INTERRUPTED.format(run=run, mode=mode)) as script:
        for _ in range(ready):
            assert script.line() == "ready"
        time.sleep(0.1)
        os.killpg(script.process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        end = script.end()
        left = script.left_behind()

    facts = end.facts
    assert facts["tasks"][0] == ["Completed", "done", []]
    for status, value, errors in facts["tasks"][1 : 1 + ready]:
        assert [status, value] == ["Failed", None]
        assert errors[-1][0] == "KeyboardInterrupt"
        assert "interrupted" in errors[-1][1]
    assert [task[0] for task in facts["tasks"][1 + ready :]] == ["Not started"] * (len(facts["tasks"]) - 1 - ready)
    assert facts["status"] == "Failed"
    assert facts["calls"] == ["failure"]
    assert [task[0] for task in facts["resumed"]] == ["Completed"] * len(facts["tasks"])
    assert facts["done"] == "x"  # the finished step did not run again
    assert end.code == -signal.SIGINT
    assert left == []


STUCK_IN_BACKGROUND = {
    "sleep": "def step(): ready(); time.sleep(60)",
    "program": "def step(): subprocess.run(['sh', '-c', 'sleep 60 & echo ready; sleep 60'])",
    "isolated": "def step(): ready(); time.sleep(60)",
    "isolated program": "def step(): subprocess.run(['sh', '-c', 'sleep 60 & echo ready; sleep 60'])",
    "coroutine": "async def step(): ready(); await asyncio.sleep(60)",
    "coroutine that blocks": "async def step(): subprocess.run(['sh', '-c', 'sleep 60 & echo ready; sleep 60'])",
}

#: How the script goes on, and how many runs it has.
ENDINGS = {
    "waits": ("runs[0].wait()", 1),
    "ends": ("", 1),
    "ends, two runs": ("", 2),
    "does something else, two runs": ("signal.pause()", 2),
}


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize(
    "ending",
    [
        "ends",
        "does something else, two runs",
        pytest.param("waits", marks=pytest.mark.exhaustive),
        pytest.param("ends, two runs", marks=pytest.mark.exhaustive),
    ],
)
def test_ctrl_c_ends_a_script_with_background_runs(ending: str, scripts: Scripts) -> None:
    """One Ctrl-C ends a script and its background runs soon, also after its last line. Its exit handlers run, it
    ends by SIGINT, and nothing is left behind."""
    last, count = ENDINGS[ending]
    started: dict[str, Script] = {}
    for what, step in STUCK_IN_BACKGROUND.items():
        folder = scripts.folder / what.replace(" ", "_")
        folder.mkdir()
        started[what] = Scripts(folder, None).start(f"""
import atexit
atexit.register(lambda: print("exit handler"))

def ready():
    os.write(1, b"ready\\n")

{step}

workflow = DotFlow(config())
workflow.task.add(action(isolate={what.startswith("isolated")})(step))
runs = [workflow.start(mode="background") for _ in range({count})]
ready()
{last}
""")
    faults = {}
    for what, script in started.items():
        with script:
            lines = {script.line() for _ in range(count + 1)}
            script.send(signal.SIGINT)
            end = script.end()
            left = script.left_behind()
        found = [
            lines,
            end.code,
            end.out,
            end.err.splitlines()[-1:],
            end.err.count("KeyboardInt") - end.err.count("Exception ignored"),  # right at the end Python prints it, too
            left,
        ]
        if found != [{"ready"}, -signal.SIGINT, "exit handler\n", ["KeyboardInterrupt"], 1, []]:
            faults[what] = [*found, end.err]
    assert faults == {}


@pytest.mark.start_method
def test_ctrl_c_reaches_who_awaits_a_run(scripts: Scripts) -> None:
    """Ctrl-C in asyncio.run() around `await workflow.astart()` ends the run and then the program."""
    with scripts.start("""
@action
def stuck():
    os.write(1, b"ready\\n")
    for _ in range(6000):
        time.sleep(0.01)

async def main():
    await workflow.astart(mode="parallel")

workflow = DotFlow(config())
workflow.task.add([stuck, stuck])
try:
    asyncio.run(main())
except KeyboardInterrupt:
    say(tasks=told(workflow.result_task()))
    raise
""") as script:
        assert [script.line(), script.line()] == ["ready", "ready"]
        script.send(signal.SIGINT)
        end = script.end()
        left = script.left_behind()

    assert [task[0] for task in end.facts["tasks"]] == ["Failed", "Failed"]
    assert end.code == -signal.SIGINT
    assert left == []


@pytest.mark.start_method
def test_an_impatient_ctrl_c_leaves_nothing_either(scripts: Scripts) -> None:
    """Repeated Ctrl-C during the cleanup ends the program, and no process is left."""
    with scripts.start("""
@action
def stuck():
    child = subprocess.Popen(["sleep", "60"])
    os.write(1, b"ready\\n")
    time.sleep(60)

workflow = DotFlow(config())
workflow.task.add([stuck] * 4)
workflow.start(mode="parallel")
""") as script:
        for _ in range(4):
            assert script.line() == "ready"
        for _ in range(20):
            script.send(signal.SIGINT)
            time.sleep(0.003)
        end = script.end()
        left = script.left_behind()

    assert end.code in (-signal.SIGINT, 1)
    assert left == []


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel", "groups"])
def test_a_step_that_raises_keyboard_interrupt_stops_the_run(mode: str, make_workflow: MakeWorkflow) -> None:
    """KeyboardInterrupt in a step is not retried: it stops the run and reaches the caller."""

    @action(retry=3, retry_delay=0)
    def interrupt() -> None:
        raise KeyboardInterrupt

    @action
    def never() -> str:
        return "never"

    workflow = make_workflow()
    workflow.task.add([interrupt, never])
    if mode == "groups":
        workflow.task.add([action(lambda: time.sleep(60)), never], group_name="other")
    if mode == "parallel":
        workflow.task.clear().add([interrupt, action(lambda: time.sleep(60))])

    with pytest.raises(KeyboardInterrupt):
        workflow.start(mode="sequential" if mode == "groups" else mode, keep_going=True).wait()

    first, second, *_ = workflow.result_task()
    assert first.status is TypeStatus.FAILED
    assert [error.exception for error in first.errors] == ["KeyboardInterrupt"]
    assert "interrupted" in first.errors[0].message
    assert second.status is (TypeStatus.FAILED if mode == "parallel" else TypeStatus.NOT_STARTED)
    assert workflow.result().status == "Failed"


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_coroutine_that_raises_keyboard_interrupt_stops_the_run(mode: str, make_workflow: MakeWorkflow) -> None:
    """KeyboardInterrupt in a coroutine stops the run as it does in a function, with and without a timeout."""
    for timeout in (0, 5):

        @action(timeout=timeout)
        async def interrupt() -> None:
            raise KeyboardInterrupt

        workflow = make_workflow()
        workflow.task.add(interrupt)
        with pytest.raises(KeyboardInterrupt):
            workflow.start(mode=mode).wait(60)

        assert workflow.result_task()[0].errors[-1].exception == "KeyboardInterrupt"


# SIGTERM and kill -9

STUCK = """
MODE, WAY = {mode!r}, {way!r}

@action(isolate=WAY == "isolated")
def hog():
    os.write(1, b"ready\\n")
    while True:
        pow(3, 200_000_000)
        sum(range(10**10))

@action(isolate=WAY == "isolated")
def parent():
    child = subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"])
    os.write(1, b"ready\\n")
    child.wait()

@action(isolate=WAY == "isolated")
def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.write(1, b"ready\\n")
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

@action
def idle():
    return "idle"

def run(steps):
    workflow = DotFlow(config())
    workflow.task.add(steps)
    if WAY == "groups":
        workflow.task.clear()
        for step in steps:
            workflow.task.add([idle, step], group_name=step.name)
    return workflow.start(mode=MODE)

if WAY == "isolated":
    threads = [threading.Thread(target=run, args=([step],)) for step in (hog, parent, deaf)]
    for thread in threads:
        thread.start()
elif WAY == "two at once":
    threads = [threading.Thread(target=run, args=([step, idle],)) for step in (hog, parent, deaf)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
else:
    run([hog, parent, deaf, idle] if WAY == "parallel" else [hog, parent, deaf])
"""


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.start_method
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize(
    ("way", "mode"),
    [("parallel", "parallel"), ("groups", "sequential"), ("isolated", "sequential"), ("two at once", "parallel")],
    ids=["parallel", "groups", "isolated", "two at once"],
)
def test_a_parent_that_is_gone_leaves_nothing(signum: int, way: str, mode: str, scripts: Scripts) -> None:
    """The workers of a killed caller end, with all that they have started: one that is stuck in C code with the GIL,
    one with grandchildren, and one that blocks every signal."""
    with scripts.start(STUCK.format(mode=mode, way=way)) as script:
        for _ in range(3):
            assert script.line() == "ready"
        grown = script.has_grown_to(6)
        script.send(signum)
        code = script.process.wait(SOON)
        left = script.left_behind()

    assert grown  # the script, three workers, a grandchild and its child
    assert code == -signum
    assert left == []


@pytest.mark.start_method
def test_sigterm_keeps_the_programs_meaning(scripts: Scripts) -> None:
    """A program's own SIGTERM handler is called during a run, in every mode, and is still there afterwards."""
    facts = scripts.run("""
calls = []
def handler(signum, frame):
    calls.append(signum)
    with open("handled", "a") as file:
        file.write("x")
signal.signal(signal.SIGTERM, handler)
Path("handled").touch()

@action
def step():
    before = os.path.getsize("handled")
    os.kill(int(Path("parent").read_text()), signal.SIGTERM)
    while os.path.getsize("handled") == before:
        time.sleep(0.01)
    return "done"

Path("parent").write_text(str(os.getpid()))
workflow = DotFlow(config())
workflow.task.add([step, step])
for mode in ("sequential", "parallel", "background"):
    workflow.start(mode=mode).wait()
    calls.append(workflow.result_storage())
say(calls=calls, kept=signal.getsignal(signal.SIGTERM) is handler)
""").facts

    results = [call for call in facts["calls"] if isinstance(call, list)]
    assert results == [["done", "done"]] * 3
    assert facts["calls"].count(signal.SIGTERM) >= 5  # two that come at the same time may be seen as one
    assert facts["kept"]


@pytest.mark.start_method
def test_a_step_sees_no_handlers_of_the_caller(scripts: Scripts, tmp_path: Path) -> None:
    """The program's handlers for SIGTERM and SIGINT do not run in its workers."""
    facts = scripts.run("""
def handler(signum, frame):
    Path(f"handled_{os.getpid()}").touch()
signal.signal(signal.SIGTERM, handler)
signal.signal(signal.SIGINT, handler)

@action
def step():
    return [signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            signal.getsignal(signal.SIGINT) is signal.default_int_handler]

workflow = DotFlow(config())
workflow.task.add(step)
workflow.start(mode="parallel")
say(found=workflow.result_storage())
""").facts

    assert facts["found"] == [[True, True]]
    assert not list(tmp_path.glob("handled_*"))


def test_a_script_ends_with_its_background_run(scripts: Scripts) -> None:
    """A script whose last line starts a run in the background ends when the run does, not before."""
    end = scripts.run("""
@action
def slow():
    while not Path("printed").exists():
        time.sleep(0.01)
    Path("done").touch()

import atexit
atexit.register(lambda: say(done=Path("done").exists()))
for other in ("default", "other"):
    workflow = DotFlow(config())
    workflow.task.add(slow).add(slow, group_name=other)
    workflow.start(mode="background")
print("last line", Path("done").exists(), flush=True)
Path("printed").touch()
""")

    assert end.out.splitlines()[0] == "last line False"
    assert end.facts["done"]
