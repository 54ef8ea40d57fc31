"""The schedules of a history: who serves them, and the one transaction that decides their firings."""

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from dotflow.abc.operations import (
    Dropped,
    Firing,
    Schedule,
    ServedSchedule,
    Submission,
)
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.schedule_rules import KEPT_DROPPED, KEPT_LEFT_OUT, Active, Fired, FiredRun, since, why_blocked
from dotflow.core.types.overlap import TypeOverlap
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers.histories.sql.database import Connection, Presence
from dotflow.providers.histories.sql.questions import STEP, UNANSWERED
from dotflow.providers.histories.sql.reading import LATEST, Reader, find_served
from dotflow.providers.histories.sql.tables import FIND_RUN, OPEN, micro, moment, moment_or_none

SPEC: Final = Schedule._fields[2:]  # what a row has as JSON
FORGED: Final = (ValueError, TypeError, AttributeError)  # raised where it has something else

_IS_SOUND: Final = f"""0 <= schedules.settled AND schedules.settled <= schedules.furthest
        AND schedules.furthest <= {LATEST}"""
#: The alarm looks at what comes due from now on: its first look is after the first firings. A schedule begins anew
#: where no dotflow has written until when it is caught up.
REGISTER: Final = f"""INSERT INTO schedules (schedule, workflow, spec, at_once, settled, furthest, seen, alarmed)
    VALUES (:schedule, :workflow, :spec, :at_once, :now, :now, :now, :alarmed)
    ON CONFLICT (schedule) DO UPDATE SET spec = excluded.spec, at_once = excluded.at_once, seen = excluded.seen,
    settled = CASE WHEN {_IS_SOUND} THEN CAST(schedules.settled AS BIGINT) ELSE excluded.settled END,
    furthest = CASE WHEN {_IS_SOUND} THEN CAST(schedules.furthest AS BIGINT) ELSE excluded.furthest END,
    alarmed = CASE WHEN excluded.alarmed IS NOT NULL THEN COALESCE(schedules.alarmed, excluded.alarmed) END"""
SERVE: Final = "UPDATE servers SET schedules = ? WHERE server = ?"
SERVED: Final = "SELECT lock, schedules FROM servers WHERE schedules IS NOT NULL"
KNOWN: Final = "SELECT schedule, workflow, spec, settled FROM schedules WHERE seen IS NOT NULL ORDER BY seen"
NOT_SEEN: Final = "UPDATE schedules SET seen = NULL WHERE schedule = ?"
ALL: Final = "SELECT schedule FROM schedules"
#: Where the clock went back, and is now where it was, nothing in between is decided again.
SETTLED: Final = """SELECT spec, CASE WHEN furthest <= ? THEN furthest ELSE settled END FROM schedules
    WHERE schedule = ?"""
SETTLE: Final = """UPDATE schedules SET settled = :until,
    furthest = CASE WHEN furthest < :until THEN :until ELSE furthest END,
    dropped = dropped + :dropped, last_dropped = :last WHERE schedule = :schedule"""
LAST_DROPPED: Final = "SELECT last_dropped FROM schedules WHERE schedule = ?"
IS_PLANNED: Final = "SELECT 1 FROM wanted WHERE schedule = ? AND planned = ?"
#: A run that was submitted, and waits under the name of the firing.
PLAN: Final = """UPDATE wanted SET schedule = ?, planned = ?, made_up = ?, looked_at = NULL WHERE schedule IS NULL
    AND run = (SELECT run FROM runs WHERE run_id = ?)"""
STOPPED: Final = """SELECT paused_by, paused_at, paused_from, resumed_at FROM workflows
    WHERE workflow = ? AND (paused_at IS NOT NULL OR resumed_at IS NOT NULL)"""
RUNNING: Final = """SELECT run_id, state, began, FALSE, made_up FROM runs JOIN wanted USING (run)
    WHERE state = 'Running' AND schedule = ? ORDER BY began"""
QUEUED: Final = """SELECT run_id, state, submitted, resume, made_up FROM wanted JOIN runs USING (run)
    WHERE queued AND schedule = ? ORDER BY planned"""
