"""A run in a notebook: a piece of HTML in which whatever the run says is text."""

import dataclasses

import pytest

from dotflow.core.types.run_state import TypeRunState
from dotflow.report.notebook import MAX_ERRORS, MAX_TASKS, notebook_html
from tests.unit.run_samples import FAILED, HOSTILE, RETRY, Parsed, a_run, a_task, an_attempt, hostile_run


@pytest.mark.parametrize("text", HOSTILE)
def test_a_run_can_say_anything(text: str) -> None:
    """It has the same elements, with the same attributes."""
    assert Parsed(notebook_html(hostile_run(text))).tags == Parsed(notebook_html(hostile_run("text"))).tags


def test_a_bar_for_each_attempt() -> None:
    """As far as its times are known; one that goes on has reached the end of the timeline."""
    running = an_attempt(began=5)._replace(duration=None, state="Running")
    attempts = [an_attempt(RETRY), an_attempt(RETRY, 2)._replace(began=None), an_attempt(FAILED, 3, began=8)]
    shown = notebook_html(a_run(a_task(0, *attempts), a_task(1, running), a_task(2)))

    assert shown.count("border-radius") == 3
    assert "left:9.52%;width:2.38%" in shown
    assert "left:47.62%;width:52.38%" in shown


def test_of_many_tasks_there_are_the_first_ones() -> None:
    """It says how many there are more."""
    shown = notebook_html(a_run(*(a_task(number, an_attempt(FAILED)) for number in range(MAX_TASKS + 7))))

    assert "and 7 more tasks</p>" in shown
    assert f"and {MAX_TASKS + 7 - MAX_ERRORS} more tasks that failed" in shown


def test_a_crashed_run_ran_at_least_until_its_last_sign() -> None:
    """The moment of the crash is unknown."""
    run = a_run(a_task(0, an_attempt()), state=TypeRunState.CRASHED)

    assert "completed, at least 10.5 s</p>" in notebook_html(run)
    assert "completed, 10.5 s</p>" in notebook_html(dataclasses.replace(run, state=TypeRunState.FAILED))


def test_a_run_of_no_time() -> None:
    """It has nothing to divide by."""
    run = a_run(a_task(0, an_attempt()), state=TypeRunState.COMPLETED)

    assert "✓ Completed" in notebook_html(dataclasses.replace(run, ended=run.began))
