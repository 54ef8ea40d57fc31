"""Shared storages: two processes and a bucket or a database between them, over the wire."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.children import Script, Scripts

KINDS = {"s3": "StorageS3", "gcs": "StorageGCS", "postgres": "StoragePostgres"}

#: Makes a script that of another machine, which does not know whether processes of the first have ended.
ELSEWHERE = """
from dotflow.providers.storages import lease as leases
leases._machine_id = lambda: ""
"""

#: Makes a script run an hour later by the service's clock, when leases without renewal have expired.
LATER = """
from dotflow.providers.storages import lease
lease.AGE_RESOLUTION = -3600.0
"""

#: Makes the machine of a script sleep for an hour, by its own clock, before the end of the step "stops".
SLEEPS = """
from dotflow import clock
real = clock.elapsed
clock.elapsed = lambda: real() + 3600.0 * (HERE / "again").exists()
"""

PIPELINE = """
from dotflow.errors import WorkflowBusy
from dotflow.providers import StorageGCS, StoragePostgres, StorageS3

storage = {kind}({place!r}, {given}lease=LEASE)

def ran(name):
    with open(HERE / "ran", "a") as file:
        file.write(name + "\\n")

@action
def first():
    ran("first")
    return (1, {{"day": b"\\x00"}})

@action
def stops(previous_context):
    ran("stops")
    if not (HERE / "again").exists():
        os.write(1, b"ready\\n")
        while not (HERE / "again").exists():
            time.sleep(0.01)
        return f"of {{os.getpid()}}"
    return [previous_context.storage]

@action
def last(previous_context):
    ran("last")
    return previous_context.storage

def start(patience=0.0, **given):
    until = time.monotonic() + patience
    while True:
        workflow = DotFlow(config(storage=storage), workflow_id="nightly")
        workflow.task.add([first, stops, last])
        try:
            run = workflow.start(**given)
            errors = [[error.message for error in task.errors] for task in run.tasks]
            statuses = [str(task.status) for task in run.tasks]
            return say(status=str(run.status), values=repr(workflow.result_storage()), all=statuses, errors=errors)
        except WorkflowBusy as error:
            if time.monotonic() > until:
                return say(busy=str(error))
            time.sleep(0.05)

"""

WHOLE = repr([(1, {"day": b"\x00"}), [(1, {"day": b"\x00"})], [(1, {"day": b"\x00"})]])

Start = Callable[..., Script]


#: Both kinds of buckets have the same lease.
@pytest.fixture(params=[pytest.param("s3", marks=pytest.mark.exhaustive), "gcs", "postgres"])
def start(request: pytest.FixtureRequest, scripts: Scripts, tmp_path: Path) -> Start:
    """Starts a process with the pipeline and further lines."""
    place, prefix = request.getfixturevalue(request.param), tmp_path.as_posix().strip("/")
    given = "" if request.param == "postgres" else f"prefix={prefix!r}, "

    def start_script(lines: str, *, lease: float = 30.0, elsewhere: bool = False) -> Script:
        pipeline = PIPELINE.format(kind=KINDS[request.param], place=place, given=given)
        return scripts.start(f"LEASE = {lease}\n{ELSEWHERE if elsewhere else ''}{pipeline}{lines}")

    return start_script


def facts(script: Script) -> dict[str, object]:
    """The facts that it printed at its end."""
    with script:
        end = script.end()
        assert (end.code, end.err) == (0, "")
        found: dict[str, object] = end.facts
        return found


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.slow
def test_a_second_process_goes_on_after_kill_9(start: Start, tmp_path: Path) -> None:
    """On the same machine at once: what was finished does not run again, values are exact and handed on."""
    with start("start(resume=True)") as first:
        assert first.line() == "ready"
        first.send(signal.SIGKILL)
        first.end()
    (tmp_path / "again").touch()

    second = facts(start("start(resume=True)"))

    assert (second["status"], second["values"]) == ("Completed", WHOLE)
    assert (tmp_path / "ran").read_text().split() == ["first", "stops", "stops", "last"]


MAP = """
@action
def fetch(number):
    ran(str(number))
    if number == 3 and not (HERE / "again").exists():
        os.write(1, b"ready\\n")
        time.sleep(60)
    return {"number": number, "large": bytes(100_000)}

@action
def total(fetch):
    ran("total")
    return [page["number"] for page in fetch]