#: The first look for PAUSED, which is seldom there.
IS_PAUSED: Final = "SELECT 1 FROM runs WHERE workflow_id = ? AND state = 'Paused' LIMIT 1"
#: The newest run of each chain of a name, if it is paused.
PAUSED: Final = f"""SELECT run_id, ended, (SELECT {STEP} FROM questions WHERE questions.origin = runs.origin
    AND {UNANSWERED} LIMIT 1) FROM runs WHERE workflow_id = ? AND {OPEN} AND state = 'Paused'
    AND NOT EXISTS (SELECT 1 FROM runs AS newer WHERE newer.continues = runs.run_id)"""


def register(
    connection: Connection, presence: Presence, server: str, workflows: Collection[str], schedules: Sequence[Schedule]
) -> list[tuple[Schedule, datetime]]:
    """Writes which schedules a server has. Returns those of its workflows that none has any more, each once."""
    now = connection.now
    for schedule in schedules:
        row = {
            "schedule": schedule.schedule,
            "workflow": schedule.workflow,
            "spec": json.dumps({name: getattr(schedule, name) for name in SPEC}),
            "at_once": schedule.max_parallel if schedule.overlap is TypeOverlap.PARALLEL else 1,
            "now": now,
            "alarmed": None if schedule.late_after is None else now,
        }
        connection.execute(REGISTER, row)
    connection.execute(SERVE, (json.dumps([one.schedule for one in schedules]), server))
    served = find_served(connection, presence, SERVED)
    left = []
    for schedule, workflow, spec, settled in connection.execute(KNOWN).fetchall():
        if workflow in workflows and schedule not in served:
            connection.execute(NOT_SEEN, (schedule,))
            with contextlib.suppress(*FORGED):
                left.append((schedule_of(schedule, workflow, spec), moment(settled)))
    return left


def schedule_of(schedule: str, workflow: str, spec: str) -> Schedule:
    """Returns the schedule of a row. What another dotflow has added is left out; what it lacks has its default."""
    values = {name: value for name, value in json.loads(spec).items() if name in SPEC}
    if "overlap" in values:
        known = values["overlap"] in list(TypeOverlap)
        values["overlap"] = TypeOverlap(values["overlap"]) if known else TypeOverlap.SKIP
    return Schedule(schedule, workflow, **{"cron": "", "timezone": None, **values})


def as_written(schedule: Schedule, spec: str) -> Schedule:
    """Returns a schedule as its row has it: the server that began last decides.

    It stays as it is where the row is of a newer dotflow, and can't be read.
    """
    with contextlib.suppress(*FORGED):
        return schedule_of(schedule.schedule, schedule.workflow, spec)
    return schedule


def fire(
    connection: Connection,
    schedule: Schedule,
    settled: datetime,
    until: datetime,
    firings: Sequence[Firing],
    submit: Callable[[Connection, Submission], str],
) -> list[Dropped] | None:
    """Queues the runs of firings with *submit*, and settles them, as `QueueServer.fire` does."""
    connection.lock(wanted.name for _, wanted, *_ in firings if wanted is not None and wanted.name is not None)
    ((spec, known),) = connection.execute(SETTLED, (connection.now, schedule.schedule))
    if known != micro(settled) or as_written(schedule, spec) != schedule:
        return None
    dropped: list[Dropped] = []
    stopped = connection.execute(STOPPED, (schedule.workflow,)).fetchall()
    for planned, wanted, is_made_up, why, has_raised, is_left_out in firings:
        if is_left_out:
            dropped.append(Dropped(planned, why, "", is_left_out=True))
            continue
        if connection.execute(IS_PLANNED, (schedule.schedule, micro(planned))).fetchall():
            continue
        now = moment(connection.now).astimezone(planned.tzinfo)
        reason = why
        for by, paused_at, paused_from, resumed_at in stopped:
            if paused_at is not None and paused_at <= micro(planned):
                reason = f"the workflow was paused by {by} ({since(moment(paused_at), now)})"
            elif resumed_at is not None and paused_from <= micro(planned) <= resumed_at:  # while no process served it
                reason = f"the workflow was paused until {since(moment(resumed_at), now)}"
        if not reason and wanted is not None:
            active = [*_paused(connection, wanted.name or "")]
            if not is_made_up:  # else a paused run alone blocks it, and those that are made up for may be thousands
                active += _active(connection, schedule.schedule)
            reason = why_blocked(active, schedule.overlap, schedule.max_parallel, now, is_made_up=is_made_up)
        if reason or wanted is None:
            unnamed = None if has_raised and reason == why else ""
            dropped.append(Dropped(planned, reason, unnamed if wanted is None else wanted.name))
            continue
        run_id = submit(connection, wanted)
        is_one_of_all = is_made_up and schedule.catch_up == "all"
        if not connection.execute(PLAN, (schedule.schedule, micro(planned), is_one_of_all, run_id)).rowcount:
            dropped.append(Dropped(planned, f"run {run_id[:ID_LENGTH]} of the same name waits", wanted.name))
    ((text,),) = connection.execute(LAST_DROPPED, (schedule.schedule,))
    last = _last_of([*json.loads(text or "[]"), *map(_as_written, dropped)])
    count = sum(not one.is_left_out for one in dropped)
    values = {"until": micro(until), "dropped": count, "last": json.dumps(last), "schedule": schedule.schedule}
    connection.execute(SETTLE, values)
    return dropped


