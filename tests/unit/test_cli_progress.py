"""The state of a run, and its view in a terminal."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Span

from dotflow import Context, Task, action
from dotflow.cli.live.progress import Progress, TaskRow
from dotflow.cli.live.view import _run_bar, render, window
from dotflow.core.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptRuns,
    AttemptStarted,
    AttemptWaits,
    CallBegan,
    CallEnded,
    CallsCounted,
    CallWaits,
    Event,
    MapEnded,
    MapOpened,
    TaskCompleted,
    TaskFailed,
    TaskPaused,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure
from dotflow.core.types import TypeStatus

NOW = datetime(2026, 11, 1, tzinfo=UTC)
FAILURE = Failure("ValueError", "no")


@action(retry=3, retry_delay=5)
def step() -> None: ...


def progress_of(*groups: str) -> Progress:
    """A task for each group named."""
    return Progress([Task(number, step, group_name=group) for number, group in enumerate(groups)])


def record(progress: Progress, *events: Event) -> None:
    for event in events:
        progress.record("run", event)


def begins(task: int, attempt: int = 1, tick: float = 0.0) -> AttemptStarted:
    return AttemptStarted(task, attempt, Context(), NOW, tick)


def view(progress: Progress, width: int, height: int, now: float = 10.0) -> list[str]:
    """The lines as they stand in the terminal."""
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(render(progress, "nightly", now, width, height))
    return [line.rstrip() for line in captured.get().splitlines()]


class TestProgress:
    def test_follows_a_task_through_its_life(self, fake_time: object) -> None:
        """Status, attempt and duration, from not started to completed."""
        progress = progress_of("a")
        row = progress.rows[0]
        assert (row.status, row.attempt, row.seconds(9.0)) == (TypeStatus.NOT_STARTED, 0, None)

        record(progress, begins(0, 1, 2.0))
        assert (row.status, row.attempt, row.seconds(3.5)) == (TypeStatus.IN_PROGRESS, 1, 1.5)

        record(progress, AttemptFailed(0, 1, FAILURE, 5.0))
        assert (row.status, row.retry_at) == (TypeStatus.RETRY, 105.0)

        record(progress, begins(0, 2, 8.0), TaskCompleted(0, Context(1), 9.0))
        assert (row.status, row.attempt, row.seconds(99.0), row.is_done) == (TypeStatus.COMPLETED, 2, 7.0, True)

    def test_a_failure_and_a_restored_value_are_ends_too(self) -> None:
        """A failed task has a duration; a restored one has none, but a word for where its value is from."""
        progress = progress_of("a", "b", "c")
        restored = TaskRestored(1, Context(1), Context()), TaskRestored(2, Context(1), Context(), source="cache")

        record(progress, begins(0, 1, 1.0), TaskFailed(0, 1, FAILURE, NOW, 3.0), *restored)

        assert [(row.is_done, row.restored, row.seconds(9.0)) for row in progress.rows] == [
            (True, "", 2.0),
            (True, "restored", None),
            (True, "cached", None),
        ]


def opens(task: int, items: int) -> MapOpened:
    return MapOpened(task, items, NOW, 0.0)


def items_end(task: int, completed: int = 0, failed: int = 0, skipped: int = 0, retries: int = 0) -> list[Event]:
    """The ends of so many items of a map, in this order."""
    events: list[Event] = [
        AttemptFailed(task, 1, FAILURE, 0.0, item=completed + number % max(1, failed)) for number in range(retries)
    ]
    for item in range(completed + failed + skipped):
        if item < completed:
            events.append(TaskCompleted(task, Context(), 1.0, item=item))
        elif item < completed + failed:
            events.append(TaskFailed(task, 3, FAILURE, NOW, 1.0, item=item))
        else:
            events.append(TaskSkipped(task, "no", item=item))
    return events


def begins_call(number: int, arguments: str, tick: float) -> CallBegan:
    return CallBegan(0, 1, number, "search", arguments, 0, f"{number:024x}", NOW, tick)


def ends_call(number: int, tick: float) -> CallEnded:
    return CallEnded(0, 1, number, "1", None, tick)


class TestCalls:
    """A durable step shows its last call, and how many were made and given back."""

    def test_the_last_call_with_its_time_until_it_has_ended(self) -> None:
        """One that began before it may go on."""
        progress = progress_of("a")
        record(progress, begins(0), begins_call(1, "'a'", 1.0), begins_call(2, "'b\\n'", 2.0), ends_call(1, 3.0))
        row = view(progress, 76, 20)[3]
        record(progress, ends_call(2, 4.0))

        assert row.split("  ")[1].rstrip() == r"2 calls, search('b\n') 8.00 s"
        assert view(progress, 76, 20)[3].split("  ")[1].rstrip() == r"2 calls, search('b\n')"

    def test_one_that_polls_shows_what_it_waits_for(self) -> None:
        """Until it has ended."""
        progress = progress_of("a")
        record(progress, begins(0), begins_call(1, "'a'", 1.0), CallWaits(0, 1, 1, 2, "1 of 3 files"))
        row = view(progress, 96, 20)[3]
        record(progress, ends_call(1, 4.0))

        assert "1 call, search('a') waits: 1 of 3… 9.00 s" in row
        assert "waits" not in view(progress, 96, 20)[3]

    def test_those_that_were_given_back_are_counted(self) -> None:
        """Also before the first call that is made is kept. Numbers are those of all runs, and don't count."""
        progress = progress_of("a")
        record(progress, begins(0), CallsCounted(0, 1, 0, 1_200), begins_call(1_201, "'a'", 9.0))

        assert "  1 call, 1,200 given back, search(… 1.00 s" in view(progress, 90, 20)[3]

    @pytest.mark.parametrize(
        ("width", "text"), [(76, ", search('xxxxxxxxxxxxxxxxx… 8.00 s"), (60, ", search('x… 8.00 s"), (50, "")]
    )
    def test_a_long_call_is_cut_and_a_narrow_view_has_none(self, width: int, text: str) -> None:
        """Its time stays."""
        progress = progress_of("a")
        record(progress, begins(0), begins_call(1, repr("x" * 90), 2.0))

        assert f"step 1 call{text} In progress" in " ".join(view(progress, width, 20)[3].split())

    def test_they_end_with_the_attempt(self) -> None:
        """Those of an item are in no row."""
        progress = progress_of("a", "b")
        record(progress, begins(0), begins_call(1, "'a'", 2.0), AttemptFailed(0, 1, FAILURE, 5.0))
        assert "search" not in view(progress, 76, 20)[3]
        record(progress, begins(0, 2, 3.0))
        assert "call" not in view(progress, 76, 20)[3]
        record(progress, opens(1, 1), begins_call(1, "'a'", 2.0)._replace(task_id=1, item=0))
        assert progress.rows[1].calls is None


