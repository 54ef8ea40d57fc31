"""Commands that help with a run, to be copied."""

import re
import shlex
from collections.abc import Sequence
from typing import Any, Final

from dotflow.abc.archive import Archive
from dotflow.core.record import BAD, ID_LENGTH, RunRecord, RunSummary, TaskRecord
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState

MAX_FAILURES: Final = 20  # tasks with commands for their failures
RECENT: Final = 20  # runs among which the last one that completed is looked for
#: A storage that outlives the process, on the command line.
STORAGES: Final = ("-o", "--storage")

IN_MEMORY: Final = "StorageDefault"
#: Words that need no quotes; shlex quotes `fetch#411`.
SAFE: Final = re.compile(r"[\w.-]+#\d+|[\w.-]+")

Command = tuple[str, str]  # and what it does


def command_objects(archive: Archive, run: RunRecord, history: str | None) -> list[dict[str, Any]]:
    """Returns the commands that help with a run as objects, those for its failures with the task and the item."""
    failed = [task for task in run.steps if task.state in BAD]
    objects: list[dict[str, Any]] = []
    for task in failed[:MAX_FAILURES]:
        item = failed_item(task)
        short, step = run.run_id[:ID_LENGTH], step_argument(run, task, item)
        show = _command("show", short, step, history=history), "its attempts, traceback and output"
        commands = [show, *step_commands(archive, run, task, item, history)]
        objects += (_as_object(command, task.task_id, item) for command in commands)
    listed = {each["command"] for each in objects}
    others = next_steps(archive, run, failed, history)
    return objects + [_as_object(command) for command in others if command[0] not in listed]


def _as_object(command: Command, task_id: int | None = None, item: int | None = None) -> dict[str, Any]:
    return {"task_id": task_id, "item": item, "command": command[0], "purpose": command[1]}


def failed_item(task: TaskRecord) -> int | None:
    """Returns the first item of a map that failed; None for another task."""
    return next((item for item, attempts in task.items.items() if attempts[-1].state == task.state), None)


def next_steps(archive: Archive, run: RunRecord, failed: Sequence[TaskRecord], history: str | None) -> list[Command]:
    """Returns the commands that help with a run. *history* is the value of --history."""
    short = run.run_id[:ID_LENGTH]
    if run.state is TypeRunState.RUNNING:
        return [(_command("show", short, "--output", "-f", history=history), "follow what it prints")]
    commands = []
    if failed:
        task = failed[0]
        bad = failed_item(task)
        step = step_argument(run, task, bad)
        commands = [(_command("show", short, step, history=history), "its attempts, traceback and output")]
        commands += step_commands(archive, run, task, bad, history)
    if (earlier := _last_completed(archive, run)) is not None:
        purpose = "what differs from the last run that completed"
        commands.append((_command("diff", earlier.run_id[:ID_LENGTH], short, history=history), purpose))
    argv = run.environment.get("argv", ())
    if run.state is not TypeRunState.COMPLETED and run.trigger == "command" and set(argv) & set(STORAGES):
        more = () if "--resume" in argv else ("--resume",)
        commands.append((shlex.join(["dotflow", *argv[1:], *more]), "go on from here"))
    return commands


def step_commands(
    archive: Archive, run: RunRecord, task: TaskRecord, item: int | None, history: str | None
) -> list[Command]:
    """Returns the commands that show the inputs of a task or an item, and run it again."""
    short, step = run.run_id[:ID_LENGTH], step_argument(run, task, item)
    attempts = task.attempts_of(item)
    state = attempts[-1].state if attempts else None
    commands = []
    copies = archive.copies(run.run_id, step, documents=False)
    if any(copy.document is not None and copy.role != "returned" for copy in copies):
        commands.append((_command("show", short, step, "--input", history=history), "its inputs"))
    # Of a crash, only a storage that outlives the process has the inputs.
    is_kept = state is TypeAttemptState.CRASHED and not run.storage.startswith(IN_MEMORY)
    if state is TypeAttemptState.FAILED or is_kept:
        commands.append((_command("replay", short, step, history=history), "run it again, with today's code"))
    return commands


def step_argument(run: RunRecord, task: TaskRecord, item: int | None) -> str:
    """Returns how the command line names a task or an item: fetch, 3, fetch#411."""
    is_unique = sum(other.name == task.name for other in run.steps) == 1
    return task.name_of(item) if is_unique else task.number_of(item)


def _last_completed(archive: Archive, run: RunRecord) -> RunSummary | None:
    """Returns the last run of the same workflow that completed before this one."""
    if run.state is TypeRunState.COMPLETED:
        return None
    workflow = run.workflow_id.partition("@")[0]
    recent = archive.runs(workflow=workflow, state=TypeRunState.COMPLETED, limit=RECENT)
    return next((other for other in recent if other.began < run.began), None)


def _command(*words: str, history: str | None) -> str:
    quoted = (word if SAFE.fullmatch(word) else shlex.quote(word) for word in words)
    return " ".join(["dotflow", *quoted, *(() if history is None else ("--history", shlex.quote(history)))])
