"""What a page about a history asks again and again: whether anything has changed, and lists made in a moment."""

import os
import sqlite3
from contextlib import closing

from dotflow import Control
from dotflow.abc.archive import TaskState
from dotflow.providers import HistorySQLite
from tests.histories import begin, crash, nightly, quick, write
from tests.integration.test_archive import FIRST_FORMAT


def test_a_revision_changes_with_the_runs(history: HistorySQLite) -> None:
    """With each commit, and with nothing else."""
    begin(history, "running", "extract")
    first = history.revision()
    history.load()

    assert history.revision() == first
    write(history, "running", 0, b"text")
    second = history.revision()
    assert second != first
    quick(history).start()
    assert history.revision() not in (first, second)


def test_a_revision_changes_when_a_process_dies(history: HistorySQLite) -> None:
    """Nothing is written then, but the run has crashed."""
    begin(history, "running", "extract")
    first = history.revision()

    crash(history, "running")

    assert history.revision() != first
    assert history.revision() == history.revision()


def test_a_revision_changes_with_the_file(history: HistorySQLite) -> None:
    """Another file in its place is another history; without one, it is empty."""
    quick(history).start()
    first = history.revision()
    history.close()
    content = history.path.read_bytes()
    history.path.unlink()

    assert history.revision() == ""
    history.path.write_bytes(content)
    assert history.revision() != first


def test_a_revision_outlives_a_fork(history: HistorySQLite) -> None:
    """All connections are closed before a fork. The count of a new one begins anew, but its revision is new."""
    quick(history).start()
    seen = {history.revision()}
    for _ in range(3):
        if not (child := os.fork()):
            os._exit(0)
        os.waitpid(child, 0)
        quick(history).start()
        seen.add(history.revision())

    assert len(seen) == 4


def test_a_revision_leaves_the_file_as_it_is(history: HistorySQLite) -> None:
    """It is read-only, and keeps no transaction open."""
    quick(history).start()
    history.close()
    content = history.path.read_bytes()

    history.revision()
    history.close()

    assert history.path.read_bytes() == content


def test_the_revision_of_a_file_of_the_first_format(history: HistorySQLite) -> None:
    """A page can watch it at once. The next run upgrades it, not the page."""
    quick(history).start()
    history.close()
    with closing(sqlite3.connect(history.path)) as database:
        database.executescript(FIRST_FORMAT)
    first = history.revision()

    assert first == history.revision() != ""
    with closing(sqlite3.connect(history.path)) as database:
        assert database.execute("PRAGMA user_version").fetchall() == [(1,)]
    quick(history).start()
    assert history.revision() != first


def test_the_revision_of_a_read_only_folder(history: HistorySQLite) -> None:
    """There it changes with the time of the file."""
    quick(history).start()
    history.close()
    history.path.parent.chmod(0o500)
    try:
        first = history.revision()
        assert history.revision() == first
        os.utime(history.path, ns=(1, 1))
        assert history.revision() != first
    finally:
        history.path.parent.chmod(0o700)


def test_lists_are_those_of_whole_runs(history: HistorySQLite) -> None:
    """What SQLite finds in a moment is what the records of whole runs have."""
    for workflow in (nightly(history), quick(history), quick(history, name="quick@day=1")):
        workflow.start(keep_going=True)
    begin(history, "crashed", "extract", "load")
    crash(history, "crashed")
    ids = [run.run_id for run in history.runs()]

    steps = [history.load(run_id).steps for run_id in ids]
    states = [[TaskState(one.task_id, one.name, one.state, one.duration) for one in of_run] for of_run in steps]
    assert history.task_states(ids) == states
    names = ["quick", "shop"]
    assert history.recent(names, 1) == {name: history.runs(workflow=name, limit=1) for name in names}
    assert history.workflows() == ["shop", "quick", "nightly"]


def test_workflows_without_an_id_are_listed_by_name(history: HistorySQLite) -> None:
    """Each of their runs has an id of its own."""
    for name in (None, "Every night", None, "Every night"):
        workflow = quick(history, name=None)  # type: ignore[arg-type]
        workflow.name = name
        workflow.start()

    assert history.workflows() == ["Every night"]
    assert len(history.recent(["Every night"])["Every night"]) == 2


def test_runs_with_a_key_are_runs_of_their_workflow(history: HistorySQLite) -> None:
    """Each has an id of its own; the list of workflows has one for all."""
    for key in ("click-1", "click-2"):
        Control(history).submit("etl", key=key)

    assert history.workflows() == ["etl"]
    assert [run.workflow for run in history.runs(workflow="etl")] == ["etl#click-2", "etl#click-1"]
    assert history.runs(workflow="etl#click-1")[0].workflow == "etl#click-1"