def start_map(*numbers, **given):
    workflow = DotFlow(config(storage=storage), workflow_id="maps", params={"day": ...})
    workflow.task.add(fetch, each=numbers).add(total)
    run = workflow.start(params={"day": "a/b 'c'"}, **given)
    keys = list(storage.list_keys(run.workflow_id))
    say(status=str(run.status), value=workflow.result_storage()[1], keys=len(keys))
    return run
"""


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(60)
def test_the_items_of_a_map_go_on_after_kill_9(start: Start, tmp_path: Path) -> None:
    """Each has a key of its own: another process runs those that are left, then those of another list."""
    with start(f"{MAP}start_map(1, 2, 3, 4, resume=True)") as first:
        assert first.line() == "ready"
        first.send(signal.SIGKILL)
        first.end()
    (tmp_path / "again").touch()

    lines = "start_map(1, 2, 3, 4, resume=True)\nstart_map(5, 4, 2, resume=True)\nstart_map(4, 2)"
    third = facts(start(MAP + lines))

    resumed = ["3", "4", "total", "5", "total"]
    assert (tmp_path / "ran").read_text().split() == ["1", "2", "3", *resumed, "4", "2", "total"]
    assert third == {"status": "Completed", "value": [4, 2], "keys": 3}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_on_another_machine_it_waits_for_the_lease(start: Start, tmp_path: Path) -> None:
    """It is refused, until the lease of the one that is gone has run out; then it goes on."""
    with start("start(resume=True)") as first:
        assert first.line() == "ready"
        first.send(signal.SIGKILL)
        first.end()
    (tmp_path / "again").touch()

    assert "is being run by" in str(facts(start("start(resume=True)", elsewhere=True))["busy"])
    second = facts(start(f"{LATER}start(resume=True)", elsewhere=True))

    assert (second["status"], second["values"]) == ("Completed", WHOLE)
    assert (tmp_path / "ran").read_text().split() == ["first", "stops", "stops", "last"]


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("start", ["postgres"], indirect=True)  # its ages are not in whole seconds
def test_the_service_s_clock_ends_the_lease(start: Start, tmp_path: Path) -> None:
    """Really waited for: not before its time, and soon after it."""
    with start("start(resume=True)", lease=1.0) as first:
        assert first.line() == "ready"
        first.send(signal.SIGKILL)
        first.end()
    (tmp_path / "again").touch()

    began = time.monotonic()
    second = facts(start("start(resume=True, patience=15)", lease=1.0, elsewhere=True))

    assert second["status"] == "Completed"
    assert time.monotonic() - began >= 1.0


@pytest.mark.exhaustive
@pytest.mark.slow
def test_ctrl_c_gives_the_lease_back(start: Start, tmp_path: Path) -> None:
    """Another machine goes on at once: it has nothing to wait for."""
    with start("start(resume=True)") as first:
        assert first.line() == "ready"
        first.send(signal.SIGINT)
        assert "KeyboardInterrupt" in first.end().err
    (tmp_path / "again").touch()

    assert facts(start("start(resume=True)", elsewhere=True))["values"] == WHOLE


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.slow
def test_two_runners_at_once(start: Start, tmp_path: Path) -> None:
    """The second one is refused before anything runs, on this machine and on another, with the holder's name."""
    with start("start(resume=True)") as first:
        assert first.line() == "ready"
        for elsewhere in (False, True):
            busy = str(facts(start("start()", elsewhere=elsewhere))["busy"])
            assert f"process {first.process.pid} on host " in busy
        (tmp_path / "again").touch()
        assert first.end().facts["status"] == "Completed"

    assert (tmp_path / "ran").read_text().split() == ["first", "stops", "last"]
    assert facts(start("start(resume=True)"))["status"] == "Completed"


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("start", ["gcs"], indirect=True)
def test_a_lease_is_renewed_for_as_long_as_the_run_takes(start: Start, tmp_path: Path) -> None:
    """Really waited for: another machine is refused after the time that the lease lasts, too."""
    with start("start(resume=True)", lease=2.0) as first:
        assert first.line() == "ready"
        time_when_it_had_expired = time.monotonic() + 4.5
        while time.monotonic() < time_when_it_had_expired:
            assert "busy" in facts(start("start()", lease=2.0, elsewhere=True))
        (tmp_path / "again").touch()
        assert first.end().facts["status"] == "Completed"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_of_runners_that_start_together_one_runs(start: Start, tmp_path: Path) -> None:
    """All begin anew at the same moment: the others are refused."""
    wait = "while not (HERE / 'go').exists(): time.sleep(0.001)\n"
    scripts = [start(f"say(here=1)\n{wait}start()") for _ in range(3)]
    for script in scripts:
        assert "here" in script.line()
    (tmp_path / "go").touch()
    lines: list[str] = []
    for script in scripts:
        lines.append(script.line())
    runner = scripts[lines.index("ready")] if "ready" in lines else None

    assert runner is not None
    assert sum("is being run by" in line for line in lines) == 2
    (tmp_path / "again").touch()
    assert facts(runner)["status"] == "Completed"


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.slow
def test_a_run_that_lost_its_lease_stops_before_it_writes(start: Start, tmp_path: Path) -> None:
    """A process that was stopped for longer than its lease comes back: its value is not saved, the other's is kept.

    It starts no further step, with keep_going too.
    """
    with start(f"{SLEEPS}start(resume=True, keep_going=True)") as first:
        assert first.line() == "ready"
        first.send(signal.SIGSTOP)
        with start(f"{LATER}start(resume=True)", elsewhere=True) as second:
            assert second.line() == "ready"
            (tmp_path / "again").touch()
            values = second.end().facts["values"]
            assert f"of {second.process.pid}" in values
        first.send(signal.SIGCONT)
        late = first.end().facts

    assert late["status"] == "Failed"
    assert late["all"] == ["Completed", "Failed", "Not started"]
    assert "lost its lease" in late["errors"][1][0]
    kept = facts(start("start(resume=True)"))
    assert (kept["status"], kept["values"]) == ("Completed", values)
    assert (tmp_path / "ran").read_text().split() == ["first", "stops", "stops", "last"]


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(
    ("start", "mode"),
    [
        ("s3", "parallel"),
        ("postgres", "groups"),
        pytest.param("gcs", "background", marks=pytest.mark.exhaustive),
        pytest.param("gcs", "parallel", marks=pytest.mark.exhaustive),
        pytest.param("postgres", "parallel", marks=pytest.mark.exhaustive),
    ],
    indirect=["start"],
)
def test_in_every_mode(start: Start, tmp_path: Path, mode: str) -> None:
    """Workers, threads and the one that renews the lease get along; the values are there for the next process."""
    chosen = "mode='sequential'" if mode == "groups" else f"mode={mode!r}"
    lines = f"""
def add(workflow):
    for group in "ab":
        workflow.task.add([first, first], group_name=group if {mode == "groups"} else "default")
    return workflow

workflow = add(DotFlow(config(storage=storage), workflow_id="nightly"))
workflow.start({chosen}).wait()
again = add(DotFlow(config(storage=storage), workflow_id="nightly"))
run = again.start({chosen}, resume=True)
run.wait()
same = again.result_storage() == workflow.result_storage()
say(status=str(run.status), skipped=[task.started_at is None for task in run.tasks], same=same)
"""

    assert facts(start(lines, lease=1.0)) == {"status": "Completed", "skipped": [True] * 4, "same": True}


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.slow
def test_a_forked_process_uses_a_client_and_a_lease_of_its_own(start: Start) -> None:
    """Neither the client, nor the lease of its parent is used in it, nor a lock held by a thread there."""
    lines = """
from dotflow.abc import shared_lock
from dotflow.providers.storages.lease import LeaseLock

bucket = getattr(storage, "_bucket", None)

def client():
    return bucket and bucket._client._client[1]

with storage.lock("w") as name:
    storage.post("w/0", Context([1]))
    theirs = client()
    with shared_lock._guard:
        child = os.fork()
        if not child:
            try:
                found = [storage.get("w/0").storage == [1], LeaseLock.held(name) is None]
                with storage.lock("v"):
                    found += [LeaseLock.held(name) is None, bucket is None or client() is not theirs]
                os._exit(7 if all(found) else 1)
            finally:
                os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    say(code=code, held=LeaseLock.held(name) is not None, parent=storage.get("w/0").storage)
"""

    assert facts(start(lines)) == {"code": 7, "held": True, "parent": [1]}


@pytest.mark.exhaustive
@pytest.mark.timeout(90)
@pytest.mark.parametrize("start", ["gcs"], indirect=True)  # boto3 needs 100 calls for the same, and 80 s
def test_a_workflow_survives_crashes_at_every_moment(start: Start) -> None:
    """assert_survives_crashes kills and resumes it, inside each request to the service too."""
    lines = """
from dotflow.testing import assert_survives_crashes

@action
def one():
    return [1]

def build_workflow():
    workflow = DotFlow(config(), workflow_id="nightly")
    workflow.task.add(one)
    return workflow

report = assert_survives_crashes(build_workflow, storage)
say(crashes=report.crashes)
"""

    with start(lines) as script:
        assert script.end(timeout=80).facts["crashes"] > 10
