"""Worker processes: what travels to them and back, their deaths, locks, output and number."""

import atexit
import errno
import gc
import itertools
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dotflow import Config, Context, DotFlow, action
from dotflow.core.types.status import TypeStatus
from dotflow.processes import process_session
from dotflow.processes.channel import Channel
from dotflow.processes.start import Fork
from dotflow.processes.worker import WorkerProcess
from dotflow.providers import ExecutorProcess, LogDefault
from tests.integration.children import Scripts

WAIT = 20.0  # seconds, for what happens at once

MakeWorkflow = Callable[..., DotFlow]

pytestmark = pytest.mark.processes


# What travels


@pytest.mark.start_method
def test_a_script_needs_no_main_guard(scripts: Scripts) -> None:
    """A script without `if __name__ == "__main__"` runs once; what it defines works in workers and comes back."""
    facts = scripts.run("""
import dataclasses, enum
print("the script runs")

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int
    colour: Colour = Colour.RED

class Failure(Exception):
    pass

def closure(factor):
    @action(retry=2, retry_delay=0)
    def inner(initial_context):
        return Point(initial_context.storage.x * factor)
    return inner

@action
def named():
    return helper() + OFFSET

def helper():
    return 40

OFFSET = 2

@action
class Steps:
    base = 10

    @action
    def first(self):
        return self.base

    @action
    def second(self, previous_context):
        return Point(previous_context.storage + 1)

@action
def raises():
    raise Failure("of the script's own")

@action
async def coroutine():
    await asyncio.sleep(0)
    return Colour.RED

workflow = DotFlow(config())
partial = action(functools.partial(max, 3, 4))
workflow.task.add([closure(3), named, action(lambda: "lambda"), Steps, raises, coroutine, partial],
                  initial_context=Point(7))
workflow.start(mode="parallel", keep_going=True)
point, named_value, lambda_value, steps, nothing, red, most = workflow.result_storage()
say(
    point=[isinstance(point, Point), point == Point(21)],
    named=named_value, lambda_=lambda_value,
    steps=[steps[0].storage, isinstance(steps[1].storage, Point), steps[1].storage.x],
    error=[workflow.result_task()[4].errors[0].exception, workflow.result_task()[4].errors[0].message],
    red=red is Colour.RED, most=most,
)
""")

    assert facts.out.count("the script runs") == 1
    assert facts.facts == {
        "point": [True, True],
        "named": 42,
        "lambda_": "lambda",
        "steps": [10, True, 11],
        "error": ["Failure", "of the script's own"],
        "red": True,
        "most": 4,
    }


@pytest.mark.start_method
def test_the_scripts_classes_stay_themselves(scripts: Scripts) -> None:
    """As arguments, as what items share and beside the run's parameters; a step that can't be loaded is alone."""
    facts = scripts.run("""
from dotflow.providers import ExecutorProcess

class Order:
    pass

class Unreadable:
    def __reduce__(self):
        return int, ("no number",)

@action
def orders():
    return [Order()]

@action
def look(orders, params, number=0):
    return [type(orders[0]) is Order, dict(params), number]

workflow = DotFlow(config(executor=ExecutorProcess(1, METHOD)), params={"day": 1})
workflow.task.add(orders).add(look).add(look, name="again").add(look, name="items", each={"number": [1, 2]})
workflow.start(mode="parallel")
values = workflow.result_storage()[1:]

take = action(lambda initial_context: 1)
workflow = DotFlow(config(executor=ExecutorProcess(1, METHOD)))
workflow.task.add(take, initial_context=Unreadable()).add(take, initial_context=2)
workflow.start(mode="parallel", keep_going=True)
say(values=values, statuses=[str(task.status) for task in workflow.result_task()])
""").facts

    first, second = [True, {"day": 1}, 0], [[True, {"day": 1}, number] for number in (1, 2)]
    assert facts["values"] == [first, first, second]
    assert facts["statuses"][1] == "Completed"


