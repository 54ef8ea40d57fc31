"""What `dotflow show` prints for people: the page of a run, and that of one of its steps."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.text import Text

from dotflow.abc.archive import Archive
from dotflow.cli.calls import FoundCall, KeptCall
from dotflow.cli.formatting import pluralize
from dotflow.cli.screen import Column, Screen, local, safe, size, span, state_of, styled
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.failure import raised_at
from dotflow.core.outcome import CALLS_GIVEN, CALLS_KEPT
from dotflow.core.text import times, titled_id
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.call_state import TypeCallState
from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import (
    BAD,
    GOOD,
    AttemptRecord,
    CallPage,
    CallRecord,
    RunRecord,
    TaskRecord,
    last_notes,
)
from dotflow.report.document import trace_url
from dotflow.report.next_steps import next_steps, step_commands
from dotflow.report.stale_code import changed_text, restored_with_other_code
from dotflow.report.text import took_text
from dotflow.worker.files import change_since

MAX_TASKS: Final = 50  # with a line each; of more, only those that did not complete
MAX_FAILURES: Final = 10  # tasks of which the errors are printed
MAX_ITEMS: Final = 3  # failed items of one task
MAX_ANSWERS: Final = 10
MAX_LINES: Final = 5  # of the output, and of a message

TASK_COLUMNS: Final = (
    Column("Task", fits=2),
    Column("Group", fits=3),
    Column("State"),
    Column("Attempts", is_right=True),
    Column("Duration", is_right=True),
    Column("CPU", is_right=True),
    Column("Memory", is_right=True),
    Column("Value", fits=1),
)


def print_run(archive: Archive, run: RunRecord, history: str | None) -> None:
    """Prints a run, and commands that help with it. *history* is the value of --history."""
    screen = Screen()
    title = safe(titled_id(run.workflow_id, run.name) or run.workflow_id)
    screen.line(state_of(run), "  ", (title, "bold"), f"  run {run.run_id}")
    for label, text in _facts(run):
        screen.fact(label, text)
    if changed := restored_with_other_code(archive, run):
        screen.fact("code", changed_text(changed))
    screen.line()
    _print_tasks(screen, run)
    failed = [*run.failures, *run.tolerated]
    for task in failed[:MAX_FAILURES]:
        screen.line()
        _print_failure(screen, archive, run, task)
    if len(failed) > MAX_FAILURES:
        screen.line((f"\nand {pluralize(len(failed) - MAX_FAILURES, 'more task')} that failed", "dim"))
    print_next(screen, next_steps(archive, run, history))


def _facts(run: RunRecord) -> Iterator[tuple[str, str]]:
    took = f", {took_text(run.duration, is_end_known=run.is_end_known)}" if run.duration is not None else ""
    if run.has_begun:
        yield "began", f"{local(run.began)}{took}"
    if run.submitted is not None:
        yield "queued", local(run.submitted)
    if run.params:
        yield "params", ", ".join(f"{name}={value}" for name, value in run.params.items())
    yield from _chain(run)
    for question in run.open_questions[:MAX_ANSWERS]:
        yield "asks", f"{question.step}, since {local(question.asked)}: {question.text}"
    answered = [(question, question.at) for question in run.questions if question.at is not None]
    for question, at in answered[:MAX_ANSWERS]:
        who = f"by {question.by}, {local(at)}{question.comment and f': {question.comment}'}"
        yield "approved" if question.is_yes else "rejected", f"{question.step} {who}"
    if len(answered) > MAX_ANSWERS:
        yield "answers", f"and {pluralize(len(answered) - MAX_ANSWERS, 'more answer')}"
    how = [run.mode, "resumed" if run.resumed else "", f"by {run.trigger}" if run.trigger else ""]
    if ran := ", ".join(filter(None, [*how, f"process {run.process}" if run.process else ""])):
        yield "mode", ran
    if run.parent is not None:
        yield "parent", f"run {run.parent.run_id[:ID_LENGTH]}, task {run.parent.task_id}"
    if run.children:
        yield "inside", ", ".join(f"run {child[:ID_LENGTH]}" for child in run.children)
    environment = run.environment
    commit = f", commit {environment['commit'][:ID_LENGTH]}" if environment.get("commit") else ""
    if environment:
        yield "with", f"Python {environment.get('python')}, dotflow {environment.get('dotflow')}{commit}"
    if run.trace:
        yield "trace", trace_url(run.trace) or run.trace
    if stopped := run.reason or (run.error if run.state is TypeRunState.CRASHED else ""):
        yield "stopped", stopped
    elif run.state is TypeRunState.FAILED and not run.failures:  # before its first step
        yield "failed", run.error
    if run.state is TypeRunState.UNKNOWN:
        yield "end", run.error
    for at, text in run.notes:
        yield "note", f"{local(at)} {text}"


def _chain(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yields the other runs of its chain, the newest first, and the run that has replaced its values."""
    place = run.chain.index(run.run_id) if run.chain else 0
    earlier, later = run.chain[:place], run.chain[place + 1 :]
    if earlier:
        yield "chain", f"continues {', '.join(run_id[:ID_LENGTH] for run_id in reversed(earlier))}"
    if later:
        yield "chain", f"goes on as {', '.join(run_id[:ID_LENGTH] for run_id in reversed(later))}"
    if run.superseded:
        yield "chain", f"replaced by {run.superseded[:ID_LENGTH]}"