def _as_written(drop: Dropped) -> list[Any]:
    """Returns a drop as the row of its schedule has it: the name of what `only` leaves out is false."""
    return [micro(drop.planned), drop.reason, False if drop.is_left_out else drop.name]


def _last_of(drops: list[list[Any]]) -> list[list[Any]]:
    """Returns those of a schedule's drops that its row keeps: of what `only` leaves out some more."""
    left = {True: KEPT_LEFT_OUT, False: KEPT_DROPPED}
    kept = []
    for drop in reversed(drops):
        is_left_out = drop[2] is False
        left[is_left_out] -= 1
        if left[is_left_out] >= 0:
            kept.append(drop)
    return kept[::-1]


def _active(connection: Connection, schedule: str) -> Iterator[Active]:
    for statement in (RUNNING, QUEUED):
        for run_id, state, began, goes_on, is_made_up in connection.execute(statement, (schedule,)):
            yield Active(run_id, TypeRunState(state), moment(began), goes_on=bool(goes_on), is_made_up=bool(is_made_up))


def _paused(connection: Connection, name: str) -> Iterator[Active]:
    for run_id, ended, question in connection.execute(PAUSED, (name,)):
        yield Active(run_id, TypeRunState.PAUSED, moment(ended), question or "")


# What readers see


SCHEDULES: Final = """SELECT schedule, workflow, spec, settled, alarmed, dropped, last_dropped FROM schedules
    WHERE seen IS NOT NULL ORDER BY seen, schedule"""
FIRED: Final = """SELECT planned, run_id, looked_at FROM wanted JOIN runs USING (run)
    WHERE schedule = ? AND planned > ? AND planned <= ? ORDER BY planned DESC LIMIT ?"""
NEWEST: Final = """SELECT run, superseded FROM runs
    WHERE run_id = :run OR origin = (SELECT origin FROM runs WHERE run_id = :run) ORDER BY run DESC LIMIT 1"""
IS_FIRED: Final = """SELECT 1 FROM wanted JOIN runs USING (run) WHERE planned IS NOT NULL
    AND run_id = (SELECT COALESCE(origin, run_id) FROM runs WHERE run_id = ?)"""
COMPLETED: Final = """SELECT run, run_id FROM runs WHERE workflow_id = ? AND began >= ? AND state = 'Completed'
    ORDER BY began DESC"""
WAITS_FOR: Final = f"SELECT {STEP} AS step FROM questions WHERE origin = ? AND {UNANSWERED} ORDER BY asked LIMIT 1"
NEVER: Final = -1  # in place of NULL
MOVE_ALARM: Final = f"UPDATE schedules SET alarmed = ? WHERE schedule = ? AND COALESCE(alarmed, {NEVER}) = ?"
LOOKED_AT: Final = "UPDATE wanted SET looked_at = 1 WHERE schedule = ? AND planned > ? AND planned <= ?"
#: What continues another run has the place of that one, and waits since it was queued.
LONG_QUEUED: Final = """SELECT wanted.workflow, COUNT(*) AS count,
    MIN(CASE WHEN due < submitted THEN submitted ELSE due END) AS since
    FROM wanted JOIN runs USING (run)
    WHERE queued AND due < :before AND submitted < :before GROUP BY wanted.workflow ORDER BY wanted.workflow"""