@pytest.mark.start_method
def test_modules_beside_the_script_and_its_arguments_are_there(scripts: Scripts, tmp_path: Path) -> None:
    """A worker imports what the script can import, and sees its arguments, folder and environment."""
    (tmp_path / "beside.py").write_text("from dotflow import action\n@action\ndef step():\n    return __name__\n")

    facts = scripts.run(
        """
os.environ["ADDED"] = "yes"
@action
def look():
    import beside
    return [sys.argv[1:], os.getcwd(), os.environ.get("ADDED"), beside.step()]

workflow = DotFlow(config())
workflow.task.add([look, "beside.step"])
workflow.start(mode="parallel")
say(found=workflow.result_storage())
""",
        "--flag",
    ).facts

    assert facts["found"] == [[["--flag"], str(tmp_path), "yes", "beside"], "beside"]


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize(
    "kind",
    [
        "bytes",
        pytest.param("bytearray", marks=pytest.mark.exhaustive),
        pytest.param("PickleBuffer", marks=pytest.mark.start_method),
    ],
)
def test_a_result_of_50_mb_comes_back(kind: str, scripts: Scripts) -> None:
    """It is whole and reaches the next step, and nothing deadlocks."""
    facts = scripts.run(
        """
import pickle
SIZE, KIND = 50_000_000, sys.argv[1]
MAKE = {"bytes": bytes, "bytearray": bytearray, "PickleBuffer": lambda data: Array(data)}

class Array:
    def __init__(self, data):
        self.data = data
    def __reduce_ex__(self, protocol):
        return Array, (pickle.PickleBuffer(self.data),)
    def __len__(self):
        return len(self.data)
    def __getitem__(self, place):
        return self.data[place]

@action
def make():
    data = bytearray(SIZE)
    data[0], data[SIZE // 2], data[-1] = 1, 2, 3
    return data if KIND == "bytearray" else MAKE[KIND](data)

@action
def look(previous_context):
    data = previous_context.storage
    return [len(data), data[0], data[SIZE // 2], data[-1]]

@action(isolate=True)
def look_elsewhere(previous_context, initial_context):
    return look(previous_context)

workflow = DotFlow(config())
workflow.task.add([make, look], group_name="lane")
workflow.task.add([make, look_elsewhere], group_name="isolated")
workflow.start()
made, near, made_again, far = workflow.result_storage()
say(types=[type(made).__name__, type(made_again).__name__], near=near, far=far, here=look(Context(made)),
    errors=[[e.exception, e.message] for t in workflow.result_task() for e in t.errors])
""",
        kind,
    ).facts

    kinds = {"bytes": "bytes", "bytearray": "bytearray", "PickleBuffer": "Array"}
    assert facts["errors"] == []
    assert facts["types"] == [kinds[kind]] * 2
    assert facts["near"] == facts["far"] == facts["here"] == [50_000_000, 1, 2, 3]


@pytest.mark.start_method
def test_a_result_that_cannot_be_pickled_is_its_tasks_error(scripts: Scripts) -> None:
    """A result that can't travel, or that raises as it travels, fails its task with an error that says so."""
    facts = scripts.run("""
class Explodes:
    def __reduce__(self):
        raise RuntimeError("not to be pickled")

def explode():
    raise RuntimeError("not to be unpickled")

class Lands:
    def __reduce__(self):
        return explode, ()

class Exits:
    def __reduce__(self):
        raise SystemExit(3)

@action
def a_lock():
    return threading.Lock()

@action
def a_generator():
    return (n for n in range(3))

@action
def explodes():
    return {"deep": [Explodes()]}

@action
def lands():
    return Lands()

@action
def exits():
    return Exits()

@action(retry=2, retry_delay=0)
def fine_the_second_time():
    if Path("tried").exists():
        return "fine"
    Path("tried").touch()
    return threading.Lock()

workflow = DotFlow(config())
workflow.task.add([a_lock, a_generator, explodes, lands, exits, fine_the_second_time])
workflow.start(mode="parallel", keep_going=True)
say(tasks=told(workflow.result_task()))
""").facts

    names = ["a_lock", "a_generator", "explodes", "lands", "exits"]
    reasons = ["lock", "generator", "not to be pickled", "not to be unpickled", "SystemExit"]
    for name, reason, (status, value, errors) in zip(names, reasons, facts["tasks"], strict=False):
        assert [status, value] == ["Failed", None], name
        assert errors[0][0] == "NotPicklable", name
        assert name in errors[0][1]
        assert reason in errors[0][1]
    assert facts["tasks"][5][:2] == ["Completed", "fine"]
    assert facts["tasks"][5][2][0][0] == "NotPicklable"


