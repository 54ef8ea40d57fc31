"""`dotflow show RUN STEP`: its attempts, its errors, and the end of its output."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.text import Text

from dotflow.abc.archive import Archive
from dotflow.cli.formatting import pluralize
from dotflow.cli.history.run_page import counts_text, last_lines, print_next
from dotflow.cli.history.text import Column, Screen, local, safe, size, span, styled
from dotflow.core.text import times
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.records.record import BAD, AttemptRecord, RunRecord, TaskRecord, last_notes
from dotflow.report.next_steps import step_commands
from dotflow.worker.files import change_since

MAX_ITEMS: Final = 20  # items or attempts with a line each
MAX_ERRORS: Final = 3  # attempts of which the errors are printed
MAX_FILES: Final = 20
MAX_LINES: Final = 20  # of the output

FILE_COLUMNS: Final = (
    Column("File", fits=1),
    Column("Role"),
    Column("Size", is_right=True),
    Column("Modified"),
    Column("Now"),
)

COLUMNS: Final = (
    Column("Given", fits=2),
    Column("Attempt", is_right=True),
    Column("State"),
    Column("Began"),
    Column("Duration", is_right=True),
    Column("CPU", is_right=True),
    Column("Memory", is_right=True),
    Column("Process", is_right=True),
    Column("Value", fits=1),
)


def print_step(
    archive: Archive,
    run: RunRecord,
    task: TaskRecord,
    item: int | None,
    attempt: int | None,
    history: str | None,
) -> None:
    """Prints a task or an item of a run, with all its attempts or one of them."""
    screen = Screen()
    attempts = task.attempts_of(item, attempt)
    state = attempts[-1].state if attempts else task.state
    screen.line(
        styled(state),
        "  ",
        (safe(task.name_of(item)), "bold"),
        f"  task {task.task_id} of run {run.run_id}",
    )
    given = attempts[-1].input if attempts else ""
    for label, text in (
        ("workflow", run.workflow),
        ("step", task.identity),
        ("policy", ", ".join(f"{key} {value}" for key, value in task.policy.items())),
        ("round" if task.rounds else "item", given),
        ("round", _round_text(attempts)),
        ("rounds" if task.rounds else "items", counts_text(task) if task.count is not None and item is None else ""),
        ("noted", _notes_text(task, item, attempts)),
    ):
        if text:
            screen.fact(label, text)
    listed = _listed(task, item, attempts)
    if listed:
        screen.line()
        numbers = [Column(title, is_right=True) for title in ("Round", "Round" if task.rounds else "Item")]
        has_rounds = bool(task.item_rounds) and item is None and not task.rounds and not task.round_name
        rows = [[_round_text([one]) if has_rounds else "", *_row(one)] for one in listed]
        screen.print_table((*numbers, *COLUMNS), rows)
        if left := _left_out(task, item, attempts, listed):
            screen.line((f"and {left}; --json lists all", "dim"))
    if task.count is None or item is not None:
        _print_files(screen, run, attempts)
        _print_errors(screen, attempts)
    chunks = archive.output(run.run_id, task.number_of(item), attempt=attempt)
    output = b"".join(chunk.data if chunk.stream else b"\n" + chunk.data for chunk in chunks)
    lines = last_lines(output, MAX_LINES)
    if lines:
        count = output.rstrip(b"\n").count(b"\n") + 1
        title = f"The last {MAX_LINES} of {count} lines of its output; --output prints all:"
        screen.line((f"\n{title if count > MAX_LINES else 'Its output:'}", "dim"))
        for text in lines:
            screen.line(("| ", "dim"), text)
    print_next(screen, step_commands(archive, run, task, item, history))


def _round_text(attempts: Sequence[AttemptRecord]) -> str:
    return str(attempts[-1].round) if attempts and attempts[-1].round is not None else ""


def _notes_text(task: TaskRecord, item: int | None, attempts: Sequence[AttemptRecord]) -> str:
    """Returns what a step has noted: `rows 6, score 0.93`; of the items of a map the means."""
    if task.count is not None and item is None:
        return ", ".join(f"{name} {sum(of) / len(of):g} on average" for name, of in task.numbers.items())
    return ", ".join(f"{name} {safe(str(value))}" for name, value in last_notes(attempts).items())


def _listed(task: TaskRecord, item: int | None, attempts: Sequence[AttemptRecord]) -> list[AttemptRecord]:
    """Returns the attempts to list: of a map, its items that failed, or else the first ones."""
    if task.count is None or item is not None:
        return list(attempts[-MAX_ITEMS:])
    last = [of_item[-1] for of_item in task.items.values()]
    return ([attempt for attempt in last if attempt.state in BAD] or last)[:MAX_ITEMS]


def _left_out(
    task: TaskRecord, item: int | None, attempts: Sequence[AttemptRecord], listed: Sequence[AttemptRecord]
) -> str:
    """Returns what is not listed: `14 more failed items`; "" for nothing."""
    if task.count is None or item is not None:
        earlier = len(attempts) - len(listed)
        return pluralize(earlier, "earlier attempt") if earlier else ""
    words = "round" if task.rounds else "item"
    failed = sum(task.counts[state] for state in BAD)
    more = (failed or len(task.items)) - len(listed)
    return pluralize(more, f"more {'failed ' if failed else ''}{words}") if more else ""


def _row(attempt: AttemptRecord) -> list[Text | str]:
    value = attempt.glimpse
    if attempt.errors:
        value = f"{attempt.errors[-1].exception}: {attempt.errors[-1].message}"
    if attempt.asked and attempt.state is not TypeAttemptState.RUNNING:
        value = f"{value}, not ready {times(attempt.asked)}"
    return [
        "" if attempt.item is None else str(attempt.item),
        safe(attempt.input),
        str(attempt.attempt) if attempt.attempt else "",
        styled(attempt.state),
        "" if attempt.began is None else local(attempt.began)[11:],
        span(attempt.duration),
        span(attempt.cpu),
        size(attempt.peak),
        "" if attempt.worker is None else str(attempt.worker),
        Text(safe(value + (f", by {attempt.fallback}" if attempt.fallback else "")), "dim"),
    ]


def _print_files(screen: Screen, run: RunRecord, attempts: Sequence[AttemptRecord]) -> None:
    """Prints the files of the last attempt, as they were and whether they are so now."""
    files = attempts[-1].files.listed() if attempts else []
    if not files:
        return
    folder = Path(run.environment.get("folder") or "")
    folder = folder if folder.is_dir() else Path()  # where a copy of the run would look
    rows = [
        [
            safe(path),
            role,
            "gone" if state.is_gone else size(state.size) if state.is_file else "folder",
            local(state.modified) if state.is_file else "",
            change_since(folder / path, state),
        ]
        for path, role, state in files[:MAX_FILES]
    ]
    screen.line()
    screen.print_table(FILE_COLUMNS, rows)
    if len(files) > MAX_FILES:
        screen.line((f"and {pluralize(len(files) - MAX_FILES, 'more file')}; --json lists them", "dim"))


def _print_errors(screen: Screen, attempts: Sequence[AttemptRecord]) -> None:
    if len(attempts) > MAX_ERRORS:
        screen.line((f"\nThe last {MAX_ERRORS} attempts; --attempt N chooses another one.", "dim"))
    for attempt in attempts[-MAX_ERRORS:]:
        for number, error in enumerate(attempt.errors, 1):
            nth = f", {number} of {pluralize(len(attempt.errors), 'error')}" if len(attempt.errors) > 1 else ""
            again = f", repeated after {span(error.retry_in)}" if error.retry_in is not None else ""
            again = f", not repeated: {safe(error.refusal)}" if error.refusal else again
            screen.line((f"\nAttempt {attempt.attempt}{nth}{again}", "bold"))
            text = error.traceback.rstrip("\n") or f"{error.exception}: {error.message}"
            for line in text.split("\n"):
                screen.line(safe(line))
