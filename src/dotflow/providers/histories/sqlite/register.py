"""Registers a run in the file, with its plan and its environment."""

import hashlib
import json
import marshal
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any, Final

from dotflow.core.events import Planned, RunStarted
from dotflow.core.masks import Masks
from dotflow.core.policy import Policy
from dotflow.core.text import escape_surrogates
from dotflow.providers.histories.sqlite.tables import NO_ITEM, micro
from dotflow.records.environment import process_name, read_environment

FIND_RUN: Final = "SELECT run FROM runs WHERE run_id = ?"
FIND_PLAN: Final = "SELECT plan FROM plans WHERE digest = ?"
FIND_ENVIRONMENT: Final = "SELECT environment FROM environments WHERE digest = ?"
SAVE_PLAN: Final = "INSERT INTO plans (digest) VALUES (?)"
SAVE_STEP: Final = f"INSERT INTO steps VALUES ({', '.join('?' * 9)})"
SAVE_ENVIRONMENT: Final = "INSERT INTO environments (digest, document) VALUES (?, ?)"
SAVE_RUN: Final = f"""INSERT INTO runs (run_id, workflow_id, name, state, mode, resumed, trigger, began, tasks,
    parent_run, parent_task, parent_item, parent_attempt, lock, process, plan, environment, storage, is_named)
    VALUES ({", ".join("?" * 19)})"""


def register(connection: sqlite3.Connection, started: RunStarted, lock: int | None) -> int:
    """Writes a run that begins, unless it is there, with the offset of its lock. Returns its number."""
    for (run,) in connection.execute(FIND_RUN, (_as_text(started.run_id),)):
        return int(run)
    parent = started.parent
    values = (
        started.run_id,
        started.workflow_id,
        started.name,
        "Running",
        started.mode,
        started.resumed,
        started.trigger or None,
        micro(started.at),
        started.tasks,
        *(
            (None, None, None, None)
            if parent is None
            else (parent.run_id, parent.task_id, NO_ITEM if parent.item is None else parent.item, parent.attempt)
        ),
        lock,
        process_name(),
        _plan(connection, started.steps),
        _environment(connection, started.masks),
        started.storage,
        started.is_named,
    )
    return int(connection.execute(SAVE_RUN, tuple(map(_as_text, values))).lastrowid or 0)


def _as_text(value: Any) -> Any:
    """Returns a value for a column: ids, names and paths may have lone surrogates; a tuple of numbers is JSON."""
    if isinstance(value, tuple):
        return json.dumps(value) if value else None
    return escape_surrogates(value) if isinstance(value, str) else value


def _plan(connection: sqlite3.Connection, steps: Sequence[Planned]) -> int:
    policies = {id(step.policy): step.policy for step in steps}  # many steps share one
    texts = {key: _describe(policy) for key, policy in policies.items()}
    rows = [
        (str(name), identity, code or None, str(group), lane, tuple(needs), texts[id(policy)])
        for name, group, lane, identity, needs, policy, code, _ in steps
    ]
    data = marshal.dumps(rows, 0)  # the version without references, so that equal rows are equal bytes
    digest = _digest(data)
    for (plan,) in connection.execute(FIND_PLAN, (digest,)):
        return int(plan)
    plan = int(connection.execute(SAVE_PLAN, (digest,)).lastrowid or 0)
    connection.executemany(SAVE_STEP, [(plan, task, *map(_as_text, row)) for task, row in enumerate(rows)])
    return plan


def _describe(policy: Policy | None) -> str | None:
    """Returns what differs from the default policy as JSON; None if nothing does."""
    changed = None if policy is None else policy.changed()
    return json.dumps(changed) if changed else None


def _environment(connection: sqlite3.Connection, masks: Masks) -> int:
    text = read_environment(masks)
    digest = _digest(text)
    for (number,) in connection.execute(FIND_ENVIRONMENT, (digest,)):
        return int(number)
    return int(connection.execute(SAVE_ENVIRONMENT, (digest, zlib.compress(text))).lastrowid or 0)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