@pytest.mark.start_method
def test_an_exception_need_not_be_picklable(scripts: Scripts) -> None:
    """The name, message and traceback of any exception come back."""
    facts = scripts.run("""
class Holds(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.lock = threading.Lock()

class Refuses(Exception):
    def __reduce__(self):
        raise RuntimeError("no")

class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no words")

@action
def holds():
    raise Holds(code=7)

@action
def refuses():
    raise Refuses("I refuse") from Holds(code=8)

@action
def speechless():
    raise Speechless()

@action
def group():
    raise ExceptionGroup("several", [Holds(code=9), ValueError("x")])

workflow = DotFlow(config())
workflow.task.add([holds, refuses, speechless, group])
workflow.start(mode="parallel", keep_going=True)
say(tasks=told(workflow.result_task()), traces=[t.errors[0].traceback for t in workflow.result_task()])
""").facts

    holds, refuses, speechless, group = [task[2][0] for task in facts["tasks"]]
    assert holds == ["Holds", "code 7"]
    assert refuses == ["Refuses", "I refuse"]
    assert speechless[0] == "Speechless"
    assert group[0] == "ExceptionGroup"
    assert "raise Holds(code=7)" in facts["traces"][0]
    assert "code 8" in facts["traces"][1]
    assert "code 9" in facts["traces"][3]


@pytest.mark.start_method
def test_an_initial_context_that_cannot_be_pickled(scripts: Scripts, start_method: str | None) -> None:
    """With fork it does not travel; otherwise the tasks that have it, and no others, fail with a clear error."""
    facts = scripts.run("""
lock = threading.Lock()

@action
def use(initial_context):
    with initial_context.storage:
        return "locked"

@action
def other():
    return "other"

workflow = DotFlow(config())
workflow.task.add(use, initial_context=lock)
workflow.task.add(other)
workflow.start(mode="parallel", keep_going=True)
say(tasks=told(workflow.result_task()))
""").facts

    use, other = facts["tasks"]
    assert other == ["Completed", "other", []]
    if start_method in (None, "fork"):
        assert use == ["Completed", "locked", []]
    else:
        assert use[0] == "Failed"
        assert use[2][0][0] == "NotPicklable"
        assert "'use'" in use[2][0][1]
        assert "lock" in use[2][0][1]


# Workers that die

DEATHS = {
    "exit 0": ("os._exit(0)", "exit code 0"),
    "exit 3": ("os._exit(3)", "exit code 3"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "abort": ("os.abort()", "SIGABRT"),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)", "SIGTERM"),
    "its own group": ("os.killpg(0, signal.SIGKILL)", "SIGKILL"),
    "with a grandchild": ("child = subprocess.Popen(['sleep', '60']); os._exit(4)", "exit code 4"),
}


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.start_method
@pytest.mark.parametrize("death", DEATHS)
def test_a_dead_worker_fails_its_task_and_nothing_else(death: str, scripts: Scripts) -> None:
    """A worker's death is its task's WorkerDied error; a retry and the rest of its lane get a new worker."""
    how, cause = DEATHS[death]

    facts = scripts.run(f"""
@action
def first():
    return os.getpid()

@action(retry=2, retry_delay=0)
def dies_once(previous_context):
    if not Path("died").exists():
        Path("died").touch()
        {how}
    return [previous_context.storage, os.getpid()]

@action
def dies():
    {how}

@action
def last(previous_context):
    return previous_context.storage

workflow = DotFlow(config())
workflow.task.add([first, dies_once, dies, last], group_name="dying")
workflow.task.add([first, last], group_name="living")
workflow.start(keep_going=True)
say(tasks=told(workflow.result_task()))
""").facts

    first, dies_once, dies, last, other, other_last = facts["tasks"]
    assert first[0] == "Completed"
    assert dies_once[0] == "Completed"
    assert dies_once[1][0] == first[1]  # the context came along
    assert dies_once[1][1] != first[1]  # into a new worker
    assert [error[0] for error in dies_once[2]] == ["WorkerDied"]
    assert dies[0] == "Failed"
    assert dies[2][0][0] == "WorkerDied"
    assert cause in dies[2][0][1]
    assert "'dies'" in dies[2][0][1]
    assert last == ["Completed", None, []]
    assert other_last[1] == other[1]


