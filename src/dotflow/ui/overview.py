"""What the list of runs opens on: what needs a person, and what begins next."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from dotflow import clock
from dotflow.abc.archive import Archive
from dotflow.abc.history import History
from dotflow.abc.operations import Operations, ScheduleSummary
from dotflow.control import Control
from dotflow.core.approval import Question
from dotflow.errors import MissingExtra
from dotflow.report.document import moment, question_object, run_object

SHOWN: Final = 5  # of a kind of what needs a person
NEXT: Final = 10  # runs of the queue
MAX_FAILED: Final = 100  # that are counted


def overview(archive: Archive) -> dict[str, Any]:
    """Returns what needs a person, and the runs that begin next with the number of all that are queued."""
    failed = archive.unmended(MAX_FAILED + 1)
    next_runs, count = archive.queue(NEXT)
    waiting: Sequence[Question] = ()
    late: list[dict[str, Any]] = []
    unserved: list[dict[str, Any]] = []
    if isinstance(archive, History) and (queue := archive.operations()) is not None:
        waiting = queue.questions()
        late, unserved = _late_and_unserved(Control(archive), queue, clock.now())
    return {
        "attention": {
            "waiting": _some(
                [
                    {"run_id": question.run_id, "workflow": question.workflow_id} | question_object(question)
                    for question in waiting
                ]
            ),
            "failed": _some([run_object(run) for run in failed]),
            "late": _some([one for one in late if all(one["run_id"] != run.run_id for run in failed)]),
            "unserved": _some(unserved),
        },
        "queue": {"runs": [run_object(run) for run in next_runs], "count": count},
    }


def _some(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the first ones, and how many there are; of failures, more than MAX_FAILED are that many and one."""
    return {"count": len(found), "shown": found[:SHOWN]}


def _late_and_unserved(
    control: Control, queue: Operations, now: datetime
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns what is late of the schedules, and the workflows with schedules or due runs that no process serves."""
    try:
        schedules = control.schedules()
        late = [_late_of(schedule) for schedule in schedules if schedule.late or schedule.error]
    except MissingExtra as error:
        schedules, late = [], [_late_object("", str(error))]
    unserved: dict[str, dict[str, Any]] = {}
    for waiting in queue.long_queued(now):
        if not queue.is_served(waiting.workflow):
            unserved[waiting.workflow] = {"runs": waiting.runs, "since": moment(waiting.since), "schedules": 0}
    for schedule in schedules:
        if not schedule.is_served:
            known = {"runs": 0, "since": None, "schedules": 0}
            unserved.setdefault(schedule.schedule.workflow, known)["schedules"] += 1
    return late, [{"workflow": workflow, **about} for workflow, about in sorted(unserved.items())]


def _late_of(schedule: ScheduleSummary) -> dict[str, Any]:
    """Returns the newest late firing of a schedule, with the number of the others; or why it can't be computed."""
    workflow, late = schedule.schedule.workflow, schedule.late
    if not late:
        return _late_object(workflow, f"can't be computed here: {schedule.error}")
    found = {"planned": moment(late[0].planned), "run_id": late[0].run_id, "more": len(late) - 1}
    return _late_object(workflow, late[0].why) | found


def _late_object(workflow: str, why: str) -> dict[str, Any]:
    return {"workflow": workflow, "planned": None, "run_id": None, "why": why, "more": 0}
