"""Paused workflows: no server claims their runs, and each place that shows these names who has paused them."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action, clock
from dotflow.abc.log import Log
from dotflow.control import Control
from dotflow.core.task import Task
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import InvalidArgument, NotInHistory
from dotflow.providers import ExecutorThread, HistorySQLite
from dotflow.serving import serve
from dotflow.testing import virtual_clock
from tests.histories import Histories
from tests.integration.children import Command

pytestmark = pytest.mark.databases("sqlite", "postgres")

Make = Callable[..., DotFlow]


class Reports(Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, task: Task) -> None: ...
    def error(self, task: Task) -> None: ...

    def report(self, message: str) -> None:
        self.lines.append(message)

    def wait_for(self, text: str) -> None:
        while not any(text in line for line in self.lines):
            clock.sleep(1)


@pytest.fixture
def log() -> Reports:
    return Reports()


@pytest.fixture
def history(command: Command, histories: Histories) -> Any:
    """The history where the commands look for it."""
    return histories.open_default()


@pytest.fixture
def make(history: HistorySQLite, log: Reports) -> Make:
    def make(workflow_id: str = "nightly") -> DotFlow:
        workflow = DotFlow(Config(history=history, executor=ExecutorThread(), log=log), workflow_id=workflow_id)
        workflow.task.add(action(lambda: 1), name="load")
        return workflow

    return make


def test_no_run_of_a_paused_workflow_is_claimed(make: Make) -> None:
    """Other workflows go on; once the pause ends, its runs do as well."""
    nightly, hourly = make(), make("hourly")
    control = Control(nightly)
    waiting, other = nightly.submit(), hourly.submit()

    pause = control.pause_workflow("nightly", by="anna", comment="the warehouse moves")
    assert [run.run_id for run in serve(nightly, hourly, once=True)] == [other]
    assert (pause.by, pause.comment) == ("anna", "the warehouse moves")
    assert control.run(waiting).state is TypeRunState.QUEUED

    assert control.resume_workflow("nightly") == pause
    assert [run.run_id for run in serve(nightly, hourly, once=True)] == [waiting]
    assert control.pause_of("nightly") is None


def test_a_run_by_hand_is_never_refused(make: Make) -> None:
    """A pause is for what servers begin."""
    workflow = make()
    workflow.submit()
    Control(workflow).pause_workflow("nightly")

    assert workflow.start().state is TypeRunState.COMPLETED


def test_the_first_pause_remains(make: Make) -> None:
    """A second one returns it: it is still known who has paused the workflow, and since when."""
    workflow = make()
    workflow.submit()
    control = Control(workflow)
    first = control.pause_workflow("nightly", by="anna")

    assert control.pause_workflow("nightly", by="ben", comment="me too") == first
    control.resume_workflow("nightly")
    assert control.resume_workflow("nightly") is None


def test_a_workflow_that_was_only_submitted_can_be_paused(history: HistorySQLite) -> None:
    """By its id alone: no process has declared it yet."""
    control = Control(history)
    run = control.submit("weekly")

    control.pause_workflow("weekly", by="anna")

    assert control.run(run).workflow_paused_by == "anna"


@pytest.mark.parametrize("order", ["pause_workflow", "resume_workflow"])
def test_unknown_workflows_are_refused(make: Make, order: str) -> None:
    """With the nearest known id; text that no file can have, too."""
    workflow = make()
    workflow.submit()
    control = Control(workflow)

    with pytest.raises(NotInHistory, match=r"the workflow 'nihgtly': .* Did you mean 'nightly'"):
        getattr(control, order)("nihgtly")
    with pytest.raises(NotInHistory, match="knows no workflow with this id"):
        getattr(control, order)("new\nline")
    with pytest.raises(InvalidArgument, match="workflow_id"):
        getattr(control, order)("\ud800")


def test_a_server_logs_a_pause_once(make: Make, log: Reports) -> None:
    """At its start or while it serves, and the end of the pause."""
    with virtual_clock():
        workflow = make()
        workflow.submit()
        control = Control(workflow)
        control.pause_workflow("nightly", by="anna")
        with serve(workflow, wait=False):
            log.wait_for("is paused")
            control.resume_workflow("nightly", by="ben", comment="it has moved")
            log.wait_for("goes on")

    lines = [line for line in log.lines if "nightly' is paused" in line or "goes on" in line]
    assert len(lines) == 2
    assert lines[0].startswith("The workflow 'nightly' is paused by anna since 20")
    assert lines[0].endswith(". Its runs wait in the queue.")
    assert lines[1] == "The workflow 'nightly' goes on: resumed by ben: it has moved."


def test_a_submission_logs_the_pause(make: Make, log: Reports) -> None:
    """It says who has paused the workflow, in place of that no process serves it."""
    workflow = make()
    workflow.submit()
    Control(workflow).pause_workflow("nightly", by="anna", comment="the warehouse moves")
    log.lines.clear()

    run = workflow.submit(at=timedelta(hours=1))

    (line,) = log.lines
    assert line.startswith("The workflow 'nightly' is paused by anna since 20")
    assert line.endswith(f": the warehouse moves: the run {run} of 'nightly' waits in the queue.")


class TestCommands:
    def test_pause_and_resume(self, make: Make, command: Command) -> None:
        """`runs --queued` says why the run waits, `submit` as well, and `resume` who had paused the workflow."""
        make().submit()

        paused = command("pause", "--workflow", "nightly", "--by", "anna", "--comment", "moving")
        assert paused.code == 0
        assert paused.out.startswith("The workflow 'nightly' is paused by anna since 20")
        assert "`dotflow resume --workflow nightly` ends the pause." in paused.out
        assert "anna paused its workflow" in command("runs", "--queued").out
        assert '"workflow_paused_by": "anna"' in command("runs", "--queued", "--json").out
        assert "is paused by anna since 20" in command("submit", "nightly").err

        resumed = command("resume", "--workflow", "nightly")
        assert resumed.code == 0
        assert resumed.out.startswith("The workflow 'nightly' goes on: it was paused by anna since 20")
        assert "No process serves it." in resumed.err
        assert command("resume", "--workflow", "nightly").out == "The workflow 'nightly' was not paused.\n"

    @pytest.mark.parametrize("name", ["pause", "resume"])
    def test_a_run_or_a_workflow(self, command: Command, name: str) -> None:
        """Exactly one of the two."""
        for arguments in ((), ("4f0c9a21", "--workflow", "nightly")):
            end = command(name, *arguments)
            assert (end.code, end.out) == (2, "")
            assert "Pass one of the two: RUN, or --workflow NAME." in end.err

    def test_options_of_a_run_are_refused_beside_a_workflow(self, make: Make, command: Command) -> None:
        """Nothing of what was typed is ignored."""
        make().submit()

        end = command("resume", "--workflow", "nightly", "--rerun", "load")

        assert end.code == 2
        assert "--rerun is about a run" in end.err

    def test_who_has_ended_a_pause(self, make: Make, history: HistorySQLite, command: Command) -> None:
        """The history keeps the name and the comment; by default the name is that of the user of the system."""
        make().submit()
        for options in (("--by", "ben", "--comment", "it has moved"), ("--by", "ann")):
            command("pause", "--workflow", "nightly")
            assert command("resume", "--workflow", "nightly", *options).code == 0
            kept = history.operations().resumed_by("nightly")
            assert kept == ("ben: it has moved" if "ben" in options else "ann")

    @pytest.mark.parametrize("order", ["pause", "resume"])
    def test_a_history_that_is_not_there(self, command: Command, tmp_path: Path, order: str) -> None:
        """A path with a typing error leaves no file."""
        end = command(order, "--workflow", "nightly", "--history", str(tmp_path / "typo.db"))

        assert end.code == 2
        assert "knows no workflow with this id" in end.err
        assert list(tmp_path.glob("typo*")) == []

    def test_unknown_workflows(self, make: Make, command: Command) -> None:
        make().submit()

        end = command("pause", "--workflow", "nihgtly")

        assert end.code == 2
        assert "Can't pause the workflow 'nihgtly'" in end.err
        assert "Did you mean 'nightly'?" in end.err

    def test_hostile_names_are_escaped(self, history: HistorySQLite, command: Command) -> None:
        """Line ends of an id or of who paused it reach no terminal."""
        Control(history).submit("of the\nnight")

        end = command("pause", "--workflow", "of the\nnight", "--by", "an\x1bna")

        assert end.code == 0
        assert "\x1b" not in end.out
        assert "dotflow resume --workflow 'of the\\nnight'" in end.out
        assert "an\\x1bna paused its workflow" in command("runs", "--queued").out