def _print_tasks(screen: Screen, run: RunRecord) -> None:
    """Prints a line for each task; of many, only for those that did not complete."""
    listed: Sequence[TaskRecord] = run.steps
    if len(listed) > MAX_TASKS:
        listed = [task for task in run.steps if task.state not in GOOD][:MAX_TASKS]
    grouped = len({task.group for task in run.steps}) > 1
    rows = [_task_row(task, grouped=grouped) for task in listed]
    if rows:
        screen.print_table(TASK_COLUMNS, rows)
    if len(listed) < len(run.steps):
        screen.line((f"and {pluralize(len(run.steps) - len(listed), 'more task')}", "dim"))


def _task_row(task: TaskRecord, *, grouped: bool) -> list[Text | str]:
    attempts, allowed = len(task.attempts), task.policy.get("attempts", 1)
    is_repeated = task.count is None and max(attempts, allowed) > 1 and bool(task.last and task.last.attempt)
    last = task.last
    note = counts_text(task) if task.count is not None else ""
    preview = "" if last is None else last.glimpse
    error = f"{last.errors[-1].exception}" if last and last.errors and not note else ""
    longest = max((one.waited or 0.0 for of in (task.attempts, *task.items.values()) for one in of), default=0.0)
    waited = f"waited {span(longest)}{' at most' if task.count else ''} for limits" if longest >= LONG else ""
    return [
        f"{task.task_id} {safe(task.name)}",
        safe(task.group) if grouped else "",
        styled(task.state),
        f"{attempts}/{max(attempts, allowed)}" if is_repeated else "",
        span(task.duration),
        span(task.cpu),
        size(task.peak),
        Text(safe(", ".join(filter(None, (note or preview or error, waited)))), "dim"),
    ]


def counts_text(task: TaskRecord) -> str:
    """Returns the items of a map in numbers: `19 of 20 items completed, 1 failed`, or its rounds."""
    done = sum(task.counts[state] for state in GOOD)
    others = [f"{count} {state.lower()}" for state, count in sorted(task.counts.items()) if state not in GOOD]
    of = f"at most {pluralize(task.rounds, 'round')}" if task.rounds else task.items_text
    return ", ".join([f"{done} of {of} completed", *others])


def _print_failure(screen: Screen, archive: Archive, run: RunRecord, task: TaskRecord) -> None:
    items = [attempts for attempts in task.items.values() if attempts[-1].state in BAD]
    if not items:
        print_error(screen, archive, run, task, task.attempts)
        return
    screen.line(styled(task.state, f"{task.task_id} {safe(task.name)}: {counts_text(task)}"))
    for attempts in items[:MAX_ITEMS]:
        print_error(screen, archive, run, task, attempts, indent="  ")
    if len(items) > MAX_ITEMS:
        screen.line((f"  and {pluralize(len(items) - MAX_ITEMS, 'more item')}", "dim"))


def print_error(
    screen: Screen,
    archive: Archive,
    run: RunRecord,
    task: TaskRecord,
    attempts: Sequence[AttemptRecord],
    indent: str = "",
) -> None:
    """Prints the last error of a task or an item, the line of code that raised it, and the last lines of its output."""
    last = attempts[-1]
    many = f", attempt {last.attempt}" if last.attempt > 1 else ""
    given = f" {safe(last.input)}" if last.input else ""
    given += f" in round {last.round}" if last.round is not None and not task.levels else ""
    screen.line(indent, styled(last.state, f"{task.task_id} {safe(task.name_of(last.item))}{given}{many}"))
    for error in last.errors[-1:]:
        lines = f"{error.exception}: {error.message}".rstrip(": ").split("\n")
        for line in lines[:MAX_LINES]:
            screen.line(f"{indent}  ", (safe(line), "red"))
        if len(lines) > MAX_LINES:
            screen.line((f"{indent}  ...", "dim"))
        if error.refusal:
            screen.line(f"{indent}  ", (f"not repeated: {safe(error.refusal)}", "red"))
        if location := raised_at(error.traceback):
            screen.line(f"{indent}  ", (safe(location), "dim"))
    if last.state is TypeAttemptState.CRASHED:
        screen.line(f"{indent}  ", ("the process of the run ended during this attempt", "red"))
    elif last.state is TypeAttemptState.RETRY:
        screen.line(f"{indent}  ", ("the process of the run ended before the next attempt", "red"))
    chunks = archive.output(run.run_id, task.number_of(last.item), attempt=last.attempt)
    data = b"".join(chunk.data for chunk in chunks)
    for line in last_lines(data):
        screen.line(f"{indent}  ", ("| ", "dim"), line)