@pytest.mark.start_method
def test_a_worker_that_dies_while_idle_is_replaced(scripts: Scripts) -> None:
    """A worker that ends between two steps is replaced, and the second step notices nothing."""
    facts = scripts.run("""
def die():
    while not Path("now").exists():
        time.sleep(0.01)
    os._exit(9)

def lives(pid):
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

class Kills(Log):
    def info(self, task):
        pass

    def error(self, task):  # before the delay
        Path("now").touch()
        while lives(Path("worker").read_text()):
            time.sleep(0.01)

@action
def first():
    Path("worker").write_text(str(os.getpid()))
    threading.Thread(target=die, daemon=True).start()
    return "first"

@action(retry=3, retry_delay=0.1)
def second(previous_context):
    if not Path("tried").exists():
        Path("tried").touch()
        raise ValueError("once more")
    return previous_context.storage

@action
def other():
    while not Path("now").exists():
        time.sleep(0.01)

workflow = DotFlow(config(log=Kills()))
workflow.task.add([first, second], group_name="a")
workflow.task.add(other, group_name="b")
workflow.start()
say(tasks=told(workflow.result_task()))
""").facts

    assert facts["tasks"][1][:2] == ["Completed", "first"]
    assert [error[0] for error in facts["tasks"][1][2]] == ["ValueError"]


@pytest.mark.start_method
def test_memory_that_runs_out_is_an_error_of_the_step(scripts: Scripts) -> None:
    """A step that reaches its limit of memory fails with MemoryError, and its worker goes on."""
    facts = scripts.run("""
@action
def greedy():
    resource.setrlimit(resource.RLIMIT_AS, (2**30, resource.RLIM_INFINITY))
    try:
        return len(bytearray(2**31))
    finally:
        Path("pid").write_text(str(os.getpid()))

@action
def after():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return os.getpid() == int(Path("pid").read_text())

@action
def other():
    return "other"

workflow = DotFlow(config())
workflow.task.add([greedy, after], group_name="a")
workflow.task.add(other, group_name="b")
workflow.start(keep_going=True)
say(tasks=told(workflow.result_task()))
""").facts

    greedy, after, other = facts["tasks"]
    assert greedy[0] == "Failed"
    assert greedy[2][0][0] == "MemoryError"
    assert after == ["Completed", True, []]
    assert other == ["Completed", "other", []]


def test_after_a_death_nothing_new_starts(scripts: Scripts) -> None:
    """Without keep_going a dead worker stops the run like any failure: the rest of its lane does not start."""
    facts = scripts.run("""
@action
def dies():
    while not Path("slow").exists():
        time.sleep(0.01)
    os._exit(1)

@action
def after():
    Path("after").touch()

@action
def slow():
    Path("slow").touch()
    while not Path("died").exists():
        time.sleep(0.01)
    return "slow"

workflow = DotFlow(config())
workflow.task.add(dies, group_name="a", callback=lambda task: Path("died").touch()).add(after, group_name="a")
workflow.task.add([slow, after], group_name="b")
run = workflow.start()
say(tasks=told(workflow.result_task()), status=run.status, after=Path("after").exists())
""").facts

    assert [task[0] for task in facts["tasks"]] == ["Failed", "Not started", "Completed", "Not started"]
    assert facts["status"] == "Failed"
    assert not facts["after"]


# Many of them, and few descriptors

MANY = {
    "2,000 parallel": ('workflow.task.add([number] * 2_000); workflow.start(mode="parallel")', 2_000),
    "500 groups": (
        'for g in range(500): workflow.task.add([number, number], group_name=f"g{g}")\nworkflow.start()',
        1_000,
    ),
    "2,000 sequential": ("workflow.task.add([number] * 2_000); workflow.start()", 2_000),
    "2,000 in the background": (
        'workflow.task.add([number] * 2_000); workflow.start(mode="background").wait()',
        2_000,
    ),
    "100 isolated": (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); workflow.task.add([isolated] * 100); workflow.start()",
        100,
    ),
}


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize(
    "what",
    [
        pytest.param("2,000 parallel", marks=pytest.mark.start_method),
        pytest.param("500 groups", marks=pytest.mark.start_method),
        "2,000 sequential",
        pytest.param("2,000 in the background", marks=pytest.mark.exhaustive),
        "100 isolated",
    ],
)
def test_many_tasks_need_few_descriptors(what: str, scripts: Scripts, start_method: str | None) -> None:
    """`ulimit -n 256` is enough for any number of tasks, and only the fork server's descriptor stays open.

    For isolated steps, 64 are enough.
    """
    code, count = MANY[what]

    facts = scripts.run(f"""
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

@action
def number():
    return os.getpid()

isolated = action(isolate=True)(os.getpid)

before = os.listdir("/dev/fd")
workflow = DotFlow(config())
{code}
say(done=sum(str(task.status) == "Completed" for task in workflow.result_task()), before=len(before),
    after=len(os.listdir("/dev/fd")), workers=len(set(workflow.result_storage()) - {{os.getpid()}}))
""").facts

    assert facts["done"] == count
    assert facts["after"] <= facts["before"] + (start_method == "forkserver")
    most = {"100 isolated": 100}.get(what, max(32, 4 * (os.cpu_count() or 1)))
    assert facts["workers"] <= most


