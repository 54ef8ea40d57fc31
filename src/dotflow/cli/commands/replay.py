"""`dotflow replay`: one step of a past run, again."""

import contextlib
import copy
import dataclasses
import importlib
import os
import pdb
import sys
import uuid
from bdb import BdbQuit
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from tempfile import TemporaryFile
from types import FrameType, TracebackType
from typing import IO, Any, Final, NamedTuple

import click

from dotflow import clock
from dotflow.abc.archive import Archive
from dotflow.cli.calls import FoundCall, find_call, kept_call
from dotflow.cli.command import Command, Exit, option
from dotflow.cli.formatting import error_line, one_line
from dotflow.cli.options import HISTORY_OPTION, JSON_OPTIONS, RunArgument, StepArgument, open_history, print_json
from dotflow.cli.replay.calls import (
    ActionFinder,
    KeptCalls,
    ReplayPort,
    call_inputs,
    call_target,
    default_storage,
    keys_of,
)
from dotflow.cli.replay.consent import Consent
from dotflow.cli.replay.find_step import StepFinder, Target, find_target
from dotflow.cli.replay.inputs import InputFinder, read_input
from dotflow.cli.screen import local, safe
from dotflow.cli.storages import local_storage
from dotflow.code.fingerprint import can_compare, fingerprint
from dotflow.code.own_code import INSTALLED, STDLIB
from dotflow.codec.canonical import digest
from dotflow.core.action import APPROVAL, IDEMPOTENCY_KEY, RESOURCES, AnyAction, parts_of
from dotflow.core.approval import Approval
from dotflow.core.call import KEY_BASE, Call
from dotflow.core.calls import BodyStopped
from dotflow.core.context import Context
from dotflow.core.durations import format_duration
from dotflow.core.failure import CALLERS, Failure
from dotflow.core.files import FileState
from dotflow.core.links import Links
from dotflow.core.masks import Masks
from dotflow.core.outcome import Interrupted, Outcome, Parked, Raised, Returned, TimedOut
from dotflow.core.resources import as_if_had
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.engine.approvals import approval_of
from dotflow.errors import DotflowError, HistoryError, SecretMissing
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.run_secrets import RunSecrets, SecretSource, TaskSecrets, find_secrets
from dotflow.graph.wiring import secrets_of
from dotflow.providers.histories.sql.tables import RETURNED
from dotflow.records.environment import describe_environment
from dotflow.records.preview import preview
from dotflow.records.record import AttemptRecord, ErrorRecord, RunRecord, ValueRecord
from dotflow.report.document import failure_object
from dotflow.report.stale_code import changed_text, restored_with_other_code
from dotflow.resume.changed_code import is_same_step
from dotflow.resume.stored_inputs import TaskInputs
from dotflow.worker.attempt import attempt, perform
from dotflow.worker.files import change_since, find_paths
from dotflow.worker.loops import Loops

Line = tuple[str, str]  # what differs, and how