def print_next(screen: Screen, commands: Sequence[tuple[str, str]]) -> None:
    """Prints commands to copy, each with what it does; none with a control character."""
    commands = [command for command in commands if command[0].isprintable()]
    if not commands:
        return
    screen.line()
    width = max(len(command) for command, _ in commands)
    for command, purpose in commands:
        fits = width + len(purpose) + 4 <= screen.width
        screen.line(f"  {command:{width}}  " if fits else f"  {command}  ", (f"# {purpose}", "dim"))


def last_lines(data: bytes, count: int = MAX_LINES) -> list[str]:
    """Returns the last lines of an output as a terminal may show them; of a progress bar its last state."""
    lines = data.decode(errors="replace").rstrip("\n").split("\n")[-count:] if data.strip() else []
    return [safe(line.rstrip("\r").rpartition("\r")[2]) for line in lines]


MAX_ATTEMPTS: Final = 20  # items or attempts with a line each
LONG: Final = 1.0  # seconds of a wait that has a place in a line
MAX_ERRORS: Final = 3  # attempts of which the errors are printed
MAX_FILES: Final = 20
MAX_STEP_LINES: Final = 20  # of the output

FILE_COLUMNS: Final = (
    Column("File", fits=1),
    Column("Role"),
    Column("Size", is_right=True),
    Column("Modified"),
    Column("Now"),
)

CALL_COLUMNS: Final = (
    Column("Number", is_right=True),
    Column("Call", fits=2),
    Column("Duration", is_right=True),
    Column("State"),
    Column("Value", fits=1),
)
CALL_STYLES: Final = {TypeCallState.FAILED: "red", TypeCallState.CUT_OFF: "red", TypeCallState.RUNNING: "yellow"}

ATTEMPT_COLUMNS: Final = (
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
    calls: int | None,
) -> None:
    """Prints a task or an item of a run, with all its attempts or one of them, and its last calls, at most *calls*."""
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
        (
            "policy",
            ", ".join(f"{key} {size(value) if key == 'memory' else value}" for key, value in task.policy.items()),
        ),
        ("round" if task.rounds else "item", given),
        ("round", "" if task.levels else _round_text(attempts)),
        ("rounds" if task.rounds else "items", counts_text(task) if task.count is not None and item is None else ""),
        ("noted", _notes_text(task, item, attempts)),
        ("calls", _calls_text(attempts)),
        ("waited", _waited_text(task, item, attempts)),
    ):
        if text:
            screen.fact(label, text)
    listed = _listed(task, item, attempts)
    if listed:
        screen.line()
        has_names = bool(task.levels) and item is None
        titles = ("Round", "Round" if task.rounds else "Item")
        numbers = [Column(title, is_right=not has_names) for title in titles]
        has_rounds = bool(task.item_rounds) and item is None and not task.rounds and not task.round_name
        rows = [[_round_text([one]) if has_rounds and not has_names else "", *_attempt_row(one)] for one in listed]
        for row, one in zip(rows, listed, strict=True) if has_names else ():
            row[1] = safe(task.name_of(one.item))
        screen.print_table((*numbers, *ATTEMPT_COLUMNS), rows)
        if left := _left_out(task, item, attempts, listed):
            screen.line((f"and {left}; --json lists all", "dim"))
    if task.count is None or item is not None:
        page = archive.calls(run.run_id, task.number_of(item), attempt=attempt, limit=calls)
        _print_calls(screen, page, "; --all lists them" if calls else " that have no row")
        _print_files(screen, run, attempts)
        _print_errors(screen, attempts)
    chunks = archive.output(run.run_id, task.number_of(item), attempt=attempt)
    output = b"".join(chunk.data if chunk.stream else b"\n" + chunk.data for chunk in chunks)
    lines = last_lines(output, MAX_STEP_LINES)
    if lines:
        count = output.rstrip(b"\n").count(b"\n") + 1
        title = f"The last {MAX_STEP_LINES} of {count} lines of its output; --output prints all:"
        screen.line((f"\n{title if count > MAX_STEP_LINES else 'Its output:'}", "dim"))
        for text in lines:
            screen.line(("| ", "dim"), text)
    print_next(screen, step_commands(archive, run, task, item, history))


