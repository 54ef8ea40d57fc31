"""The fork server that a program keeps between its runs saves imports and changes nothing else."""

import json
import signal

import pytest

from tests.integration.children import Scripts

pytestmark = pytest.mark.processes

#: Runs steps in workers of the fork server, and gives what they return.
RUN = """
def run(*steps):
    workflow = DotFlow(Config(log=LogDefault(output="none"), executor=ExecutorProcess(start_method="forkserver")))
    for step in steps:
        workflow.task.add(action(step))
    workflow.start(mode="parallel")
    assert [task.errors for task in workflow.result_task()] == [[]] * len(steps), workflow.result_task()
    return workflow.result_storage()

def server():
    return os.getppid()
"""


def test_it_is_kept_between_runs(scripts: Scripts) -> None:
    """All runs of a program have the same fork server, in all its threads and tests; one that was killed is replaced.

    pytest has the name of the running test in its environment.
    """
    facts = scripts.run(f"""{RUN}
first = run(server, server)
os.environ["PYTEST_CURRENT_TEST"] = "another"
together = []
threads = [threading.Thread(target=lambda: together.extend(run(server))) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
os.kill(first[0], signal.SIGKILL)
after = run(server, server)
say(servers=len(set(first + together)), after=len(set(after)), other=after[0] != first[0])
""").facts

    assert facts == {"servers": 1, "after": 1, "other": True}


def test_ctrl_c_ends_the_wait_for_an_import(scripts: Scripts) -> None:
    """The server imports for one run at a time, perhaps for a run that was stopped."""
    facts = scripts.run(f"""{RUN}
from dotflow.processes.forkserver import _kept
_kept._lock.acquire()  # as a thread has it while the server imports
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    run(server)
except KeyboardInterrupt:
    _kept._lock.release()
say(servers=len(set(run(server, server))))
""").facts

    assert facts == {"servers": 1}


def test_runs_replace_a_killed_one_together(scripts: Scripts) -> None:
    """Each of them notices its end, and the first one starts another for all."""
    facts = scripts.run("""
from dotflow.core.masks import hide
from dotflow.processes.forkserver import KeptForkServer
runs = [KeptForkServer({}) for _ in range(4)]
(first,) = {run.server().pid for run in runs}
os.kill(first, signal.SIGKILL)
workers = [run.workers(1)[0] for run in runs]
after = {run.server().pid for run in runs}
for worker in workers:
    worker.reap()
for run in runs:
    run.close()
hide("password", "one that was given later")
last = KeptForkServer({})
masked = last.server().pid
last.close()
say(after=len(after), other=first not in after, has_later_secrets=masked not in after)
""").facts

    assert facts == {"after": 1, "other": True, "has_later_secrets": True}


@pytest.mark.exhaustive
def test_workers_have_the_programs_present_environment(scripts: Scripts) -> None:
    """Workers have the program's environment, folder, umask, limits and output in every run."""
    facts = scripts.run(f"""{RUN}
def look():
    os.system("echo said")
    mask = os.umask(0)
    os.umask(mask)
    return [os.environ.get("SETTING"), os.getcwd(), mask, resource.getrlimit(resource.RLIMIT_CORE)[0], sys.path[0]]

def expected():
    mask = os.umask(0)
    os.umask(mask)
    return [os.environ.get("SETTING"), os.getcwd(), mask, resource.getrlimit(resource.RLIMIT_CORE)[0], sys.path[0]]

os.umask(0o22)
same = [run(look) == [expected()]]
os.environ["SETTING"] = "new"
same.append(run(look) == [expected()])
os.mkdir("below")
os.chdir("below")
same.append(run(look) == [expected()])
os.umask(0o77)
same.append(run(look) == [expected()])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
same.append(run(look) == [expected()])
sys.path.insert(0, "/elsewhere")
same.append(run(look) == [expected()])
out, file = os.dup(1), os.open("out", os.O_CREAT | os.O_WRONLY)
os.dup2(file, 1)
same.append(run(look) == [expected()])
os.dup2(out, 1)
say(same=same, redirected=Path("out").read_text())
""").facts

    assert facts == {"same": [True] * 7, "redirected": "said\n"}