@click.command(cls=Command)
@click.argument("run", type=RunArgument(), metavar="RUN")
@click.argument("step", type=StepArgument(), metavar="STEP[#ITEM][@CALL]")
@option(
    "--pdb", "is_debugged", is_flag=True,
    help="Open the debugger where the step raises; without its timeout.",
)  # fmt: skip
@option(
    "--input", "edited", type=click.File(encoding="utf-8"), metavar="FILE", example="--input edited.json",
    help="The inputs: what `dotflow show RUN STEP --input --json` printed, edited.",
)  # fmt: skip
@option(
    "--attempt", type=click.IntRange(1), metavar="N", example="--attempt 1",
    help="The attempt that it is compared with; the last one by default.",
)  # fmt: skip
@option("--make", "makes", is_flag=True, help="Make the calls of a durable step that were not kept.")
@option("--no-timeout", is_flag=True, help="Without the step's timeout, for breakpoint().")
@option(
    "-w", "--workflow", metavar="PATH", example="--workflow jobs.nightly:build",
    help="The workflow, if it can't be found by the command or the program that started it.",
)  # fmt: skip
@option(
    "--step", "named", metavar="PATH", example="--step jobs.nightly:load",
    help="The step that is run, where the history is not your own.",
)  # fmt: skip
@option("--param", multiple=True, metavar="NAME=VALUE", example="--param day=2026-11-25", help="Its parameters.")
@option(
    "--import", "modules", multiple=True, metavar="MODULE", example="--import shop.models",
    help="A module with the class of an input, which the module of the step does not import.",
)  # fmt: skip
@JSON_OPTIONS
@HISTORY_OPTION
def replay(run: str, step: str, history: str | None, attempt: int | None, as_json: bool, **options: Any) -> int:
    """Run a step of a past run again: one attempt, here, with the inputs that it had and today's code.

    It is the real step: what it writes, it writes. The run's storage, log and notifications stay as they are; the
    history gets a note.

    \b
    dotflow replay failed load
    dotflow replay failed fetch#411 --pdb
    dotflow replay 4f0c load --input edited.json
    dotflow replay failed agent@12 --pdb

    A durable step is given its kept calls, and makes no other one without --make. agent@12 is one of its calls, which
    is made again with the arguments that it had.

    \b
    Only code that the command line names is run, and your own that your own history names: .output/history.db of the
    current folder, or the file of DOTFLOW_HISTORY. Before anything else is run, you are asked; without a terminal it is
    refused. A step that asks for an approval runs only with a yes that its run has.

    Exit code: 0 the step returned, 1 it raised, 2 nothing was run, 3 code was imported or run, but not the step.
    """
    if as_json and options["is_debugged"]:
        raise click.UsageError("Can't use --json with --pdb. Remove one of them.")
    archive = open_history(history)
    consent = Consent(archive.why_foreign())  # before the file is opened, which may change what is beside it
    has_timeout = not options.pop("no_timeout")
    found = find_call(archive, archive.load(run), step) if "@" in step else None
    edited = options.pop("edited")
    if found is not None:
        if attempt is not None or edited is not None:
            raise click.UsageError(f"Can't use --{'input' if attempt is None else 'attempt'} with a call. Remove it.")
        options["call"] = PastCall(_arguments_of(archive, found), found.call.key)
        target = call_target(found)
    else:
        target = find_target(archive, run, step, attempt)
    if target.run.question_of(target.task, target.item, in_body=False) is not None:
        find_approval(target)  # before anything is imported
    values = {} if edited is None else read_input(edited)
    if as_json:
        return _replay_as_json(archive, target, consent, values, has_timeout=has_timeout, **options)
    name = one_line(target.task.name_of(target.item))
    click.echo(f"{name}, as in the run {target.run.short_id} of {local(target.run.began)}")
    replayed = replay_step(archive, target, consent, values, _print_lines, has_timeout=has_timeout, **options)
    for line in result_lines(replayed, target.then):
        click.echo(line)
    return replayed.exit


def _arguments_of(archive: Archive, found: FoundCall) -> Mapping[str, Any]:
    """Returns the kept arguments of a call as JSON. Raises ClickException where they were not kept."""
    kept = kept_call(archive, found)
    if kept.arguments is None:
        raise click.ClickException(f"Can't replay '{found.address}': {kept.note}.")
    return kept.arguments


def _replay_as_json(
    archive: Archive, target: Target, consent: Consent, values: Mapping[str, Context], **options: Any
) -> Exit:
    """Replays a step and prints one object, in which its output is text like any other."""
    differs: list[Line] = []
    with output_to_file() as file:
        replayed = replay_step(archive, target, consent, values, differs.extend, **options)
        file.seek(0)
        output = file.read()
    lines = [{"name": name, "text": text} for name, text in differs]
    print_json([result_object(replayed, target) | {"differs": lines, "output": replayed.masks.mask(output)}])
    return replayed.exit