def find_schedules(reader: Reader) -> Iterator[ServedSchedule]:
    """Yields the schedules that living processes serve; of a workflow that none serves, that of the last one."""
    served = find_served(reader.connection, reader.database.presence, SERVED)
    last: dict[str, ServedSchedule] = {}  # of the workflows that no process serves
    for schedule, workflow, spec, settled, alarmed, dropped, drops in reader.connection.execute(SCHEDULES).fetchall():
        found = ServedSchedule(
            schedule_of(schedule, workflow, spec),
            moment(settled),
            moment_or_none(alarmed),
            dropped,
            [drop for drop in _drops(drops) if not drop.is_left_out],
            schedule in served,
            reader.pauses.get(workflow),
        )
        if found.is_served:
            yield found
        elif workflow not in reader.served:
            last[workflow] = found
    yield from last.values()


def find_fired(reader: Reader, schedule: str, since: int, until: int, limit: int) -> list[Fired]:
    """Returns what is known of the firings of a schedule between two moments, the newest first.

    At most *limit*, and between them what `only` leaves out.
    """
    ((text,),) = reader.connection.execute(LAST_DROPPED, (schedule,)).fetchall() or [(None,)]
    found = [
        Fired(
            drop.planned,
            _made_good(reader, drop),
            drop.reason,
            has_raised=drop.name is None,
            is_left_out=drop.is_left_out,
        )
        for drop in _drops(text)
        if since < micro(drop.planned) <= until
    ]
    for planned, run, looked_at in reader.connection.execute(FIRED, (schedule, since, until, limit)).fetchall():
        found.append(Fired(moment(planned), _run_of(reader, run), was_looked_at=bool(looked_at)))
    found.sort(key=lambda fired: fired.planned, reverse=True)
    counted = [number for number, fired in enumerate(found) if not fired.is_left_out]
    return found if len(counted) <= limit else found[: counted[limit]]


def _made_good(reader: Reader, drop: Dropped) -> FiredRun | None:
    """Returns the run that has settled a dropped firing, as `Fired` says."""
    if drop.is_left_out:
        return None
    for number, run in reader.connection.execute(COMPLETED, (drop.name, micro(drop.planned))).fetchall():
        if not reader.connection.execute(IS_FIRED, (run,)).fetchall():
            return _fired_run(reader, number)
    return None


def _run_of(reader: Reader, run: str) -> FiredRun:
    """Returns the run of a firing as it stands: what continues it, or has replaced its values since.

    Another firing of its name is no such run: it has its own line.
    """
    seen = {run}
    number, superseded = reader.connection.execute(NEWEST, {"run": run}).fetchone()
    while superseded and superseded not in seen and not reader.connection.execute(IS_FIRED, (superseded,)).fetchall():
        seen.add(superseded)
        newer = reader.connection.execute(NEWEST, {"run": superseded}).fetchone()
        if newer is None:  # it was forgotten
            break
        number, superseded = newer
    return _fired_run(reader, number)


def _fired_run(reader: Reader, number: int) -> FiredRun:
    """Returns the run with this number as that of a firing."""
    from dotflow.providers.histories.sql.records import Records

    found = Records(*reader).summary(number)
    waits_for = ""
    if found.state is TypeRunState.PAUSED:
        for (task,) in reader.connection.execute(WAITS_FOR, (found.origin,)).fetchall():
            waits_for = task
    before = None
    if found.state is TypeRunState.QUEUED:
        for (continued,) in reader.connection.execute(FIND_RUN, (found.continues,)).fetchall():
            before = _fired_run(reader, continued)
    why = found.reason or found.error
    return FiredRun(found.run_id, found.state, found.began, why, waits_for, found.workflow_paused_by, before)


def _drops(text: str | None) -> list[Dropped]:
    """Returns the firings that a row has without a run, the newest first."""
    return [
        Dropped(moment(planned), str(reason), "" if name is False else name, is_left_out=name is False)
        for planned, reason, name in reversed(json.loads(text or "[]"))
    ]
