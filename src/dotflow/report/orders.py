"""What orders to runs and workflows lead to, in words: for the commands and the pages."""

from typing import Final

from dotflow.abc.archive import Archive
from dotflow.abc.operations import WorkflowPause
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import RunSummary
from dotflow.report.next_steps import can_resume, resume_command
from dotflow.report.text import as_command

LONG_LOOK: Final = 2.0  # seconds that an order watches a process; shorter ones need no word
ORDERED: Final = {
    "cancel": "ends within about a second. A step in the program's own thread ends by itself first",
    "pause": "pauses within about a second, after its running steps",
}
PAUSED: Final = "Its queued runs wait, servers drop its scheduled runs, and what has begun goes on."


def order_text(what: str, run: RunSummary) -> str:
    """Returns what a `cancel` or `pause` of a run leads to; *run* is the run afterwards."""
    if run.ordered and run.silence is not None:
        silent = f"Its process gave no sign of life for {run.silence:.0f} s"
        then = "if it has ended, the server that takes the run over carries it out"
        return f"The run {_title(run)} is ordered to {what}. {silent}: {then}."
    return f"The run {_title(run)} {ORDERED[what] if run.ordered else f'is {run.state.lower()}'}."


def resume_text(run: RunSummary) -> str:
    """Returns what a `resume` leads to; *run* is the queued one."""
    return f"The run {_title(run)} is queued, and continues {run.continues[:ID_LENGTH]}."


def answer_text(is_yes: bool, archive: Archive, run: RunSummary, history: str | None) -> str:
    """Returns what the answer to a question leads to; *run* is the newest one of the chain afterwards."""
    done, short = "Approved" if is_yes else "Rejected", run.short_id
    if run.state is TypeRunState.RUNNING:
        when = "within a second, or in sequential mode when its other tasks have ended"
        return f"{done}. The run {short} is running, and takes the answer {when}."
    if run.state is not TypeRunState.QUEUED:
        return (
            f"{done}. The run {short} is {run.state.lower()}: {_how_to_go_on(archive, run, history)} goes on with it."
        )
    return f"{done}. The run {_title(run)} is queued to go on."


def _how_to_go_on(archive: Archive, run: RunSummary, history: str | None) -> str:
    """Returns the command that goes on with a run that has ended, or what does so in a program."""
    record = archive.load(run.run_id)
    command = as_command("resume", run.short_id, history=history) if can_resume(record) else resume_command(record)
    return f"`{command}`" if command else "start(resume=True) in its program"


def waiting_text(archive: Archive, run: RunSummary, history: str | None) -> str:
    """Returns what a queued run waits for that only people can change; "" where a process takes it."""
    if run.state is not TypeRunState.QUEUED:
        return ""
    if run.workflow_paused_by:
        goes_on = resume_workflow_command(run.base, history)
        return f"{run.workflow_paused_by} paused '{run.base}': the run waits. `{goes_on}` ends the pause."
    if run.is_served:
        return ""
    again = resume_command(archive.load(run.continues)) if run.continues else None
    how = f"`{again}` goes on at once" if again else "Start `dotflow serve MODULE:WORKFLOW`"
    return f"No process serves '{run.base}': the run waits. {how}."


def pause_text(workflow: str, pause: WorkflowPause) -> str:
    """Returns that a workflow is paused, and what that means."""
    return f"The workflow '{workflow}' is {pause}. {PAUSED}"


def unpaused_text(workflow: str, pause: WorkflowPause | None) -> str:
    """Returns that the pause of a workflow has ended; None where there was none."""
    if pause is None:
        return f"The workflow '{workflow}' was not paused."
    return f"The workflow '{workflow}' goes on: it was {pause}."


def resume_workflow_command(workflow: str, history: str | None) -> str:
    """Returns the command that ends the pause of a workflow. *history* is the value of --history."""
    return as_command("resume", "--workflow", workflow, history=history)


def _title(run: RunSummary) -> str:
    return f"{run.short_id} of {run.workflow or run.workflow_id[:ID_LENGTH]}"