# Locks, threads, start methods


def test_a_lock_that_another_thread_holds_does_not_block_a_worker(scripts: Scripts, tmp_path: Path) -> None:
    """The default start method is safe while other threads of the caller hold locks that the steps need."""
    (tmp_path / "shared.py").write_text("import threading\nlock = threading.Lock()\n")

    script = scripts.start(
        """
METHOD = None
import logging
import shared
logging.basicConfig(stream=sys.stdout)

@action
def step():
    import logging, shared
    logging.getLogger("x").warning("a line")
    with shared.lock:
        return "got it"

held, done = threading.Event(), threading.Event()
def hold():
    handler = logging.getLogger().handlers[0]
    handler.acquire()
    with shared.lock:
        held.set()
        done.wait()
    handler.release()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
workflow = DotFlow(config())
workflow.task.add([step] * 4)
workflow.start(mode="parallel")
done.set()
thread.join()
say(found=workflow.result_storage())
"""
    )

    with script:
        assert script.end().facts["found"] == ["got it"] * 4


LOCKED = """
lock, rlock, local = threading.Lock(), threading.RLock(), threading.local()
condition, shared = threading.Condition(), threading.Condition(lock)
event, unset = threading.Event(), threading.Event()
semaphore, bounded, barrier = threading.Semaphore(2), threading.BoundedSemaphore(3), threading.Barrier(1)
event.set()

class Guarded:
    lock = threading.Lock()
    def __init__(self, value):
        self.value = value
    def read(self):
        with lock, self.lock:
            return self.value

class Cache:
    def __init__(self):
        self.lock = threading.Lock()
        self.found = {"a": 1}

cache = Cache()

def helper():
    assert not lock.locked()
    with lock:
        return lock

@action
def step():
    local.seen = "seen"
    with rlock, rlock, condition, cache.lock, semaphore, semaphore, bounded, bounded, bounded:
        condition.notify_all()
        barrier.wait(60)
    with shared:
        is_one = lock.locked() and helper.__globals__["lock"] is lock
    with lock:
        is_one = is_one and Guarded.read.__globals__["lock"].locked()
    return [event.is_set(), unset.is_set(), local.seen, is_one, cache.found]

@action
def returns():
    return Guarded(helper() and 4)

@action
def takes(initial_context):
    return initial_context.storage.read()

held, done = threading.Event(), threading.Event()
def hold():
    with lock, Guarded.lock, cache.lock, bounded:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
workflow = DotFlow(config())
workflow.task.add([step, returns]).add(takes, initial_context=Guarded(3))
guard = Guarded.lock
workflow.start(mode="parallel", keep_going=True)
kept = Guarded.lock is guard and guard.locked()
done.set()
thread.join()
tasks = workflow.result_task()
say(errors=[error.message for task in tasks for error in task.errors], step=tasks[0].current_context.storage,
    returned=tasks[1].current_context.storage.read(), taken=tasks[2].current_context.storage, kept=kept)
"""


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("method", [None, "forkserver"])
def test_a_worker_gets_fresh_locks_where_a_script_has_locks(method: str | None, scripts: Scripts) -> None:
    """A step gets new, free locks while another thread holds those of its module."""
    facts = scripts.run(f"METHOD = {method!r}\n{LOCKED}").facts

    step = [True, False, "seen", True, {"a": 1}]
    assert facts == {"errors": [], "step": step, "returned": 4, "taken": 3, "kept": True}