@contextlib.contextmanager
def output_to_file() -> Iterator[IO[str]]:
    """Writes what the process and its programs print into a file, which is gone afterwards."""
    with TemporaryFile("w+", buffering=1, errors="backslashreplace") as file:
        before = {number: os.dup(number) for number in (1, 2)}
        for number in before:
            os.dup2(file.fileno(), number)
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield file
        finally:
            for number, copied in before.items():
                os.dup2(copied, number)
                os.close(copied)


TASK: Final = 0  # the task that takes the secrets, among one
GIVEN: Final = "those that were kept are given back, and {others} made"
NEW_KEY: Final = "a new one, so an effect takes place again"  # not that of the run


def make(call: Call) -> Outcome:
    """Makes an attempt. Raises KeyboardInterrupt."""
    with contextlib.closing(Loops()) as loops:
        outcome = attempt(call, loops)
    if isinstance(outcome, Interrupted):
        raise KeyboardInterrupt
    return outcome


def debug(call: Call, masks: Masks) -> Outcome:
    """Makes an attempt without timeouts. An error opens the debugger. Raises KeyboardInterrupt."""
    with contextlib.closing(Loops()) as loops:
        try:
            return Returned(perform(call, loops, None))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # users' code may raise anything
            failure = Failure.of(error)
            if not isinstance(error, BdbQuit):
                for line in masks.mask(failure.traceback).splitlines():
                    click.echo(safe(line))
                open_debugger(error)
            return Raised(Failure(failure.exception, failure.message))


def without_timeout(step: AnyAction) -> AnyAction:
    """Returns the same step without its timeout."""
    step = copy.copy(step)
    step.policy = dataclasses.replace(step.policy, timeout=0)
    return step


def find_approval(target: Target) -> Approval:
    """Returns the yes that a task had in its run. Raises ClickException where it had none: its step runs by a yes."""
    question = target.run.question_of(target.task, target.item, in_body=False)
    if question is None or not question.is_yes:
        cause = "it asked no question" if question is None else "its last question has no yes"
        name = target.task.name_of(target.item)
        raise click.ClickException(
            f"Can't replay '{name}': it needs an approval, and {cause} in that run. Call the step in a program."
        )
    return approval_of(question)


def takes_key(step: AnyAction) -> bool:
    """Returns whether the step, or an action of its class, takes the idempotency key."""
    return any(part.takes_key for part in parts_of(step))


def secrets_for(step: AnyAction, inputs: TaskInputs, finder: StepFinder | None) -> RunSecrets:
    """Returns the secrets that a step takes now, and the masks. Without a *finder* no workflow has them."""
    uses = {} if finder is None else finder.secrets
    links = Links(secrets=(*secrets_of(step, {*inputs.arguments, *uses}), *uses.values()))
    task = LinkedTask(TASK, step, links=links)
    if finder is None:
        return find_secrets([task], SecretSource(None), ())
    workflow, params = finder.loaded
    return workflow.find_secrets([task], params)


def open_debugger(error: BaseException) -> None:
    """Opens the debugger where the user's own code raised an error, until the user leaves it."""
    cause = error.__context__
    trace = cause.__traceback__ if isinstance(cause, BodyStopped) else error.__traceback__  # where the body called
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(CALLERS):
        trace = trace.tb_next
    debugger = StepDebugger()
    debugger.reset()
    debugger.interaction(None, trace)


class StepDebugger(pdb.Pdb):
    """pdb, which begins in the last frame of the user's own code. `down` leads into the libraries that it called."""

    def get_stack(self, f: FrameType | None, t: TracebackType | None) -> tuple[list[tuple[FrameType, int]], int]:
        stack, index = super().get_stack(f, t)
        own = [number for number, (frame, _) in enumerate(stack) if _is_own(frame.f_code.co_filename)]
        return stack, own[-1] if own else index


def _is_own(file: str) -> bool:
    return not file.startswith((*CALLERS, STDLIB, "<")) and not any(folder in file for folder in INSTALLED)


NAME_WIDTH: Final = 8  # of the names of what differs