class TestMaps:
    """A map is one row, however many items it has."""

    @pytest.mark.parametrize(
        ("width", "bar", "notes"),
        [(76, 19, "4 failed, 5 retries"), (60, 24, ""), (46, 10, ""), (38, 0, "")],
    )
    def test_a_bar_and_counts(self, width: int, bar: int, notes: str) -> None:
        """The counts where they fit, too."""
        progress = progress_of("a")
        record(progress, opens(0, 300), *items_end(0, completed=296, failed=4, retries=5))

        line = view(progress, width, 20)[3]

        assert line[1:].split() == ["step", *(["━" * bar] if bar else []), *notes.split(), "300/300", "10.0", "s"]
        assert len(line) <= width

    def test_its_items_are_no_rows_and_change_no_status(self) -> None:
        """It runs until it has ended itself; its bar adds to that of the run."""
        progress = progress_of("a", "a")
        row = progress.rows[0]

        record(progress, opens(0, 4), begins(0)._replace(item=1), *items_end(0, completed=1, skipped=1))
        assert (row.status, row.seconds(2.0)) == (TypeStatus.IN_PROGRESS, 2.0)
        assert Span(0, 15, "green") in _run_bar(progress.all, 60).spans
        assert "0/2 done" in view(progress, 60, 20)[1]

        record(progress, MapEnded(0, Context(), FAILURE, NOW, 9.0))
        assert (row.status, row.seconds(99.0), row.is_done) == (TypeStatus.FAILED, 9.0, True)

    def test_a_map_in_rounds_grows(self) -> None:
        """It opens again in each round, with more items, and keeps its counts and its beginning."""
        progress = progress_of("a")
        record(progress, opens(0, 2), *items_end(0, completed=2), opens(0, 5)._replace(tick=4.0))
        row = progress.rows[0]

        assert row.items is not None
        assert (row.items.done, row.items.count, row.seconds(9.0)) == (2, 5, 9.0)

    def test_one_that_is_restored_says_so(self) -> None:
        """As a task does; a part of its items is a count."""
        progress = progress_of("a", "a")
        for task, restored in ((0, 3), (1, 2)):
            record(progress, opens(task, 3))
            record(progress, *(TaskRestored(task, Context(), Context(), item=item) for item in range(restored)))

        lines = view(progress, 76, 20)

        assert lines[3].split()[-2:] == ["3/3", "restored"]
        assert "2 restored  2/3" in lines[4]

    @pytest.mark.parametrize(
        ("count", "text"), [(0, "0/0"), (99_999, "0/99999"), (10**6, "0/1000000"), (10**10, "0 %")]
    )
    def test_any_number_of_items_fits(self, count: int, text: str) -> None:
        """A percentage stands where the counts would be too long."""
        progress = progress_of("a")
        record(progress, opens(0, count))

        assert text in view(progress, 76, 20)[3]