@pytest.mark.skipif(sys.platform != "linux", reason="fork is nowhere else the default")
def test_fork_is_the_default_only_with_one_thread(scripts: Scripts) -> None:
    """Workers are forked from the caller only while it has one thread, native ones counted."""
    facts = scripts.run("""
import faulthandler

def parents():
    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add([action(os.getppid)] * 2)
    workflow.start(mode="parallel")
    return [pid == os.getpid() for pid in workflow.result_storage()]

alone = parents()
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
with_thread = parents()
stop.set()
thread.join()
while len(os.listdir("/proc/self/task")) > 1:  # join() may return a moment before the thread is gone
    time.sleep(0.01)
alone_again = parents()
faulthandler.dump_traceback_later(60)
with_native = parents()
faulthandler.cancel_dump_traceback_later()
say(alone=alone, with_thread=with_thread, alone_again=alone_again, with_native=with_native)
""").facts

    assert facts == {
        "alone": [True, True],
        "with_thread": [False, False],
        "alone_again": [True, True],
        "with_native": [False, False],
    }


# What workers print

PRINTS = """
@action
def step(initial_context):
    print("out", initial_context.storage)
    print("err", initial_context.storage, file=sys.stderr)
    os.system("echo child")

def run():
    workflow = DotFlow(config())
    for number in range(3):
        workflow.task.add(step, initial_context=number)
    workflow.start(mode="parallel")
"""


@pytest.mark.start_method
def test_worker_output_comes_out_with_the_scripts_own(scripts: Scripts) -> None:
    """Worker output appears once, and so does the script's own output that was still buffered."""
    with scripts.start(PRINTS + 'print("before", end=" ")\nrun()\nprint("after")\n') as script:
        end = script.end()

    assert end.code == 0
    lines = end.out.replace("before ", "before\n", 1).splitlines()
    assert sorted(lines) == ["after", "before", "child", "child", "child", "out 0", "out 1", "out 2"]
    assert lines[0] == "before"
    assert lines[-1] == "after"
    assert sorted(end.err.splitlines()) == ["err 0", "err 1", "err 2"]


@pytest.mark.start_method
def test_a_redirected_stdout_gets_the_workers_lines(scripts: Scripts) -> None:
    """contextlib.redirect_stdout and redirect_stderr catch worker output, too: also of programs, as with a history."""
    facts = scripts.run(
        PRINTS
        + """
import contextlib
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
    run()
say(out=out.getvalue(), err=err.getvalue())
"""
    ).facts

    assert sorted(facts["out"].splitlines()) == ["child", "child", "child", "out 0", "out 1", "out 2"]
    assert sorted(facts["err"].splitlines()) == ["err 0", "err 1", "err 2"]


@pytest.mark.start_method
def test_capsys_captures_worker_output(make_workflow: MakeWorkflow, capsys: pytest.CaptureFixture[str]) -> None:
    """In a test, worker output is captured with the rest, odd characters and a megabyte included."""

    @action
    def talk() -> None:
        print("grüße \u2713 \ud800".encode("utf-8", "backslashreplace").decode())
        print("x" * 1_000_000)
        print("oops", file=sys.stderr)

    workflow = make_workflow()
    workflow.task.add(talk)
    workflow.start(mode="parallel")

    assert workflow.result_task()[0].errors == []
    captured = capsys.readouterr()
    assert captured.out == "grüße ✓ \\ud800\n" + "x" * 1_000_000 + "\n"
    assert captured.err == "oops\n"


@pytest.mark.start_method
def test_output_before_a_death_is_not_lost(scripts: Scripts) -> None:
    """The lines of a worker that is killed are not lost in a buffer."""
    end = scripts.run("""
@action
def step():
    print("the last line")
    os.kill(os.getpid(), signal.SIGKILL)

workflow = DotFlow(config())
workflow.task.add(step)
workflow.start(mode="parallel")
say(error=workflow.result_task()[0].errors[0].exception)
""")

    assert end.out.splitlines()[0] == "the last line"
    assert end.facts["error"] == "WorkerDied"


@pytest.mark.start_method
def test_a_step_that_asks_for_input_gets_none(make_workflow: MakeWorkflow) -> None:
    """A worker's stdin is empty: a step that reads it fails at once instead of hanging or stealing the caller's."""

    @action
    def ask() -> str:
        return input()

    workflow = make_workflow()
    workflow.task.add(ask)
    workflow.start(mode="parallel")

    assert workflow.result_task()[0].errors[0].exception == "EOFError"