class NotReplayed(click.ClickException):
    """Code was imported or run, but not the step."""

    exit_code = Exit.NOT_REPLAYED


class PastCall(NamedTuple):
    """A call of a durable step: its arguments as JSON, by parameter, and its key."""

    arguments: Mapping[str, Any]
    key: str


class Replayed(NamedTuple):
    """How a replay has ended, and the secrets that nothing shows."""

    outcome: Outcome
    ending: str
    masks: Masks

    @property
    def exit(self) -> Exit:
        return Exit.COMPLETED if isinstance(self.outcome, Returned) else Exit.FAILED

    @property
    def failure(self) -> Failure | None:
        """What the step raised; None where it returned, was not ready, or the debugger ended it."""
        if not isinstance(self.outcome, Raised | TimedOut) or self.outcome.failure.exception == BdbQuit.__name__:
            return None
        return self.outcome.failure


def replay_step(
    archive: Archive,
    target: Target,
    consent: Consent,
    values: Mapping[str, Context],
    tell: Callable[[Iterable[Line]], None],
    *,
    modules: Sequence[str],
    has_timeout: bool,
    is_debugged: bool,
    makes: bool,
    call: PastCall | None = None,
    **options: Any,
) -> Replayed:
    """Makes one attempt of a step or a *call* of a past run, and tells before it what differs from then.

    *values* are edited inputs; the options are `named`, the step, `workflow` and `param`.
    """
    copies = archive.copies(target.run.run_id, target.task.number_of(target.item)) if call is None else []
    by_role = {copy.role: copy for copy in copies}
    returned = by_role.pop(RETURNED, None)
    tell(environment_changes(target.run))
    finder = (StepFinder if call is None else ActionFinder)(target, consent, options)
    try:
        step = finder.find()
        approval = find_approval(target) if step.approve is not None and not target.then.fallback else None
        for module in modules:
            finder.has_run = True
            _import(module)
        inputs_of = InputFinder(archive, target, by_role, values, finder)
        if call is None:
            inputs = inputs_of.find(step)
        else:
            inputs = call_inputs(step, target.task.name, call.arguments)
        secrets = _secrets(finder, step, inputs)
        if approval is not None and step.takes_approval:
            inputs = inputs._replace(arguments={**inputs.arguments, APPROVAL: approval})
            inputs_of.notes[APPROVAL] = f"that of {approval.by}"
        if step.resources and step.takes_resources:
            inputs = inputs._replace(arguments={**inputs.arguments, RESOURCES: as_if_had(step.resources)})
            inputs_of.notes[RESOURCES] = "nothing is reserved for it"
        if takes_key(step):
            inputs_of.notes[IDEMPOTENCY_KEY] = NEW_KEY
        tell([*code_changes(target, step, finder.workflow_id), *inputs_of.notes.items()])
        tell(file_changes(target, inputs))
        port = None
        if step.durable:
            storage = default_storage(None if consent.foreign else local_storage(target.run), finder)
            calls = KeptCalls(storage, target.run.workflow_id, makes=makes)
            port = ReplayPort(calls, calls.base_of(keys_of(archive, target)) if call is None else call.key)
            tell([("calls", GIVEN.format(others="others are" if makes else "no other one is"))])
        if changed := restored_with_other_code(archive, target.run):
            tell([("code", changed_text(changed))])
    except Exception as error:  # of the user, of their modules or of ours
        if not finder.has_run:
            raise
        raise NotReplayed(error_line(error).partition(": ")[2]) from error
    began = clock.ticks()
    attempted = call_of(target, step if has_timeout else without_timeout(step), inputs, secrets)._replace(port=port)
    outcome = debug(attempted, secrets.masks) if is_debugged else make(attempted)
    seconds = clock.ticks() - began
    ending = secrets.masks.mask(ending_of(outcome, target.then, returned, seconds))
    with contextlib.suppress(HistoryError):  # a read-only file, say
        archive.note(target.run.run_id, f"Replay of {target.task.name_of(target.item)}: {ending}")
    return Replayed(outcome, ending, secrets.masks)