def test_it_imports_the_installed_modules_that_steps_need(scripts: Scripts) -> None:
    """A module that a step's function refers to is imported once, not in each worker; one that starts a thread, and
    so makes a fork unsafe, is imported by the workers; and so is the user's own, which may change between runs."""
    installed = scripts.folder / "site-packages"
    installed.mkdir()
    note = "import os\nwith open(os.environ['NOTES'] + __name__, 'a') as file:\n    file.write('x')\n"
    (installed / "counted.py").write_text(note)
    (installed / "unneeded.py").write_text(note)
    (installed / "threaded.py").write_text(
        f"{note}import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    (scripts.folder / "mine.py").write_text("VERSION = 1\n")

    facts = scripts.run(f"""{RUN}
os.environ["NOTES"] = str(HERE) + "/notes_"
sys.path.append(str(HERE / "site-packages"))
sys.dont_write_bytecode = True
import counted, mine, threaded, unneeded

def uses():
    return helper()

def helper():
    return bool(counted)

def starts():
    return bool(threaded)

def version():
    return mine.VERSION

first = run(uses, uses, starts, version)
(HERE / "mine.py").write_text("VERSION = 22\\n")
second = run(uses, uses, starts, version)
notes = {{name: Path(f"notes_{{name}}").read_text() for name in ("counted", "threaded", "unneeded")}}
say(first=first, second=second, notes=notes)
""").facts

    assert facts["first"] == [True, True, True, 1]
    assert facts["second"] == [True, True, True, 22]
    assert facts["notes"]["unneeded"] == "x"  # by the script itself
    assert facts["notes"]["counted"] == "xxx"  # and by the fork server, and by the one without the threaded module
    assert facts["notes"]["threaded"] == "xxxx"  # and by the fork server that could not be used, and by two workers


def test_a_module_that_ends_the_fork_server_ends_no_run(scripts: Scripts) -> None:
    """Only a step that needs the module may die with its worker; the others run."""
    installed = scripts.folder / "site-packages"
    installed.mkdir()
    (installed / "deadly.py").write_text(
        "import os\nplace = os.environ['NOTES']\nif os.path.exists(place):\n    os._exit(3)\nopen(place, 'w').close()\n"
    )

    facts = scripts.run(f"""{RUN}
os.environ["NOTES"] = str(HERE / "note")
sys.path.append(str(HERE / "site-packages"))
import deadly

def needs():
    return bool(deadly)

def fine():
    return "fine"

workflow = DotFlow(config(executor=ExecutorProcess(start_method="forkserver")))
workflow.task.add([action(needs), action(fine)])
run = workflow.start(mode="parallel", keep_going=True)
say(tasks=[[str(task.status), task.error.exception if task.error else ""] for task in run.tasks])
""").facts

    assert facts["tasks"] == [["Failed", "WorkerDied"], ["Completed", ""]]


def test_workers_draw_different_numbers(scripts: Scripts) -> None:
    """NumPy's global generator, which the fork server has seeded at import, differs in each worker."""
    facts = scripts.run(f"""{RUN}
import numpy

def draw():
    time.sleep(0.1)  # so that each has a worker of its own
    return float(numpy.random.random())

say(drawn=len(set(run(*[draw] * 4))))
""").facts

    assert facts["drawn"] == 4


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_program(signum: int, scripts: Scripts) -> None:
    """The fork server ends with its program, also while a process that the program has forked lives on."""
    with scripts.start(f"""{RUN}
run(server)
child = os.fork()
if not child:
    signal.pause()
say(child=child, server=run(server)[0])
signal.pause()
""") as script:
        facts = json.loads(script.line())
        script.send(signum)
        script.process.wait()
        left = script.left_behind(besides=[facts["child"]])

    assert left == []


def test_a_fork_of_the_program_has_its_own(scripts: Scripts) -> None:
    """A process that the program has forked uses another fork server, and leaves the program's alone."""
    facts = scripts.run(f"""{RUN}
first = run(server)
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.write(writing, str(run(server)[0]).encode())
    sys.exit(0)
os.waitpid(child, 0)
say(differs=int(os.read(reading, 100)) != first[0], same=run(server) == first)
""").facts

    assert facts == {"differs": True, "same": True}