def _print_calls(screen: Screen, page: CallPage, left_out: str) -> None:
    """Prints the calls of a durable step. Those in durable calls are indented."""
    if not page.calls:
        return
    screen.line()
    screen.print_table(CALL_COLUMNS, [_call_row(call) for call in page.calls])
    if left := page.total - len(page.calls):
        screen.line((f"and {pluralize(left, 'earlier call')}{left_out}", "dim"))


def _call_row(call: CallRecord) -> list[Text | str]:
    error = f"{call.exception}: {call.message}".rstrip(": ")
    return [
        str(call.number),
        "  " * call.depth + safe(call.shown),
        span(call.duration),
        Text(str(call.state).lower(), CALL_STYLES.get(call.state, "")),
        Text(safe(error or call.glimpse), "dim"),
    ]


def print_call(found: FoundCall, kept: KeptCall) -> None:
    """Prints a call of a durable step, with its arguments and its value as far as they are there, and its failure."""
    screen, call = Screen(), found.call
    state = Text(str(call.state), CALL_STYLES.get(call.state, ""))
    screen.line(state, "  ", (safe(call.shown), "bold"), f"  call {found.address} of run {found.run.run_id}")
    took = "" if call.duration is None else f", {span(call.duration)}"
    screen.fact("began", f"{local(call.began)}{took}, in attempt {call.attempt}")
    for name, value in (kept.arguments or {}).items():
        screen.fact("given", f"{name} = {json.dumps(value, ensure_ascii=False)}")
    if kept.has_value:
        screen.fact("value", json.dumps(kept.value, ensure_ascii=False))
    elif call.glimpse:
        screen.fact("value" if call.duration is not None else "note", call.glimpse)
    if kept.note:
        screen.fact("note", kept.note)
    text = call.traceback or f"{call.exception}: {call.message}".rstrip(": ")
    if text:
        screen.line()
    for line in text.rstrip("\n").split("\n") if text else ():
        screen.line(safe(line))


def _round_text(attempts: Sequence[AttemptRecord]) -> str:
    return str(attempts[-1].round) if attempts and attempts[-1].round is not None else ""


def _notes_text(task: TaskRecord, item: int | None, attempts: Sequence[AttemptRecord]) -> str:
    """Returns what a step has noted: `rows 6, score 0.93`; of the items of a map the means."""
    if task.count is not None and item is None:
        return ", ".join(f"{name} {sum(of) / len(of):g} on average" for name, of in task.numbers.items())
    return ", ".join(f"{name} {safe(str(value))}" for name, value in last_notes(attempts).items())


def _calls_text(attempts: Sequence[AttemptRecord]) -> str:
    """Returns how many calls the last attempt of a durable step has kept: `12 kept, 3 given back`."""
    notes = attempts[-1].notes if attempts else {}
    kept, given = notes.get(CALLS_KEPT, 0), notes.get(CALLS_GIVEN, 0)
    return ", ".join(f"{count} {what}" for count, what in ((kept, "kept"), (given, "given back")) if count)


def _waited_text(task: TaskRecord, item: int | None, attempts: Sequence[AttemptRecord]) -> str:
    """Returns how long limits made the attempts wait: `41 s for limits`, of several ones their sum."""
    own = attempts if task.count is None or item is not None else [one for of in task.items.values() for one in of]
    waits = [attempt.waited for attempt in own if attempt.waited]
    many = f" in all, {span(max(waits))} at most" if len(waits) > 1 else ""
    return f"{span(sum(waits))} for limits{many}" if waits else ""


def _listed(task: TaskRecord, item: int | None, attempts: Sequence[AttemptRecord]) -> list[AttemptRecord]:
    """Returns the attempts to list: of a map, its items that failed, or else the first ones."""
    if task.count is None or item is not None:
        return list(attempts[-MAX_ATTEMPTS:])
    last = [of_item[-1] for of_item in task.items.values()]
    return ([attempt for attempt in last if attempt.state in BAD] or last)[:MAX_ATTEMPTS]


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


def _attempt_row(attempt: AttemptRecord) -> list[Text | str]:
    value = attempt.glimpse
    if attempt.errors:
        value = f"{attempt.errors[-1].exception}: {attempt.errors[-1].message}"
    if attempt.asked and attempt.state is not TypeAttemptState.RUNNING:
        value = f"{value}, not ready {times(attempt.asked)}"
    if attempt.waited and attempt.waited >= LONG:
        value = f"{value}, waited {span(attempt.waited)}".removeprefix(", ")
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