def call_of(target: Target, step: AnyAction, inputs: TaskInputs, secrets: RunSecrets) -> Call:
    """Returns the call of the attempt, with a key of its own where the step takes one."""
    given = secrets.by_task.get(TASK)
    if takes_key(step) or step.durable:
        given = TaskSecrets({**(given or {}), KEY_BASE: str(uuid.uuid4())})
    return Call(
        target.task.task_id,
        0,
        step,
        inputs.initial,
        inputs.previous,
        target.run.workflow_id,
        arguments=inputs.arguments or None,
        secrets=given,
    )


def _secrets(finder: StepFinder, step: AnyAction, inputs: TaskInputs) -> RunSecrets:
    try:
        return secrets_for(step, inputs, None if finder.workflow is None else finder)
    except SecretMissing:
        if finder.workflow is not None:
            raise
        with contextlib.suppress(DotflowError, click.ClickException):
            return secrets_for(step, inputs, finder)  # its Config may have them
        raise


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the user's module runs during its import
        raise click.ClickException(f"Can't import {module}: {type(error).__name__}: {error}.") from error


def _print_lines(lines: Iterable[Line]) -> None:
    """Prints on a line each what differs."""
    for name, text in lines:
        click.echo(f"  {one_line(name):{NAME_WIDTH}}  {one_line(text)}")


WIDTH: Final = 80  # columns
MAX_ERROR: Final = 73  # characters of an error, after `then: `

#: The state of an attempt -> what it is called.
ENDINGS: Final[Mapping[TypeAttemptState, str]] = {
    TypeAttemptState.COMPLETED: "returned",
    TypeAttemptState.RUNNING: "still running",
}


def ending_of(outcome: Outcome, then: AttemptRecord, returned: ValueRecord | None, seconds: float) -> str:
    """Returns how a replay has ended. *returned* is the copy of the value of *then*; None if it was not kept."""
    if isinstance(outcome, Returned):
        comparison = ""
        if returned is not None and returned.digest and then.state is TypeAttemptState.COMPLETED:
            comparison = " the same" if _digest(outcome.value) == returned.digest else " another value"
        return f"returned{comparison} ({format_duration(seconds)})"
    if isinstance(outcome, Parked):
        return one_line(f"not ready: {outcome.note}".rstrip(": "), MAX_ERROR)
    assert isinstance(outcome, Raised | TimedOut)
    return "the debugger ended it" if outcome.failure.exception == BdbQuit.__name__ else _error(outcome.failure)


def result_lines(replayed: Replayed, then: AttemptRecord) -> Iterator[str]:
    """Yields the value or the traceback without secrets, and how it ended then and now."""
    outcome, ending, masks = replayed
    if isinstance(outcome, Returned):
        yield f"returned {preview(outcome.value, masks)}"
    elif (failure := replayed.failure) is not None:
        yield from map(safe, masks.mask(failure.traceback).splitlines())
    before = _ending_then(then)
    line = f"then: {before}, now: {ending}"
    yield from [line] if len(line) <= WIDTH else [f"then: {before},", f"now: {ending}"]


def result_object(replayed: Replayed, target: Target) -> dict[str, Any]:
    """Returns the value or the error without secrets, and how it ended then and now."""
    outcome, ending, masks = replayed
    failure = None if replayed.failure is None else replayed.failure.masked(masks)
    return {
        "run_id": target.run.run_id,
        "task_id": target.task.task_id,
        "name": target.task.name,
        "item": target.item,
        "then": _ending_then(target.then),
        "now": ending,
        "glimpse": preview(outcome.value, masks) if isinstance(outcome, Returned) else "",
        "error": None if failure is None else failure_object(failure),
    }


def _ending_then(then: AttemptRecord) -> str:
    failed = _error(then.errors[-1]) if then.errors else str(then.state).lower()
    return ENDINGS.get(then.state, failed)