class TestView:
    def test_a_task_shows_which_limit_it_waits_for(self) -> None:
        progress = progress_of("etl")
        record(progress, AttemptHeld(0, 1, "crm", "3 at once", 1, 5.05, NOW, 5.0))

        assert "step  waits for crm (3 at once)" in " ".join(view(progress, 80, 20, now=6.0))
        assert "waits" not in " ".join(view(progress, 80, 20, now=7.0)), "it has not asked again: nothing waits"

    def test_a_map_shows_how_many_items_wait_and_until_when(self) -> None:
        progress = progress_of("etl")
        record(progress, MapOpened(0, 1000, NOW, 0.0), AttemptHeld(0, 1, "crm", "10/h", 997, 65.0, NOW, 5.0, 3))

        again = f"{NOW.astimezone() + timedelta(seconds=60):%H:%M:%S}"
        assert f"step  997 wait for crm (10/h), next {again}" in " ".join(view(progress, 100, 20, now=6.0))

    def test_a_skipped_task_has_its_reason(self) -> None:
        """It counts as done."""
        progress = progress_of("a")
        record(progress, TaskSkipped(0, "good_enough\nwas False"))

        lines = view(progress, 76, 20)

        assert "1/1 done" in lines[1]
        assert lines[3].split() == ["–", "step", "good_enough", "was", "False", "Skipped"]

    def test_a_paused_task_has_its_reason_and_its_time_stands_still(self) -> None:
        """It is not done, and does not run."""
        progress = progress_of("a", "a")
        record(progress, begins(0))
        record(progress, TaskPaused(0, "the run was paused", NOW, 1.5))

        lines = view(progress, 76, 20)

        assert "0/2 done" in lines[1]
        assert lines[3].split() == ["‖", "step", "the", "run", "was", "paused", "Paused", "1/3", "1.50", "s"]
        assert progress.all.active == {}

    def test_a_task_that_waits_says_for_what(self) -> None:
        """Until it has ended, or failed."""
        progress = progress_of("a")
        record(progress, begins(0), AttemptWaits(0, 1, 37, "3 of 5\nfiles", NOW, 2.0))

        (line,) = view(progress, 76, 20)[3:4]
        assert "step  waits: 3 of 5 files, asked 37 times" in line
        assert "In progress" in line
        record(progress, AttemptFailed(0, 1, FAILURE, 5))
        assert "waits" not in "".join(view(progress, 76, 20))
        record(progress, begins(0, 2), AttemptWaits(0, 2, 1, "", NOW, 2.0))
        record(progress, TaskCompleted(0, Context(1), 3.0))
        assert "waits" not in "".join(view(progress, 76, 20))

    def test_a_task_that_waited_for_its_worker_counts_from_its_run(self) -> None:
        """An item that does is counted once."""
        progress = progress_of("a", "b")
        record(progress, begins(0), AttemptRuns(0, 1, NOW, 2.0))
        record(progress, MapOpened(1, 1, NOW, 0.0), AttemptStarted(1, 1, Context(), NOW, 0.0, 0))
        record(progress, AttemptRuns(1, 1, NOW, 2.0, 0))

        assert progress.rows[0].seconds(5.0) == 3.0
        assert progress.rows[1].items is not None
        assert progress.rows[1].items.counts.total() == 1

    def test_of_a_wide_graph_the_running_tasks_are_shown(self) -> None:
        """Wherever they are, and a slow one at the beginning hides none of them."""
        progress = progress_of(*["a"] * 10_000)
        record(progress, begins(0))
        for task in range(1, 5000):
            record(progress, begins(task), TaskCompleted(task, Context(), 1.0))
        record(progress, begins(7000), begins(9999))

        lines = view(progress, 76, 24)

        assert "4999/10000 done" in lines[1]
        assert sum("In progress" in line for line in lines) == 3
        assert lines[-1].split() == ["…", "9997", "more"]

    def test_every_task_has_its_status_attempt_and_time(self, fake_time: object) -> None:
        """One group needs no heading."""
        progress = progress_of("a", "a", "a", "a", "a")
        record(progress, begins(0, 1, 1.0), TaskCompleted(0, Context(), 2.5), begins(1, 2, 4.0), begins(2, 1, 5.0))
        record(progress, AttemptFailed(2, 1, FAILURE, 5.0), begins(3, 3, 6.0), TaskFailed(3, 3, FAILURE, NOW, 7.0))

        lines = view(progress, 60, 20, now=101.0)

        assert lines[0] == ""
        assert lines[1].startswith("nightly")
        assert "2/5 done" in lines[1]
        assert [line.split() for line in lines[3:]] == [
            ["✓", "step", "Completed", "1/3", "1.50", "s"],
            [lines[4].split()[0], "step", "In", "progress", "2/3", "1:37"],
            ["↻", "step", "Retry", "1/3", "in", "4", "s"],
            ["✗", "step", "Failed", "3/3", "1.00", "s"],
            ["·", "step", "Not", "started"],
        ]

    @pytest.mark.parametrize(
        ("width", "side_by_side"), [(38, 1), (60, 1), (78, 2), (80, 2), (118, 3), (140, 3), (160, 4)]
    )
    def test_groups_stand_side_by_side_as_far_as_they_fit(self, width: int, side_by_side: int) -> None:
        """Each needs 38 columns."""
        lines = view(progress_of("g1", "g2", "g3", "g4"), width, 40)

        heads = next(line for line in lines if "g1" in line)
        assert [f"g{number}" in heads for number in (1, 2, 3, 4)] == [number <= side_by_side for number in (1, 2, 3, 4)]
        assert all(any(f"g{number}" in line for line in lines) for number in (1, 2, 3, 4))

    @given(
        groups=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60),
        width=st.integers(20, 200),
        height=st.integers(9, 60),
    )
    def test_it_always_fits_the_terminal(self, groups: Sequence[str], width: int, height: int) -> None:
        """With any number of tasks and groups, and in a small terminal."""
        progress = progress_of(*groups)
        record(progress, begins(len(groups) // 2))

        lines = view(progress, width, height)

        assert len(lines) <= height
        assert all(len(line) <= width for line in lines)

    def test_groups_that_do_not_fit_are_one_list(self) -> None:
        """Of its tasks those are shown that run, and the number of the others."""
        progress = progress_of(*(f"group-{number}" for number in range(30)))
        record(progress, begins(12), begins(20))

        lines = view(progress, 80, 12)

        assert not any("group" in line for line in lines)
        assert sum("In progress" in line for line in lines) == 2
        assert lines[-1].split() == ["…", "28", "more"]

    def test_a_workflow_without_tasks_has_a_view(self) -> None:
        """A factory may return one."""
        assert "0/0 done" in view(Progress([]), 80, 24)[1]


def rows_with(over: int, left: int) -> list[TaskRow]:
    progress = progress_of(*["a"] * (over + left))
    for number in range(over):
        record(progress, begins(number), TaskCompleted(number, Context(), 1.0))
    return progress.rows


@pytest.mark.parametrize(
    ("over", "left", "max_rows", "before", "shown", "after"),
    [
        (2, 2, 4, 0, 4, 0),
        (0, 10, 4, 0, 3, 7),
        (1, 9, 4, 0, 3, 7),
        (2, 8, 4, 0, 3, 7),
        (3, 7, 4, 2, 2, 6),
        (5, 5, 4, 4, 2, 4),
        (9, 1, 4, 7, 3, 0),
        (10, 0, 4, 7, 3, 0),
        (5, 5, 1, 5, 1, 4),
    ],
)
def test_a_window_shows_the_active_rows(
    over: int, left: int, max_rows: int, before: int, shown: int, after: int
) -> None:
    """The last row that is done, and those after it; the counts of omitted rows take lines, too."""
    rows = rows_with(over, left)

    found = window(rows, over, max_rows)

    assert (found[0], len(found[1]), found[2]) == (before, shown, after)


@given(over=st.integers(0, 30), left=st.integers(0, 30), max_rows=st.integers(3, 40))
def test_a_window_counts_the_omitted_rows(over: int, left: int, max_rows: int) -> None:
    """Omitted and visible rows are all rows, and the window fits."""
    rows = rows_with(over, left)

    before, shown, after = window(rows, over, max_rows)

    assert list(shown) == rows[before : len(rows) - after]
    assert len(shown) + bool(before) + bool(after) <= max_rows
    assert over == len(rows) or rows[over] in shown
