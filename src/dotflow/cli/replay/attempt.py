"""Replay: one attempt of a step, here in the foreground, and the debugger of --pdb."""

import contextlib
import copy
import dataclasses
import pdb
from bdb import BdbQuit
from types import FrameType, TracebackType
from typing import Any, Final, NamedTuple

import click

from dotflow.cli.history.text import safe
from dotflow.cli.replay.find_step import StepFinder
from dotflow.code.own_code import INSTALLED, STDLIB
from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.failure import CALLERS, Failure
from dotflow.core.links import Links
from dotflow.core.outcome import Interrupted, Outcome, Raised, Returned
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.run_secrets import RunSecrets, SecretSource, find_secrets
from dotflow.graph.wiring import secrets_of
from dotflow.resume.stored_inputs import TaskInputs
from dotflow.worker.attempt import attempt, perform
from dotflow.worker.loops import Loops

TASK: Final = 0  # the task that takes the secrets, among one


class Replay(NamedTuple):
    """One attempt of a step, with the inputs and the secrets that it takes."""

    task_id: int
    workflow_id: str
    step: Action[..., Any]
    inputs: TaskInputs
    secrets: RunSecrets

    def make(self, *, has_timeout: bool) -> Outcome:
        """Makes the attempt. Raises KeyboardInterrupt."""
        step = self.step
        if not has_timeout and step.policy.timeout:
            step = copy.copy(step)
            step.policy = dataclasses.replace(step.policy, timeout=0)
        with contextlib.closing(Loops()) as loops:
            outcome = attempt(self._call(step), loops)
        if isinstance(outcome, Interrupted):
            raise KeyboardInterrupt
        return outcome

    def debug(self) -> Outcome:
        """Makes the attempt without timeouts. An error opens the debugger. Raises KeyboardInterrupt."""
        with contextlib.closing(Loops()) as loops:
            try:
                return Returned(perform(self._call(self.step), loops, None))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # users' code may raise anything
                failure = Failure.of(error)
                if not isinstance(error, BdbQuit):
                    for line in self.secrets.masks.mask(failure.traceback).splitlines():
                        click.echo(safe(line))
                    debug(error)
                return Raised(Failure(failure.exception, failure.message))

    def _call(self, step: Action[..., Any]) -> Call:
        initial, previous = self.inputs.initial, self.inputs.previous
        arguments, secrets = self.inputs.arguments or None, self.secrets.of_task(TASK)
        return Call(self.task_id, 0, step, initial, previous, self.workflow_id, arguments=arguments, secrets=secrets)


def secrets_for(step: Action[..., Any], inputs: TaskInputs, finder: StepFinder | None) -> RunSecrets:
    """Returns the secrets that a step takes now, and the masks. Without a *finder* no workflow has them."""
    uses = {} if finder is None else finder.secrets
    links = Links(secrets=(*secrets_of(step, {*inputs.arguments, *uses}), *uses.values()))
    task = LinkedTask(TASK, step, links=links)
    if finder is None:
        return find_secrets([task], SecretSource(None), ())
    workflow, params = finder.loaded
    return workflow.config._find_secrets([task], workflow._given(workflow._secret_params(), params))


def debug(error: BaseException) -> None:
    """Opens the debugger where the user's own code raised an error, until the user leaves it."""
    trace = error.__traceback__
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