# Lanes and workers


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_a_value_stays_the_same_object(mode: str, quiet: Callable[..., Config]) -> None:
    """Inside one process the next step gets the same object, even one that can't be pickled or copied."""
    value = threading.Lock()

    @action
    def make() -> object:
        return value

    @action
    def check(previous_context: Context, initial_context: Context) -> bool:
        return previous_context.storage is value and initial_context.storage is value

    workflow = DotFlow(quiet(executor=None))
    workflow.task.add([make, check], initial_context=value)
    workflow.start(mode=mode).wait()

    assert workflow.result_storage()[0] is value
    assert workflow.result_storage()[1] is True


def test_a_lane_keeps_its_worker(scripts: Scripts, tmp_path: Path) -> None:
    """Each group has a process of its own, so its tasks share the state of modules."""
    (tmp_path / "state.py").write_text("count = 0\n")

    facts = scripts.run("""
@action(retry=2, retry_delay=0.05)
def step(previous_context):
    import state
    state.count += 1
    time.sleep(0.1)
    if state.count == 2:
        raise ValueError("a retry does not change the worker")
    return [os.getpid(), state.count]

workflow = DotFlow(config())
for group in "abc":
    workflow.task.add([step, step, step], group_name=group)
workflow.start()
say(found=workflow.result_storage(), own=os.getpid())
""").facts

    lanes = [facts["found"][start : start + 3] for start in (0, 3, 6)]
    pids = {pid for pid, _ in facts["found"]}
    assert len(pids) == 3
    assert facts["own"] not in pids
    for lane in lanes:
        assert len({pid for pid, _ in lane}) == 1
        assert [count for _, count in lane] == [1, 3, 4]


@pytest.mark.start_method
def test_a_value_in_a_lane_is_not_sent_back_to_it(scripts: Scripts) -> None:
    """In a lane's worker the next step gets the same object, though the caller has a copy."""
    facts = scripts.run("""
@action
def make():
    return [b"x" * 1_000_000]

@action
def remember(previous_context):
    import builtins
    builtins.remembered = previous_context.storage
    return previous_context.storage

@action
def compare(previous_context):
    import builtins
    return previous_context.storage is builtins.remembered

workflow = DotFlow(config())
workflow.task.add([make, remember, compare], group_name="a")
workflow.task.add(make, group_name="b")
workflow.start()
say(same=workflow.result_storage()[2])
""").facts

    assert facts["same"] is True


def test_there_are_never_more_workers_than_max_workers(tmp_path: Path, start_method: str | None) -> None:
    """max_workers holds at every moment, also with retries and dead workers."""

    @action(retry=2, retry_delay=0)
    def step(initial_context: Context) -> int:
        place = tmp_path / f"{os.getpid()}"
        place.touch()
        time.sleep(0.03)
        dying = tmp_path / f"dead{initial_context.storage}"
        if initial_context.storage % 4 == 0 and not dying.exists():
            place.rename(dying)
            os._exit(1)
        return len([file for file in tmp_path.iterdir() if file.name.isdigit()])

    executor = ExecutorProcess(max_workers=3, start_method=start_method)
    workflow = DotFlow(Config(executor=executor, log=LogDefault(output="none")))
    for number in range(16):
        workflow.task.add(step, initial_context=number)
    workflow.start(mode="parallel", keep_going=True)

    assert {task.status for task in workflow.result_task()} == {TypeStatus.COMPLETED}
    assert max(workflow.result_storage()) <= 3


def test_idle_workers_are_reused(make_workflow: MakeWorkflow) -> None:
    """While a worker is idle no new one is started."""
    workflow = make_workflow(executor=None)
    workflow.task.add([action(os.getpid)] * 40)
    workflow.start(mode="parallel")

    assert len(set(workflow.result_storage())) < 40


