"""Fan: a node that has opened children: the items of a map, the items of an added workflow, or its rounds in turn."""

from bisect import insort
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dotflow.core.context import Context
from dotflow.core.failure import Failure
from dotflow.core.links import Group, Nest, Tolerance, may_fail
from dotflow.core.task import Task
from dotflow.graph.gather import Arguments, ByItem, is_over
from dotflow.graph.linked_task import Item, ItemOrMap, LinkedTask, Scope, nodes_of_entry

NEVER: Final = 1 << 60  # instead of the number of unmet needs, for a node that another one begins


class Unit:
    """What all fans of one map, or of one added workflow, share: what their nodes take, and who follows whom.

    Attributes:
        nest: The workflow; None for a map.
        inputs: What the children of each owner take.
    """

    def __init__(self, nest: Nest | None) -> None:
        self.nest = nest
        self.inputs: dict[int, ByItem] = {}
        self._orders: dict[Group, tuple[list[int], Mapping[int, Sequence[int]]]] = {}

    @property
    def waits_outside(self) -> bool:
        """Whether a child waits for nodes in other scopes."""
        return any(inputs.has_entries or inputs.waits_in_step for inputs in self.inputs.values())

    def order(self, opened: Group) -> tuple[list[int], Mapping[int, Sequence[int]]]:
        """Returns how many nodes each one of a scope waits for, by position, and those that follow each task's.

        Args:
            opened: The tasks that have nodes there. The others were skipped as a whole.
        """
        if opened not in self._orders and self.nest is not None:
            first = self.nest.tasks[0]
            unmet = [NEVER] * len(self.nest.tasks)
            followers: dict[int, list[int]] = {task_id: [] for task_id in opened}
            begun = set[Group]()
            for task_id in opened:
                siblings = self.inputs[task_id].siblings
                if siblings in begun:
                    continue  # the first of them opens all
                begun.add(siblings)
                waits = [one for one in self.inputs[task_id].waits if one in followers]
                unmet[task_id - first] = len(waits)
                for one in waits:
                    followers[one].append(task_id)
            self._orders[opened] = unmet, followers
        return self._orders[opened]


class Fan:
    """The children that a node, or the nodes of an added workflow in one scope, have opened.

    A child is inside from its beginning to its end. While it waits for an approval, it is not. The lowest one that
    may begin is next.

    Args:
        unit: What it shares with the fans of the same tasks.
        owners: The nodes.
        limit: The number of children inside.
        previous: The previous context of each node below, unless its entry is that.
        tolerance: How many children may fail, or the share of them that must complete; None where nothing says so.

    Attributes:
        nest: The workflow; None for the items of a map.
        owners: The nodes by the ids of their tasks.
        opened: These ids.
        kids: The items, or the scopes.
        shared: The arguments that all nodes of a task share, by its id.
        first: Those that only the first round shares, since later ones are given what the round before carries.
        left: The nodes of each task that have not ended.
        inside: The children that have begun and are not over.
        pending: The children that may begin, in order.
        waiting: Those that wait for nodes outside.
        direct: The parameter that gets the entry of an item which takes nothing else, and begins at once; None for
            others.
        lanes: The lanes of nodes that have begun, and those that pending children continue, side by side.
        answered: What goes on of a child that waits for a place since its question has its answer.
        begun: The number of rounds that have begun.
        failure: Why the rounds have ended without what they were repeated for.
        failed: The children of which a node has failed.
        is_open: Whether children may begin. What is restored is published first.
        is_closed: Whether no further child begins.
    """

    __slots__ = (
        "answered",
        "begun",
        "direct",
        "failed",
        "failure",
        "first",
        "inside",
        "is_closed",
        "is_open",
        "kids",
        "lanes",
        "left",
        "limit",
        "opened",
        "owners",
        "pending",
        "previous",
        "shared",
        "tolerance",
        "unit",
        "waiting",
    )

    def __init__(
        self,
        unit: Unit,
        owners: Sequence[LinkedTask],
        limit: int,
        previous: Context,
        tolerance: Tolerance | None = None,
    ) -> None:
        self.unit, self.limit, self.previous = unit, limit, previous
        self.owners = {owner.task_id: owner for owner in owners}
        self.opened: Group = tuple(self.owners)
        kids = owners[0].items if unit.nest is None else owners[0].scopes
        self.kids: Sequence[Item | Scope] = kids
        # Rounds end by a verdict, not by their number.
        self.left = dict.fromkeys(self.owners, len(kids) + owners[0].is_repeated)
        self.shared: dict[int, Arguments] = {}
        self.first: dict[int, Arguments] = {}
        self.inside: set[Item | Scope] = set()
        self.pending: deque[int] = deque()
        self.waiting: set[int] = set()
        self.direct: str | None = None
        self.lanes: dict[ItemOrMap | Scope, int] = {}
        self.answered: dict[int, list[Any]] = {}
        self.begun = 0
        self.failure: Failure | None = None
        self.failed: set[Item | Scope] = set()
        self.tolerance = tolerance
        self.is_open = self.is_closed = False
        for kid in owners[0].scopes if unit.nest is not None else ():
            kid.fan, kid.left = self, len(owners)

    @property
    def nest(self) -> Nest | None:
        """The workflow; None for the items of a map."""
        return self.unit.nest

    @property
    def is_cleanup(self) -> bool:
        """Whether its children are the items of a cleanup."""
        return self.nest is None and self.owners[self.opened[0]].is_cleanup

    @property
    def beyond(self) -> str:
        """Says that more children have failed than may, as the end of "4 of 100 items failed"; "" if not so."""
        if self.tolerance is None:
            return ""
        allowed = may_fail(self.tolerance, len(self.kids))
        return f", and keep_going={self.tolerance!r} allows {allowed}" if len(self.failed) > allowed else ""

    def cut(self) -> None:
        """Drops the records of rounds that did not begin."""
        for owner in self.owners.values():
            if owner.is_repeated:
                owner.cut(max(self.begun, 1))

    def share(self, task_id: int, values: Arguments) -> None:
        """Sets the arguments that all nodes of a task share."""
        carried = self.unit.inputs[task_id].carried
        if carried:
            self.first[task_id] = {name: value for name, value in values.items() if name in carried}
            values = {name: value for name, value in values.items() if name not in carried}
        self.shared[task_id] = values

    def given(self, node: ItemOrMap, own: Arguments) -> tuple[Arguments, Arguments | None]:
        """Returns the own and the shared arguments of a node: what goes from round to round is its own in all."""
        if self.first and node.scope.before is None and node.task_id in self.first:
            own = self.first[node.task_id] | own
        return own, self.shared[node.task_id] or None

    def add(self, index: int) -> None:
        """Makes a child pending."""
        pending = self.pending
        if not pending or pending[-1] < index:
            pending.append(index)
        elif index not in pending:
            insort(pending, index)

    def is_met(self, kid: Item | Scope, tasks: Sequence[Task]) -> bool:
        """Returns whether all is over outside of it that a child waits for: its entries, and others in step with it.

        Args:
            kid: The child.
            tasks: The tasks of the run.
        """
        if not all(map(is_over, nodes_of_entry(kid.entry))):
            return False
        index = kid.index if isinstance(kid, Scope) else kid.item
        for inputs in self.unit.inputs.values():
            for task in map(tasks.__getitem__, inputs.waits_in_step):
                if not is_over(task.nodes[index] if task.nodes else task):
                    return False
        return True
