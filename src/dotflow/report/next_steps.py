"""Commands that help with a run, to be copied."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import dropwhile
from pathlib import PurePath
from typing import Any, Final

from dotflow.abc.archive import Archive
from dotflow.core.approval import MAX_SHOWN
from dotflow.core.masks import MASK
from dotflow.core.text import GENERATED
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.call_state import TypeCallState
from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import BAD, CallRecord, RunRecord, RunSummary, TaskRecord
from dotflow.report.stale_code import restored_with_other_code
from dotflow.report.text import as_command

MAX_FAILURES: Final = 20  # tasks with commands for their failures
RECENT: Final = 20  # runs among which the last one that completed is looked for
LATER: Final = 1000  # later runs among which one of the same workflow that completed is looked for
#: The commands that run a workflow.
COMMANDS: Final = ("start", "schedule")
#: What begins the parameters in the id of a run, or a digest of them. The id of the workflow may have an @, too.
BEFORE_PARAMS: Final = re.compile(r"@(?=\w+=|[0-9a-f]{32}$)")
#: A parameter in the id of a run, and the digest that may stand in place of its value.
PARAM: Final = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|.*?)(?=,\w+=|$)')
DIGEST: Final = re.compile(r"[@=][0-9a-f]{32}(,|$)")
#: Options with a value that a command to go on leaves out: those of a schedule, and tasks that run in any case.
LEFT_OUT: Final = ("--cron", "--overlap", "--timezone", "--preview", "--rerun")

DIFFERS: Final = "what differs from"  # begins the purpose of a comparison; the page's link ends as this does
IN_MEMORY: Final = "StorageDefault"

Command = tuple[str, str]  # and what it does
ATTEMPTS: Final = "its attempts, traceback and output"
GO_ON: Final = "go on from here"


def command_objects(archive: Archive, run: RunRecord, history: str | None) -> list[dict[str, Any]]:
    """Returns the commands that help with a run as objects, those for its failures with the task and the item."""
    objects: list[dict[str, Any]] = []
    for task in [*run.failures, *run.tolerated][:MAX_FAILURES]:
        item = failed_item(task)
        commands = _failure_commands(archive, run, task, item, history)
        objects += (_as_object(command, task.task_id, item) for command in commands)
    listed = {entry["command"] for entry in objects}
    objects += (_as_object(command) for command in next_steps(archive, run, history) if command[0] not in listed)
    # In a terminal, a control character could end the paste, and run what follows.
    return [entry for entry in objects if entry["command"].isprintable()]


def _as_object(command: Command, task_id: int | None = None, item: int | None = None) -> dict[str, Any]:
    return {"task_id": task_id, "item": item, "command": command[0], "purpose": command[1]}


def failed_item(task: TaskRecord) -> int | None:
    """Returns the first item of a map that failed; None for another task."""
    state = TypeAttemptState.FAILED if task.state == TypeAttemptState.COMPLETED else task.state
    return next((item for item, attempts in task.items.items() if attempts[-1].state == state), None)


def next_steps(archive: Archive, run: RunRecord, history: str | None) -> list[Command]:
    """Returns the commands that help with a run. *history* is the value of --history."""
    short = run.short_id
    commands: list[Command] = []

    def add(purpose: str, *words: str) -> None:
        commands.append((as_command(*words, history=history), purpose))

    if run.state is TypeRunState.QUEUED:
        add("take it out of the queue", "cancel", short)
        return commands
    questions = run.open_questions
    for question in questions[:MAX_SHOWN]:
        step = (question.step,) if len(questions) > 1 else ()
        add(f"yes to: {question.text}", "approve", short, *step)
        add(f"no to: {question.text}", "reject", short, *step)
    if run.state is TypeRunState.RUNNING:
        add("follow what it prints", "show", short, "--output", "-f")
        if not run.ordered:
            add("end it", "cancel", short)
        return commands
    for task in [*run.failures, *run.tolerated][:1]:
        commands += _failure_commands(archive, run, task, failed_item(task), history)
    if (later := _completed_since(archive, run)) is not None:
        add("the run that has completed since", "show", later.short_id)
        add(f"{DIFFERS} the run that has completed since", "diff", short, later.short_id)
        return commands
    if (earlier := last_completed(archive, run)) is not None:
        add(f"{DIFFERS} the last run that completed", "diff", earlier.short_id, short)
    waits_for_answer = run.state is TypeRunState.PAUSED and questions
    can_go_on = can_resume(run) and (run.is_served or run.submitted is not None)
    if can_go_on and not waits_for_answer:
        add(GO_ON, "resume", short)
    if waits_for_answer or (can_go_on and run.state is TypeRunState.PAUSED):
        add("give it up", "cancel", short)
    elif not can_go_on and not archive.why_foreign() and (again := resume_command(run)) is not None:
        commands.append((again, GO_ON))
    if changed := restored_with_other_code(archive, run):
        purpose = f"the same, and runs {', '.join(map(repr, changed))} again, whose code has changed"
        if can_go_on and not waits_for_answer:
            add(purpose, "resume", short, *(word for name in changed for word in ("--rerun", name)))
        elif commands and commands[-1][1] == GO_ON:
            commands.append((f"{commands[-1][0]}-changed", purpose))
    return commands


def can_resume(run: RunRecord) -> bool:
    """Returns whether a process that serves the workflow can go on with a run that has ended."""
    is_known = run.params is not None and bool(run.base) and not GENERATED.fullmatch(run.workflow_id)
    is_over = run.is_open or run.state in (TypeRunState.COMPLETED, TypeRunState.UNKNOWN)
    return is_known and not is_over and not run.superseded and run.newest == run.run_id


def _failure_commands(
    archive: Archive, run: RunRecord, task: TaskRecord, item: int | None, history: str | None
) -> list[Command]:
    words = run.short_id, step_argument(run, task, item)
    show = as_command("show", *words, history=history), ATTEMPTS
    return [show, *step_commands(archive, run, task, item, history)]


def step_commands(
    archive: Archive, run: RunRecord, task: TaskRecord, item: int | None, history: str | None
) -> list[Command]:
    """Returns the commands that show the inputs of a task or an item, and run it again; of a map, its failed item."""
    if item is None and task.count is not None:
        item = failed_item(task)
        return [] if item is None else _failure_commands(archive, run, task, item, history)
    short, step = run.short_id, step_argument(run, task, item)
    attempts = task.attempts_of(item)
    state = attempts[-1].state if attempts else None
    inputs = [copy for copy in archive.copies(run.run_id, step, documents=False) if copy.role != "returned"]
    commands = []
    if any(copy.document is not None for copy in inputs):
        commands.append((as_command("show", short, step, "--input", history=history), "its inputs"))
    # Of an attempt that did not end the task, only a storage that outlives the process has the inputs.
    is_kept = not run.storage.startswith(IN_MEMORY)
    was_copied = state is TypeAttemptState.FAILED and all(copy.document is not None for copy in inputs)
    is_ready = state in (*BAD, TypeAttemptState.RETRY, TypeAttemptState.PAUSED) and (is_kept or was_copied)
    question = run.question_of(task, item)
    is_approved = question is None or bool(question.is_yes)
    if is_approved and _is_found_again(run, task) and not archive.why_foreign():
        if call := _failed_call(archive, run, step):
            made = as_command("replay", short, f"{step}@{call.number}", history=history)
            commands.append((made, f"call {call.name} again, with today's code"))
        elif is_ready:
            commands.append((as_command("replay", short, step, history=history), "run it again, with today's code"))
    return commands


def _failed_call(archive: Archive, run: RunRecord, step: str) -> CallRecord | None:
    """Returns the last call of a durable step, if it failed and can be made again; else None."""
    calls = archive.calls(run.run_id, step, limit=1).calls
    return calls[-1] if calls and calls[-1].state is TypeCallState.FAILED and calls[-1].input else None


def _is_found_again(run: RunRecord, task: TaskRecord) -> bool:
    """Returns whether another process can find the step: by its name, or by what has started the run."""
    module, _, name = task.identity.partition(":")
    if module not in ("__main__", "?", "") and "<" not in name:
        return True
    argv = run.environment.get("argv") or [""]
    return run.parent is None and (bool(run.trigger) or str(argv[0]).endswith(".py"))


def serve_command(run: RunRecord) -> str:
    """Returns the command that serves the workflow of a run, as far as it is known."""
    words = command_of(run.environment, ("serve",))
    return shlex.join(["dotflow", *words]) if words else "dotflow serve MODULE:WORKFLOW"


def command_of(environment: Mapping[str, Any], commands: Sequence[str] = COMMANDS) -> list[str]:
    """Returns the words of the `dotflow start` or `dotflow schedule` that an environment is of; none for another one.

    The first is the command, which is one of *commands*. What is before it, such as --debug, is left out.
    """
    program, *words = environment.get("argv") or [""]
    path = PurePath(program)
    is_ours = path.stem in ("dotflow", "-c") or path.parts[-2:] == ("dotflow", "__main__.py")
    words = list(dropwhile(lambda word: word.startswith("-"), words))
    return words if is_ours and words and words[0] in commands else []


def resume_command(run: RunRecord) -> str | None:
    """Returns the command that goes on with a run of `dotflow start` or `dotflow schedule`; None if there is none.

    It has the parameters of the run, whose defaults may be others by now, and no options of a schedule.
    """
    command = command_of(run.environment)
    is_over = run.state is TypeRunState.COMPLETED or not run.trigger
    if is_over or not command or run.storage.startswith(IN_MEMORY) or any(MASK in word for word in command):
        return None
    words, given = _words_of_start(command[1:])
    has_digest = DIGEST.search(run.workflow_id) is not None
    if has_digest and not given:
        return None
    params = {} if has_digest else params_in(run.workflow_id)
    missing = [f"{name}={text}" for name, text in params.items() if name not in given]
    more = [word for param in missing for word in ("--param", param)]
    return shlex.join(["dotflow", "start", *words, *more, "--resume"])


def _words_of_start(words: Sequence[str]) -> tuple[list[str], set[str]]:
    """Returns the words that `dotflow start` takes, too, and the names of their parameters."""
    kept: list[str] = []
    given: set[str] = set()
    rest = iter(words)
    for word in rest:
        name, has_value, value = word.partition("=")
        if name in LEFT_OUT:
            if not has_value:
                next(rest, None)
        elif not name.startswith("--resume"):
            kept.append(word)
        if name == "--param":
            value = value if has_value else next(rest, "")
            kept += [] if has_value else [value]
            given.add(value.partition("=")[0])
    return kept, given


def params_in(workflow_id: str) -> dict[str, str]:
    """Returns the parameters in the id of a run as texts for --param; a digest is one."""
    _, *suffixes = BEFORE_PARAMS.split(workflow_id, maxsplit=1)
    params = {}
    for name, text in PARAM.findall("".join(suffixes)):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        if value is not None:  # it can only be the default
            params[name] = value if isinstance(value, str) else text
    return params


def step_argument(run: RunRecord, task: TaskRecord, item: int | None) -> str:
    """Returns how the command line names a task or an item: fetch, 3, fetch#411."""
    is_unique = sum(other.name == task.name for other in run.steps) == 1
    is_word = task.name.isprintable() and not task.name.startswith("-")
    return task.name_of(item) if is_unique and is_word else task.number_of(item)


def _completed_since(archive: Archive, run: RunRecord) -> RunSummary | None:
    """Returns the first later run of the same workflow, with the same parameters, that completed."""
    if run.state is TypeRunState.COMPLETED or GENERATED.fullmatch(run.workflow_id):
        return None
    later = archive.runs(workflow=run.workflow_id, state=TypeRunState.COMPLETED, since=run.began, limit=LATER)
    same = [other for other in later if other.workflow_id == run.workflow_id and other.began > run.began]
    return same[-1] if same else None


def last_completed(archive: Archive, run: RunRecord) -> RunSummary | None:
    """Returns the last run of the same workflow that completed before this one."""
    if run.state is TypeRunState.COMPLETED:
        return None
    workflow, *_ = BEFORE_PARAMS.split(run.workflow_id, maxsplit=1)
    recent = archive.runs(workflow=workflow, state=TypeRunState.COMPLETED, limit=RECENT)
    return next((other for other in recent if other.began < run.began), None)
