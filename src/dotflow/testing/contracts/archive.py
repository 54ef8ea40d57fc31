"""ArchiveContract: the part of HistoryContract about the lists of runs."""

from datetime import timedelta
from typing import Any

from dotflow.errors import NotInHistory
from dotflow.testing.contracts.history_driver import BEGAN, STATES, Driver

try:
    import pytest
except ImportError as error:
    raise ImportError("HistoryContract needs pytest: its promises are tests. Run: pip install pytest") from error


class ArchiveContract:
    """The promises about lists, and how a run is found in them."""

    @pytest.fixture
    def history(self) -> Any:
        """Returns the history; subclasses override it."""
        raise NotImplementedError("HistoryContract needs a fixture named history, which returns the history to test")

    def test_runs_are_listed(self, history: Any) -> None:
        """The newest first, and by state and workflow."""
        for number, state in enumerate(STATES):
            workflow = "weekly" if number == 1 else "nightly"
            Driver(history, f"run-{number}", workflow, offset=10.0 * number).end(state)

        assert [run.run_id for run in history.runs()] == ["run-3", "run-2", "run-1", "run-0"]
        assert [run.run_id for run in history.runs(limit=2)] == ["run-3", "run-2"]
        assert [run.run_id for run in history.runs(state="Cancelled")] == ["run-2"]
        assert [run.run_id for run in history.runs(workflow="weekly")] == ["run-1"]
        assert [run.run_id for run in history.runs(since=BEGAN + timedelta(seconds=15))] == ["run-3", "run-2"]
        assert [run.run_id for run in history.runs(before=BEGAN + timedelta(seconds=20))] == ["run-1", "run-0"]
        assert [run.run_id for run in history.runs(search="EEKL")] == ["run-1"]
        assert [run.run_id for run in history.runs(search="run-2", state="Cancelled")] == ["run-2"]
        assert [len(history.runs(search=text)) for text in ("%", "_", "\\", "'")] == [0, 0, 0, 0]
        assert history.summary("run-3").state == "Interrupted"
        recent = history.recent(["nightly", "monthly"], limit=2)
        assert {name: [run.run_id for run in runs] for name, runs in recent.items()} == {
            "nightly": ["run-3", "run-2"],
            "monthly": [],
        }

    def test_the_states_of_tasks(self, history: Any) -> None:
        """They are those of the whole run, which may still go on."""
        ended, running = Driver(history, "ended", "weekly"), Driver(history, "running", "nightly@day=3", offset=10.0)
        for driver in (ended, running):
            driver.begin(0)
            driver.complete(0)
        running.begin(1)
        ended.begin(1)
        ended.fail(1)
        ended.end("Failed")

        states = history.task_states(["ended", "running"])

        assert [[(each.name, each.state) for each in tasks] for tasks in states] == [
            [("extract", "Completed"), ("load", "Failed")],
            [("extract", "Completed"), ("load", "Running")],
        ]
        assert states[0][1].duration == ended.load().steps[1].duration
        assert states[1][1].duration is None

    def test_a_run_is_found_by_its_beginning_and_by_its_end(self, history: Any) -> None:
        """Four characters of its id are enough, if no other one begins so."""
        Driver(history, "aaaa1111").end("Failed")
        Driver(history, "aaaa2222", offset=10.0).end()

        assert history.load("last").run_id == "aaaa2222"
        assert history.load("failed").run_id == "aaaa1111"
        assert history.load("aaaa1").run_id == "aaaa1111"
        for wrong in ("aaaa", "bbbb"):
            with pytest.raises(NotInHistory):
                history.load(wrong)

    def test_runs_are_forgotten(self, history: Any) -> None:
        """But none that is still running."""
        ended, running = Driver(history), Driver(history, "abcdefghij")
        ended.begin(0)
        ended.complete(0)
        ended.end()

        with pytest.raises(NotInHistory):
            history.forget(running.run_id, ended.run_id)
        assert history.forget(ended.run_id) == 1

        assert [run.run_id for run in history.runs()] == [running.run_id]
        with pytest.raises(NotInHistory):
            history.load(ended.run_id)
