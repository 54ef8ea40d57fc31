"""The calls of durable steps on the command line: which one an address names, and what the storage has kept of it."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from dotflow.abc.archive import Archive
from dotflow.cli.storages import local_storage
from dotflow.codec.document import pack
from dotflow.core.context import Context
from dotflow.core.text import split_call
from dotflow.errors import CheckpointUnreadable, NotInHistory
from dotflow.records.record import CallRecord, RunRecord, TaskRecord
from dotflow.resume.calls import is_waiting
from dotflow.resume.checkpoint_keys import CALL

NOT_THERE: Final = "the history has no such call. It keeps the first and the last 500 of an attempt"
NO_STORAGE: Final = "only StorageFile and StorageSQLite can be read here"
NOT_KEPT: Final = "the storage has nothing of it any more"
NO_ARGUMENTS: Final = "its arguments were not kept: they have more than 16 KB"
RETURNED: Final = "returned"


class FoundCall(NamedTuple):
    """A call that the command line names.

    Attributes:
        run: The run that has made it.
        task: Its task there.
        item: The index of its item; None for a task.
        call: The call.
    """

    run: RunRecord
    task: TaskRecord
    item: int | None
    call: CallRecord

    @property
    def address(self) -> str:
        """Its address: `agent@12`."""
        return f"{self.task.name_of(self.item)}@{self.call.number}"


def find_call(archive: Archive, run: RunRecord, step: str) -> FoundCall | None:
    """Returns the call that an address such as `agent@12` names; None for a step. Raises NotInHistory.

    Numbers go on in the runs of a chain: a call that this run was given back is found where it was made.
    """
    address = split_call(step)
    if address is None or any(task.name == step for task in run.steps):
        return None
    name, number = address
    run.find(name)
    before = run.chain[: run.chain.index(run.run_id)] if run.chain else ()
    for run_id in (run.run_id, *reversed(before)):
        with contextlib.suppress(NotInHistory):  # an earlier run may have had other tasks
            page = archive.calls(run_id, name, before=number + 1, limit=1)
            if page.calls and page.calls[-1].number == number:
                made = run if run_id == run.run_id else archive.load(run_id)
                task, item = made.find(name)
                return FoundCall(made, task, item, page.calls[-1])
    raise NotInHistory(f"Can't find the call {number} of '{name}'", NOT_THERE)


class KeptCall(NamedTuple):
    """What the storage has kept of a call.

    Attributes:
        arguments: Its arguments as JSON, by parameter; None where they are not there.
        value: The value that it returned as JSON; None where it is not there, or it failed.
        has_value: Whether the value is there.
        note: Why something is not there; "" for nothing.
    """

    arguments: Mapping[str, Any] | None = None
    value: Any = None
    has_value: bool = False
    note: str = ""


def kept_call(archive: Archive, found: FoundCall) -> KeptCall:
    """Returns what the run's files or SQLite database have kept of a call, and of one that failed its history.

    Nothing is unpickled.
    """
    if found.call.input:
        return KeptCall(json.loads(found.call.input))
    if archive.why_foreign():  # its word on where its storage is does not count
        return KeptCall(note=archive.why_foreign())
    storage = local_storage(found.run)
    if storage is None:
        return KeptCall(note=NO_STORAGE)
    ending = f"{CALL}{found.call.key}"
    key = next((one for one in storage.list_keys(f"{found.run.workflow_id}/") if one.endswith(ending)), None)
    try:
        context = Context() if key is None else storage.get(key)
    except CheckpointUnreadable as error:
        return KeptCall(note=f"its record can't be read here: {error.reason}")
    if context.inputs is None or not context.inputs.is_of(found.run.run_id):  # or it was made again since
        return KeptCall(note=NOT_KEPT)
    links = context._links or {}
    text = links.get("arguments", "")
    arguments = json.loads(text) if text else None
    note = "" if text else NO_ARGUMENTS
    if "raised" in links or is_waiting(context):
        return KeptCall(arguments, note=note)
    return KeptCall(arguments, json.loads(pack(RETURNED, context))["value"], True, note)