def _error(error: Failure | ErrorRecord) -> str:
    return one_line(f"{error.exception}: {error.message}".rstrip(": "), MAX_ERROR)


def _digest(value: Any) -> str:
    try:
        return digest(value)
    except Exception:  # it can't be stored, or its own code raises
        return ""


COMMIT: Final = 10  # characters of a commit
MAX_PACKAGES: Final = 8
MAX_FILES: Final = 8
NONE: Final = "none"
CHANGES: Final = {"other": "is another file now", "gone": "is gone"}


def environment_changes(run: RunRecord) -> Iterator[Line]:
    """Yields Python, dotflow, the folder and the commit. Runs none of the user's code."""
    then, now = run.environment, describe_environment()
    for name in ("python", "dotflow", "folder"):
        yield from _compare(name, then.get(name), now[name])
    yield from _compare("commit", str(then.get("commit") or NONE)[:COMMIT], str(now["commit"] or NONE)[:COMMIT])


def code_changes(target: Target, step: AnyAction, workflow_id: str | None) -> Iterator[Line]:
    """Yields the workflow, the step, its code, and the packages that are imported here.

    *workflow_id* is that of the workflow that has the step now; None if it has none.
    """
    if workflow_id is not None:  # the inputs are those of then, whatever parameters today's run has
        yield from _compare("workflow", *(text.partition("@")[0] for text in (target.run.workflow_id, workflow_id)))
    if not target.then.fallback and not is_same_step(target.task.identity, step.identity):
        yield from _compare("step", target.task.identity, step.identity)
    code, now_code = "" if target.then.fallback else target.task.code, fingerprint(step)
    if code and now_code and code != now_code:
        comparable = can_compare(code, now_code)
        yield "code", "changed" if comparable else "not compared: it was run by another version of Python"
    packages = list(_packages(target.run.environment.get("packages", {}), describe_environment()["packages"]))
    yield from packages[:MAX_PACKAGES]
    if len(packages) > MAX_PACKAGES:
        yield "packages", f"and {len(packages) - MAX_PACKAGES} more"


def file_changes(target: Target, inputs: TaskInputs) -> Iterator[Line]:
    """Yields the files among the inputs that are other ones than before the attempt, as far as the run recorded it."""
    then = _states_before(target)
    found = find_paths([inputs.previous, inputs.initial, *inputs.arguments.values()])
    changes = {path: change_since(path, then[str(path)]) for path in found if str(path) in then}
    lines = [f"{path} {CHANGES[change]}" for path, change in changes.items() if change in CHANGES]
    yield from (("file", line) for line in lines[:MAX_FILES])
    if len(lines) > MAX_FILES:
        yield "file", f"and {len(lines) - MAX_FILES} more"


def _states_before(target: Target) -> dict[str, FileState]:
    run, then = target.run, target.then
    states = dict(run.files.taken)
    attempts = [one for task in run.steps for one in task.all_attempts if one.files_text and one is not then]
    for one in sorted(attempts, key=lambda one: one.began or run.began):
        if then.began is None or (one.began or run.began) <= then.began:
            states.update((path, state) for path, _, state in one.files.listed())
    states.update(then.files.taken)
    return states


def _compare(name: str, then: Any, now: Any) -> Iterator[Line]:
    if then is not None and then != now:
        yield name, f"{then} → {now}"


def _packages(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Line]:
    """Yields the packages that differ, of those of which a module is imported here."""
    changed = [name for name, version in sorted(now.items()) if then.get(name) != version and name.lower() != "dotflow"]
    if not changed:
        return
    imported = {module.partition(".")[0] for module in sys.modules}
    modules = metadata.packages_distributions()  # takes long
    used = {_plain(package) for module in imported for package in modules.get(module, ())}
    yield from ((name, f"{then.get(name, NONE)} → {now[name]}") for name in changed if _plain(name) in used)


def _plain(package: str) -> str:
    """Returns a name of a package as all ways to write it."""
    return package.replace("-", "_").replace(".", "_").lower()