@pytest.mark.start_method
def test_an_isolated_step_has_a_process_to_itself(make_workflow: MakeWorkflow) -> None:
    """Each attempt of an isolated step gets a fresh process of its own, in every mode."""

    @action(isolate=True, retry=2, retry_delay=0)
    def alone(initial_context: Context) -> int:
        folder: Path = initial_context.storage
        with (folder / "pids").open("a") as file:
            file.write(f"{os.getpid()} ")
        if len((folder / "pids").read_text().split()) % 2:
            raise ValueError("again")
        return os.getpid()

    for mode in ("sequential", "background", "parallel"):
        with tempfile.TemporaryDirectory() as folder:
            workflow = make_workflow()
            workflow.task.add([alone, action(os.getpid), alone], initial_context=Path(folder))
            if mode == "parallel":
                workflow.task.clear().add(alone, initial_context=Path(folder)).add(action(os.getpid))
            workflow.start(mode=mode).wait()
            pids = (Path(folder) / "pids").read_text().split()

        assert {task.status for task in workflow.result_task()} == {TypeStatus.COMPLETED}, mode
        assert len(set(pids)) == len(pids) == (2 if mode == "parallel" else 4), mode
        assert workflow.result_storage()[1] not in map(int, pids), mode
        assert os.getpid() not in map(int, pids), mode


@pytest.mark.start_method
def test_a_run_leaves_no_process_and_no_descriptor(make_workflow: MakeWorkflow) -> None:
    """After a run the caller has the descriptors and the children that it had before."""
    me = psutil.Process()

    def run() -> None:
        workflow = make_workflow()
        workflow.task.add([action(os.getpid)] * 5)
        workflow.start(mode="parallel")

    run()  # what is opened once and for all is open now
    before = len(list(Path("/dev/fd").iterdir())), me.children(recursive=True)
    run()

    assert (len(list(Path("/dev/fd").iterdir())), me.children(recursive=True)) == before


def test_workers_end_at_once(make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first worker runs its exit handlers while a later one, which was forked from the same process, still ends."""
    monkeypatch.setattr(process_session, "CORES", 1)  # so that the second one starts while the first one runs
    monkeypatch.setattr(process_session, "GRACE", WAIT)

    def wait_for(name: str) -> bool:
        until = time.monotonic() + WAIT / 2
        while not (tmp_path / name).exists() and time.monotonic() < until:
            time.sleep(0.005)
        return (tmp_path / name).exists()

    @action
    def first() -> None:
        assert wait_for("second runs")
        atexit.register((tmp_path / "first has ended").touch)

    @action
    def second() -> None:
        (tmp_path / "second runs").touch()
        atexit.register(lambda: wait_for("first has ended") and (tmp_path / "second has ended").touch())

    workflow = make_workflow(executor=ExecutorProcess(start_method="fork"))
    workflow.task.add([first, second])

    assert workflow.start(mode="parallel").status is TypeStatus.COMPLETED
    assert (tmp_path / "second has ended").exists()


@pytest.fixture
def start_workers() -> Iterator[Callable[[int], list[WorkerProcess]]]:
    """Forks workers, which end with the test."""
    workers: list[WorkerProcess] = []

    def start(count: int) -> list[WorkerProcess]:
        started = Fork({}).workers(count)
        workers.extend(started)
        return started

    yield start
    for worker in workers:
        if worker.channel.fileno() >= 0:
            worker.reap()


def test_workers_that_start_in_a_row_hold_no_ends_of_each_other(
    start_workers: Callable[[int], list[WorkerProcess]],
) -> None:
    """The death of each one closes its channel while the others live."""

    def read_all(channel: Channel) -> None:
        while select.select([channel], [], [], WAIT)[0]:
            list(channel.receive())

    for worker in start_workers(3)[:2]:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(EOFError):
            read_all(worker.channel)


@pytest.mark.parametrize("refused", ["pipe", "fork"])
def test_workers_start_as_far_as_the_system_allows(
    start_workers: Callable[[int], list[WorkerProcess]], monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """The first ones live, and no descriptor of the others is left. A refusal of the first one is raised."""
    allow = [getattr(os, refused)]
    calls = itertools.count(1)

    def refuse_second(*arguments: Any) -> Any:
        if next(calls) == 2 or not allow:
            raise OSError(errno.EAGAIN, "refused")
        return allow[0](*arguments)

    gc.collect()  # of what other tests have left
    before = len(list(Path("/dev/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(os, refused, refuse_second)
        (worker,) = start_workers(3)
        allow.clear()
        with pytest.raises(OSError, match="refused"):
            start_workers(3)

    assert worker.reap() == -signal.SIGKILL
    assert len(list(Path("/dev/fd").iterdir())) <= before
