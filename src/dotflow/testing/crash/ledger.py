"""Ledger: what a storage has to return for each key, after all that trials have done with it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from dotflow.calls.keys import shown
from dotflow.core.context import Context
from dotflow.testing.crash.kill_points import StepId

ABSENT: Final = "absent"
UNREADABLE: Final = "unreadable"
UNKNOWN: Final = "unknown"  # of a key that no trial has written yet

#: The inputs of a value, which differ from run to run; None for a value that is kept without. Or one of the above.
Version = list[Any] | str | None

#: A task or an item by its id, or the key of another value.
Name = StepId | str


def version_of(context: Context) -> Version:
    """Returns the version of a value that was saved."""
    inputs = context.inputs
    if inputs is None:
        return None
    *others, links, code, files = inputs
    return [*others, dict(links), code, None if files is None else files.as_plain()]


class SavedCall(NamedTuple):
    """A call of a durable step that was saved.

    Attributes:
        label: What it is called, such as "call 3 of task 1 (agent)".
        name: The identity of its action.
        arguments: Its arguments as JSON; empty where they are not saved.
    """

    label: str
    name: str
    arguments: str

    @property
    def of(self) -> tuple[str, str]:
        """The task or item, and the action."""
        return self.label.partition(" of ")[2], self.name

    def __str__(self) -> str:
        return shown(self.name, self.arguments)


@dataclass(slots=True)
class Findings:
    """What a trial found in the storage, and left there.

    Attributes:
        labels: What the calls of durable steps are called, by key.
        posted: What it has posted.
        lost: What was posted, and is absent or can't be read.
        stale: What was deleted, and is still there.
        altered: What is another version than the last one that was posted.
        valid: The checkpoints that the trial found and did not delete.
    """

    labels: Mapping[str, str]
    posted: set[Name] = field(default_factory=set)
    lost: set[Name] = field(default_factory=set)
    stale: set[Name] = field(default_factory=set)
    altered: set[Name] = field(default_factory=set)
    valid: set[Name] = field(default_factory=set)


class Ledger:
    """The versions that each key may have: one, or after a kill inside of an operation several."""

    def __init__(self) -> None:
        self._versions: dict[str, list[Version]] = {}
        self._steps: dict[str, StepId] = {}  # by the key of a checkpoint
        self._workflows: dict[str, str] = {}  # by the key of a checkpoint: whose clear() deletes it
        self._labels: dict[str, str] = {}  # by the key of a call
        self._calls: dict[str, SavedCall] = {}  # by key: those that count

    @property
    def calls(self) -> list[SavedCall]:
        """The calls that count, in the order in which they were saved."""
        return list(self._calls.values())

    def follow(self, operations: Iterable[tuple[Any, ...]], *, is_new: bool = False) -> Findings:
        """Follows what a trial has done with the storage, and returns what it found there.

        Args:
            operations: What it has done.
            is_new: Whether it began anew, so that no call of an earlier one counts.
        """
        findings, call = Findings(self._labels), None
        if is_new:
            self._calls.clear()
        for operation, key, *more in operations:
            match operation:
                case "post":
                    version, step, workflow_id = more
                    if step is not None:
                        self._steps[key], self._workflows[key] = (step[0], step[1]), workflow_id
                    self._begin(key, version)
                case "call":
                    self._workflows[key], call = more[0], SavedCall(*more[1:])
                    self._labels[key] = call.label
                case "delete":
                    self._calls.pop(key, None)
                    findings.valid.discard(self._name(key))
                    self._begin(key, ABSENT)
                case "clear":
                    for one in self._of_workflow(key):
                        self._begin(one, ABSENT)
                        self._calls.pop(one, None)
                case "cleared":
                    self._versions.update((one, [ABSENT]) for one in self._of_workflow(key))
                case "posted" | "deleted":
                    self._versions[key] = self._versions[key][-1:]
                    if operation == "posted" and call is not None:
                        self._calls[key], call = call, None
                    if operation == "posted":
                        findings.posted.add(self._name(key))
                case "get":
                    self._find(key, more[0], findings)
        return findings

    def _begin(self, key: str, version: Version) -> None:
        self._versions.setdefault(key, [UNKNOWN]).append(version)

    def _of_workflow(self, workflow_id: str) -> list[str]:
        return [key for key, owner in self._workflows.items() if owner == workflow_id]

    def _name(self, key: str) -> Name:
        return self._steps.get(key, key)

    def _find(self, key: str, found: Version, findings: Findings) -> None:
        name, versions = self._name(key), self._versions.get(key, [UNKNOWN])
        possible = [version for version in versions if version == UNKNOWN or _is_same(version, found)]
        if possible or (found == UNREADABLE and len(versions) > 1):
            if found not in (ABSENT, UNREADABLE):
                findings.valid.add(name)
            self._versions[key] = possible or versions
        elif found in (ABSENT, UNREADABLE):
            findings.lost.add(name)
        elif versions == [ABSENT]:
            findings.stale.add(name)
        else:
            findings.altered.add(name)


def _is_same(version: Version, found: Version) -> bool:
    """Returns whether a storage may return *found* for a version. It need not keep the inputs."""
    if ABSENT in (version, found) or version is None:
        return version == found
    return found is None or version == found
