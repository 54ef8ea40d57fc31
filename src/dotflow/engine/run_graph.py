"""RunGraph: decides which nodes of a run begin, and what follows from their ends. Only the runner acts."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.context import NOTHING, Context
from dotflow.core.events import NOT_NEEDED, MapEnded, MapOpened, TaskEvent, TaskFailed, TaskPaused, TaskRestored
from dotflow.core.failure import Failure
from dotflow.core.links import Tolerance, tolerance_of
from dotflow.core.task import Task
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine.lifecycle import new
from dotflow.engine.node_inputs import WAITS, Ended, NodeInputs, Refused, StopNew, ended, failed, skipped, stop_after
from dotflow.engine.ready import Ready
from dotflow.engine.stop import FAILED, PAUSED, Stop
from dotflow.errors import RunStopped
from dotflow.graph.fan import NEVER, Fan, Unit
from dotflow.graph.gather import UNFINISHED, Arguments, ByItem, is_over, is_taken
from dotflow.graph.linked_task import NODES, InnerMap, Item, ItemOrMap, LinkedTask, Scope
from dotflow.graph.maps import (
    allowed_failures,
    map_context,
    map_failure,
    not_reached,
    open_map,
    round_end,
    scope_of,
    why_failed,
)
from dotflow.graph.params import Params
from dotflow.graph.plan import Plan, unit_of
from dotflow.resume.checkpoint import Checkpoints

if TYPE_CHECKING:  # few workflows ask
    from dotflow.core.approval import Question

NOT_STARTED, SKIPPED, COMPLETED = TypeStatus.NOT_STARTED, TypeStatus.SKIPPED, TypeStatus.COMPLETED


class Leave(NamedTuple):
    """The lane has no more calls."""

    lane: int


#: What the runner does next. An event is published, and nothing follows from it.
Decision = Ready | Leave | StopNew | Ended | Refused | TaskEvent


class RunGraph:
    """The tasks of one run. Records and storage are up to date whenever it decides.

    Args:
        tasks: The run's records, in order.
        plan: The dependencies and lanes.
        params: The run parameters.
        checkpoints: The checkpoints of the run.
        keep_going: Whether other tasks continue after a failure; a number for what the items of maps may do.
        more: Those of NodeInputs.

    Attributes:
        inputs: Decides on nodes whose turn has come.
        is_stopping: Whether no further task becomes ready.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        plan: Plan,
        params: Params,
        checkpoints: Checkpoints,
        *,
        keep_going: bool | Tolerance,
        **more: Any,
    ) -> None:
        self._tasks = tasks
        self._plan = plan
        self.inputs = NodeInputs(Scope([*tasks]), params, checkpoints, **more)
        self._keep_going = keep_going
        self._followers = plan.followers(tasks)
        self._unmet = [1] * len(tasks)  # by task, the needs that are not met; without needs: the start of the run
        for task_id, needs in plan.linked.items():
            self._unmet[task_id] = len(needs)
        self._last = {*plan.last_of_lanes().values()}
        self._contexts: dict[int, Context] = {}  # of ended tasks, until the next one of the lane takes it
        linked = [task for task in tasks if type(task) is LinkedTask]
        self._undecided = {
            *checkpoints.found.restored,
            *checkpoints.found.not_needed,
            *[task.task_id for task in linked],
        }  # when they are ready; others just begin
        self._cleanups = deque([task for task in linked if task.links.always and not task.links.nest])  # left to run
        self._in_step = plan.item_followers(tasks, linked)
        self._has_nests = False
        for task in linked:
            if task.links.nest is not None:
                self._has_nests = True
                if task.task_id != task.links.nest.tasks[0]:
                    self._unmet[task.task_id] = NEVER
        self._units: dict[tuple[Sequence[int], int], Unit] = {}  # by their tasks and the level of their nodes
        self._fans: dict[LinkedTask, Fan] = {}  # by their owners, until these end
        self._numbers = itertools.count(len(tasks))
        self._cleaning: dict[LinkedTask, Sequence[Item]] = {}  # the cleanups for scopes that a stop has left
        self._left_open: dict[LinkedTask, Fan] = {}  # maps that a pause has held: an interrupt or cancel() fails them
        self._stop = FAILED  # why maps of cleanups end before all of their items
        self._has_stopped = False  # only cleanups begin, and other nodes never end
        self.is_stopping = False

    @property
    def asked(self) -> "dict[tuple[int, int | None], tuple[Ready, tuple[Question, ...]]]":
        """What waits for an approval, by the id of the task and the index of the item, with its questions."""
        return self.inputs.asked

    def start(self) -> list[Decision]:
        """Returns the tasks without needs."""
        decisions: list[Decision] = []
        previous, linked = self._plan.previous, self._plan.linked
        first = [task_id for task_id, before in enumerate(previous) if before is None and task_id not in linked]
        self._release(first, None, decisions)
        return decisions

    def stop(self) -> bool:
        """Makes no further task ready, and no further child of a fan, but cleanups. Returns False if it did before.

        An item that is within the limit of its map is ready.
        """
        if self.is_stopping:
            return False
        self.is_stopping = True
        for fan in self._fans.values():
            if fan.is_open:
                fan.is_closed = not fan.is_cleanup
        return True

    def hold(self) -> None:
        """Makes nothing ready any more, not even an item within the limit of its map, but for cleanups."""
        self.stop()
        for fan in self._fans.values():
            fan.is_closed = not fan.is_cleanup

    @property
    def has_left(self) -> bool:
        """Whether there are tasks that a resume would begin, or go on with."""
        return any(task.status in (NOT_STARTED, TypeStatus.PAUSED) for task in self._tasks)

    def is_cleanup(self, node: Task) -> bool:
        """Returns whether it is a cleanup, or an item of one."""
        return self._tasks[node.task_id].is_cleanup

    def enter(self, ready: Ready) -> Ready | list[Any]:
        """Returns what begins as soon as there is room: *ready*, with its inputs. Or returns decisions instead."""
        node: Any = ready.task
        fan = None
        if node.__class__ is Item:
            fan = self._fan_of(node)
            if fan is None:
                return []
        elif node in self._fans:  # all that is restored of it has been published
            return self._begin(self._fans[node])
        elif node.__class__ is InnerMap:
            return self._open(ready, node)
        else:
            restored = self.inputs.restore(node, ready.previous)
            if restored:
                return restored
            if node.__class__ is LinkedTask and node.links.levels:
                return self._open(ready, node)
        entered = self.inputs.enter(ready, fan)
        if entered.__class__ is Ready:
            if fan is not None and self._plan.is_parallel:
                fan.lanes[node] = ready.lane
            return entered
        assert not isinstance(entered, Ready)
        if fan is None:
            return [entered]
        if isinstance(entered, Refused):
            if self._plan.is_parallel:
                fan.lanes[node] = ready.lane
            return [entered]
        left = [Leave(ready.lane)] if ready.continues and self._plan.is_parallel else []
        return [*left, entered, *(self._give_place(fan, node.scope) if isinstance(entered, TaskPaused) else [])]

    def answered(self) -> list[Decision]:
        """Returns what follows from the answers, by now, to the questions of tasks and items that wait."""
        decisions: list[Decision] = []
        for ready in [] if self.is_stopping or self._has_stopped else self.inputs.answered():
            decisions += self.go_on(ready)
        return decisions

    def go_on(self, ready: Ready) -> list[Decision]:
        """Returns what follows where a task or an item need not wait for answers any more."""
        node = ready.task
        fan = self._fan_of(node) if isinstance(node, Item) else None
        if not isinstance(node, Item):
            return [ready]
        if fan is None:
            return []
        child, index = (node, node.index) if fan.nest is None else (node.scope, node.scope.index)
        if child in fan.inside:
            return [ready]
        fan.answered.setdefault(index, []).append(ready)  # as soon as there is room for it
        fan.add(index)
        return self._admit(fan)

    def set_aside(self, node: Task) -> list[Decision]:
        """Lets other children begin in place of one whose durable step waits for answers."""
        fan = self._fan_of(node) if isinstance(node, Item) else None
        if fan is None or not isinstance(node, Item):
            return []
        if fan.nest is not None:
            return self._give_place(fan, node.scope)
        fan.inside.discard(node)
        return self._admit(fan)

    def waiting(self) -> Iterator[TaskEvent]:
        """Yields the pauses of the maps that are open since items wait for an approval. Only cleanups are left to do.

        An answer that comes from now on is for the run that continues this one.
        """
        self._has_stopped = True
        if not self.is_stopping:
            from dotflow.core.approval import names_of  # here: few workflows ask

            reason = f"{WAITS}: {names_of([question for _, asked in self.asked.values() for question in asked])}"
            yield from self.paused(PAUSED._replace(reason=reason), has_failed=False)

    @property
    def only_waits(self) -> bool:
        """Whether no task has failed."""
        return all(task.status is not TypeStatus.FAILED for task in self._tasks)

    def end(self, node: Task, context: Context | None) -> list[Decision]:
        """Returns what follows from the end of a task, an item or a map in a scope. *context* is None if it failed."""
        if node.__class__ is Item or node.__class__ is InnerMap:
            return self._end_below(node, context)
        task_id = node.task_id
        lane = self._plan.lanes[task_id]
        is_last = self._is_last(node) if self._has_nests else task_id in self._last
        decisions: list[Decision] = [new(Leave, (lane,))] if is_last else []
        if context is None:
            context = Context()
            if not self._goes_on(node):
                return [StopNew(), *decisions]
        self._contexts[task_id] = context
        if not self.is_stopping:
            self._release(self._followers[task_id], lane, decisions)
        return decisions

    def _is_last(self, task: Task) -> bool:
        """Returns whether a lane has ended with the task: the last one of an added workflow may end before others."""
        unit = unit_of(task)
        return unit[-1] in self._last and all(is_over(self._tasks[one]) for one in unit)

    def _goes_on(self, task: Task) -> bool:
        """Returns whether other tasks continue after a failure of the task."""
        links = task.links
        if links is not None and links.keep_going is not None:
            return links.keep_going
        around = links.levels[0].keep_going if links is not None and links.levels else None
        return around if isinstance(around, bool) else self._keep_going is True

    def _goes_on_below(self, owner: LinkedTask, fan: Fan) -> bool:
        """Returns whether other nodes continue after a failure of one below an owner: of cleanups, by default."""
        links = owner.links
        if links.keep_going is not None and (fan.tolerance is None or not links.keep_going):
            return links.keep_going
        if fan.tolerance is not None and not fan.beyond:
            return True
        if self._goes_on(owner) or (links.always and fan.tolerance is None):
            return True
        above: Fan | None = owner.scope.fan if isinstance(owner, InnerMap) else None
        return above is not None and self._goes_on_below(above.owners[owner.task_id], above)

    def _tolerance(self, owner: LinkedTask) -> Tolerance | None:
        """Returns how many children of an owner may fail, or the share that must complete; None for no such number."""
        own = owner.opens.keep_going
        if owner.is_repeated or (own is None and owner.links.keep_going is not None):
            return None
        return tolerance_of(self._keep_going if own is None else own)

    def _release(self, followers: Iterable[int], lane: int | None, decisions: list[Decision]) -> None:
        """Counts one need of each task as met, that of a task in *lane*. Adds those without another need."""
        unmet, undecided, sources, lanes = self._unmet, self._undecided, self._plan.previous, self._plan.lanes
        for task_id in followers:
            if unmet[task_id] > 1:
                unmet[task_id] -= 1
                continue
            source, task, own = sources[task_id], self._tasks[task_id], lanes[task_id]
            if self._has_nests and source is not None:
                source = self._last_of(source)
            inputs = None if task_id in undecided else ()
            if source is None:
                previous = NOTHING
            elif inputs is None and task.is_cleanup:  # may be dropped by a stop, and become ready once more
                previous = self._contexts[source]
            else:
                previous = self._contexts.pop(source)
            decisions.append(new(Ready, (task_id, own, task, previous, task.step, own == lane, inputs, None, 0)))

    def _last_of(self, source: int) -> int:
        """Returns the task that gives the previous context of what follows: of an added workflow the last that ran."""
        links = self._tasks[source].links
        if links is None or links.nest is None:
            return source
        nest = links.nest
        tasks = [self._tasks[one] for one in (nest.result, *reversed(nest.tasks)) if one != nest.until]
        return next((one.task_id for one in tasks if one.status is not SKIPPED and not one.is_cleanup), source)

    # Fans

    def _open(self, ready: Ready, first: LinkedTask) -> list[Decision]:
        """Opens a map, or the maps of an added workflow, of which *first* is the first one."""
        scope = first.scope if isinstance(first, InnerMap) else self.inputs.root
        above: Fan | None = scope.fan
        if above is not None and above.is_closed:
            return []
        nest = first.nest
        nodes = [first] if nest is None else [scope.node(task_id) for task_id in nest.tasks]
        self.inputs.flush()
        decisions: list[Ended] = []
        opening: list[tuple[LinkedTask, Arguments]] = []
        for node in nodes:
            if above is not None and node.task_id not in above.owners:
                continue  # it was skipped with all of its nodes
            taken = self.inputs.take(node, ready.previous, above)
            if isinstance(taken, Ended):
                decisions.append(taken)
                continue
            own, shared = taken
            values = {**shared, **own} if shared else own
            if node.step.approve is not None and nest is None:
                answer = self.inputs.ask_for_all(ready, node, values)
                if isinstance(answer, Ended | TaskPaused):
                    return [answer]
                values = {**values, **answer}
            opening.append((node, values))
        if nest is not None and nest.repeat and opening:
            needed = {nest.result, nest.until}.difference(self.inputs.checkpoints.found.not_needed)
            lacking = [one for one in decisions if one.task.task_id in needed]
            if lacking:  # no round could be judged
                why = f"it needs '{lacking[0].task.name}', which was skipped"
                decisions += [skipped(node, why) for node, _ in opening]
                opening = []
        return [*decisions, *(self._open_together(opening, ready.previous, scope) if opening else ())]

    def _open_together(
        self, opening: Sequence[tuple[LinkedTask, Arguments]], previous: Context, scope: Scope
    ) -> list[Decision]:
        """Makes the children of nodes whose lists are known.

        Args:
            opening: A map, or those of an added workflow, and the arguments that their nodes share.
            previous: The previous context of each node below.
            scope: The scope in which they stand.
        """
        owners = [owner for owner, _ in opening]
        first, nest = owners[0], owners[0].nest
        approvals = self.inputs.approvals
        try:
            for owner in owners:
                open_map(owner, scope, self.inputs.params)
                if isinstance(owner, InnerMap):
                    owner.add_items()
                if nest is not None and owner.step.approve is not None and approvals is not None:
                    approvals.place(owner, owner.items)
            restored = self.inputs.checkpoints.restore_items(owners)
        except Exception as error:  # of the lists, which may be the user's own types, or of the storage
            why = f"it needs '{first.name}', which failed"  # whose list can't be used
            return [*stop_after(error), failed(first, error), *(skipped(owner, why) for owner in owners[1:])]
        limit = first.opens.limit if self._plan.is_parallel else 1
        fan = Fan(self._unit(owners), owners, limit, previous, self._tolerance(first))
        if nest is None:
            fan.direct = self.inputs.direct(first, fan.unit.inputs[first.task_id])
        decisions: list[Decision] = []
        left: list[LinkedTask] = [first] if first.is_repeated else []  # of which children are left to begin
        for owner, values in opening:
            task_id = owner.task_id
            self._fans[owner] = fan
            fan.share(task_id, values)
            number = None if scope.outer is None else scope_of(scope, 1).index
            count = len(self._tasks[task_id].items)
            event = MapOpened(task_id, count, clock.now(), clock.monotonic(), round=number)
            if isinstance(owner, InnerMap):
                owner._apply(event)
            decisions.append(event)
            if owner.has_maps:  # those of a map in a scope are asked for there
                for one in () if owner.is_repeated else owner.scopes:
                    owner.begin_in(one)
                left.append(owner)
                continue
            found, not_needed = restored.values.get(task_id, {}), restored.not_needed.get(task_id, ())
            if len(found) + len(not_needed) < len(owner.items):
                left.append(owner)
            for item in owner.items if found or not_needed else ():
                context = found.get(item.key_suffix)
                if context is not None:
                    restoring: TaskEvent = new(TaskRestored, (task_id, context, Context(), item.item, "checkpoint"))
                    decisions.append(new(Ended, (restoring, item, context)))
                elif item.key_suffix in not_needed:
                    decisions.append(skipped(item, NOT_NEEDED))
        for owner in owners:
            following = self._in_step.get(owner.task_id, ()) if scope.outer is None else ()
            if following and not self.is_stopping:
                followers = self._followers[owner.task_id]
                self._followers[owner.task_id] = [other for other in followers if other not in following]
                self._release(following, None, decisions)
        if not fan.kids:
            decisions += [one for owner in owners for one in self._end_owner(fan, owner)]
        elif left:
            lane = self._plan.lanes[first.task_id]
            decisions.append(new(Ready, (-1, lane, left[0], previous, first.step, False, None, None, 0)))
        return decisions

    def _unit(self, owners: Sequence[LinkedTask]) -> Unit:
        """Returns what the fans of some tasks share."""
        first = owners[0]
        key = first.opens.tasks or (first.task_id,), first.level
        if key not in self._units:
            self._units[key] = Unit(first.nest)
        unit = self._units[key]
        for owner in owners:
            if owner.task_id not in unit.inputs:
                before = self._plan.goes_after(owner, owner.level, self._tasks)
                unit.inputs[owner.task_id] = ByItem(owner, self._tasks, before)
        return unit

    def _fan_of(self, node: ItemOrMap) -> Fan | None:
        """Returns the fan below which a node is; None for one whose owner has ended without it."""
        scope = node.scope
        own: Any = scope.nodes[node.task_id - scope.first] if scope.level else self._tasks[node.task_id]
        if own is not node:
            return self._fans.get(own)
        fan: Fan = scope.fan
        return fan if fan.owners[node.task_id] in self._fans else None

    def _begin(self, fan: Fan) -> list[Decision]:
        """Begins children of a fan: all that are not restored, but those that wait for nodes outside."""
        fan.is_open = True
        waits = fan.unit.waits_outside
        if fan.nest is not None and fan.nest.repeat:
            fan.add(0)
        else:
            for index, kid in enumerate(fan.kids):
                if is_over(kid) if isinstance(kid, Item) else not kid.left:
                    continue
                if waits and not self._has_stopped and not fan.is_met(kid, self._tasks):
                    fan.waiting.add(index)
                else:
                    fan.pending.append(index)
        decisions = self._admit(fan)
        if self.is_stopping:  # it was ready before
            fan.is_closed = not fan.is_cleanup
        return decisions

    def _admit(self, fan: Fan) -> list[Decision]:
        """Begins children of a fan while there is room, the lowest index first."""
        decisions: list[Decision] = []
        while fan.pending and len(fan.inside) < fan.limit and not fan.is_closed:
            index = fan.pending.popleft()
            kid = fan.kids[index]
            fan.inside.add(kid)
            if index in fan.answered:
                decisions += fan.answered.pop(index)
                continue
            lane = fan.lanes.pop(kid, None) if fan.lanes else None
            if isinstance(kid, Item):
                self._make_ready(fan, kid, lane, decisions)
            else:
                self._begin_scope(fan, kid, lane, decisions)
        return decisions

    def _begin_scope(self, fan: Fan, scope: Scope, lane: int | None, decisions: list[Decision]) -> None:
        """Begins the nodes of a scope that wait for no other one in it."""
        unmet, followers = fan.unit.order(fan.opened)
        first = scope.first
        scope.unmet = unmet = unmet[:]
        fan.begun = scope.index + 1
        for owner in fan.owners.values():
            if owner.is_repeated and owner.has_maps:
                owner.begin_in(scope)
        for task_id in fan.opened:
            if is_over(scope.nodes[task_id - first]):
                unmet[task_id - first] = NEVER
                for other in followers[task_id]:
                    unmet[other - first] -= 1
        for task_id in fan.opened:
            if not unmet[task_id - first]:
                lane = self._make_ready(fan, scope.nodes[task_id - first], lane, decisions)
        if lane is not None and self._plan.is_parallel:
            decisions.append(Leave(lane))
        if not scope.left:
            decisions += self._leave(fan, scope)

    def _make_ready(self, fan: Fan, node: ItemOrMap, lane: int | None, decisions: list[Decision]) -> int | None:
        """Adds a node that waits for nothing more. Returns *lane*, unless the node continues it."""
        if fan.nest is not None:
            is_cleanup = self.is_cleanup(node)
            is_left = is_cleanup and not self._has_run(node.scope, node.task_id)
            if is_left and not is_taken(node.task_id, fan.nest, self._tasks):
                decisions.append(skipped(node, NOT_NEEDED))
                return lane
            if fan.is_closed and not is_cleanup:  # it may only end
                taken = None if isinstance(node, InnerMap) else self.inputs.take(node, fan.previous, fan)
                if isinstance(taken, Ended):
                    decisions.append(taken)
                return lane
        number, inputs = next(self._numbers), None
        continues = lane is not None and not isinstance(node, InnerMap)
        if continues:
            own: Any = lane
        else:
            own = number if self._plan.is_parallel else self._plan.lanes[node.task_id]
        if fan.direct is not None and type(node.entry) not in NODES:
            inputs = {fan.direct: node.entry}, fan.shared[node.task_id] or None, None, None
            if self._plan.is_parallel:
                fan.lanes[node] = own
        decisions.append(new(Ready, (number, own, node, fan.previous, node.step, continues, inputs, None, 0)))
        return None if continues else lane

    def _end_below(self, node: ItemOrMap, context: Context | None) -> list[Decision]:
        """Returns what follows from the end of a node below a fan."""
        fan, task_id = self._fan_of(node), node.task_id
        if fan is None:
            return []
        owner, scope, is_kid = fan.owners[task_id], node.scope, fan.nest is None
        is_parallel = self._plan.is_parallel
        if is_parallel:
            lane = fan.lanes.pop(node, None)
        else:
            lane = self._plan.lanes[task_id] if node.attempt else None
        decisions: list[Decision] = []
        if node.status is TypeStatus.FAILED:
            fan.failed.add(node if isinstance(node, Item) and is_kid else scope)
            if not self._goes_on_below(owner, fan):  # first: nothing takes its place
                fan.is_closed = True
                decisions.append(StopNew())
            elif beyond := fan.beyond:
                decisions += self._skip_left(fan, f"{len(fan.failed)} of {len(fan.kids)} items failed{beyond}")
        if not self._has_stopped:
            if not is_kid:
                scope.left -= 1
                lane = self._release_in(fan, node, lane, decisions)
            if task_id in self._in_step and scope.level == (not is_kid):
                lane = self._follow(node, lane, decisions)
        if lane is not None and is_parallel:
            decisions.append(Leave(lane))
        fan.left[task_id] -= 1
        if is_kid:
            fan.inside.discard(node)
        elif self._has_stopped or scope.unmet is None:
            pass  # a cleanup has ended, and nothing follows; or it was restored
        elif not scope.left:
            decisions += self._leave(fan, scope)
        elif self.asked:
            decisions += self._give_place(fan, scope)
        if not fan.left[task_id]:
            decisions += self._end_owner(fan, owner)
        if fan.pending:
            decisions += self._admit(fan)
        return decisions

    def _skip_left(self, fan: Fan, reason: str) -> list[Decision]:
        """Skips the children of a fan that have not begun."""
        left = sorted({*fan.pending, *fan.waiting})
        fan.pending.clear()
        fan.waiting.clear()
        decisions: list[Decision] = []
        for index in left:
            kid = fan.kids[index]
            fan.answered.pop(index, None)
            if (lane := fan.lanes.pop(kid, None)) is not None and self._plan.is_parallel:
                decisions.append(Leave(lane))
            nodes = [kid] if isinstance(kid, Item) else [kid.nodes[task_id - kid.first] for task_id in fan.opened]
            decisions += [skipped(node, reason) for node in nodes if not is_over(node)]
        return decisions

    def _release_in(self, fan: Fan, node: ItemOrMap, lane: int | None, decisions: list[Decision]) -> int | None:
        """Makes ready what waits for a node in its scope. Returns its lane, unless one of these continues it."""
        scope = node.scope
        unmet, first = scope.unmet, scope.first
        if not unmet:  # it was restored
            return lane
        for other in fan.unit.order(fan.opened)[1][node.task_id]:
            unmet[other - first] -= 1
            if not unmet[other - first]:
                follower = scope.nodes[other - first]
                if node.step.isolate or follower.step.isolate:
                    self._make_ready(fan, follower, None, decisions)
                else:
                    lane = self._make_ready(fan, follower, lane, decisions)
        return lane

    def _follow(self, node: ItemOrMap, lane: int | None, decisions: list[Decision]) -> int | None:
        """Begins what waits in other fans for a node of the same index. Returns its lane, unless one continues it."""
        index = node.item
        for task_id in self._in_step[node.task_id]:
            fan = self._fans.get(self._tasks[task_id])  # type: ignore[call-overload]
            if fan is None or index not in fan.waiting or not fan.is_met(fan.kids[index], self._tasks):
                continue
            fan.waiting.discard(index)
            fan.add(index)
            if lane is not None and not (node.step.isolate or self._tasks[fan.opened[0]].step.isolate):
                fan.lanes[fan.kids[index]], lane = lane, None
            decisions += self._admit(fan)
        return lane

    def _leave(self, fan: Fan, scope: Scope) -> list[Decision]:
        """Gives the place of a scope that is over to others. After a round comes another one, or the end of all."""
        fan.inside.discard(scope)
        scope.unmet = OVER
        nest = fan.nest
        if nest is None or not nest.repeat:
            return []
        inputs = self.inputs
        inputs.flush()
        end = round_end(nest, scope, inputs.masks)
        if not end.is_end:
            if not self.is_stopping:
                fan.add(scope.index + 1)
            return []
        fan.failure = not_reached(nest, end.failure) if end.failure else None
        if end.note:
            inputs.log_line(end.note, None)
        fan.cut()
        owners = [owner for owner in fan.owners.values() if owner in self._fans]
        return [decision for owner in owners for decision in self._end_owner(fan, owner)]

    def _give_place(self, fan: Fan, scope: Scope) -> list[Decision]:
        """Lets another scope begin, if what is left of this one waits for approvals."""
        ready = (node for node, unmet in zip(scope.nodes, scope.unmet or (), strict=False) if not unmet)
        left = [node for node in ready if not is_over(node)]
        if not left or any((node.task_id, node.item) not in self.asked for node in left):
            return []
        fan.inside.discard(scope)
        return self._admit(fan)

    def _end_owner(self, fan: Fan, owner: LinkedTask) -> list[Decision]:
        """Ends a node all of whose children are over."""
        del self._fans[owner]
        self._cleaning.pop(owner, None)
        failure = self._failure_of(fan, owner)
        if failure is None:
            if owner.is_repeated and owner.last.status is SKIPPED:
                return [skipped(owner, owner.last.reason)]
            event = self._map_ended(owner, None)
            return [ended(event, owner, event.context)]
        stop = [] if self._goes_on_below(owner, fan) else [StopNew()]
        return [*stop, ended(self._map_ended(owner, failure), owner, Context())]

    def _failure_of(self, fan: Fan, owner: LinkedTask) -> Failure | None:
        """Returns the failure of a node all of whose children are over; None if it completes."""
        if owner.is_repeated and not owner.is_cleanup:
            return fan.failure
        if fan.tolerance is None or owner.links.keep_going is False:
            return map_failure(owner)
        return map_failure(owner, len(fan.failed), beyond) if (beyond := fan.beyond) else None

    def _map_ended(self, owner: LinkedTask, failure: Failure | None) -> MapEnded:
        reason = "" if failure is not None else allowed_failures(owner)
        if owner.is_repeated:  # its value is that of the last round
            is_there = failure is None and owner.scopes and owner.last.status is COMPLETED
            last = owner.last.current_context if is_there else Context()
            items = len(owner.items)
            return MapEnded(owner.task_id, last, failure, clock.now(), clock.monotonic(), items=items, reason=reason)
        context = map_context(owner)
        if len(context.values) < len(context.storage) and not isinstance(owner, InnerMap):
            self.inputs.short.add(owner.task_id)
        return MapEnded(owner.task_id, context, failure, clock.now(), clock.monotonic(), reason=reason)

    def _has_run(self, scope: Scope, cleanup: int) -> bool:
        """Returns whether a task of a scope has run that was added before a cleanup for it."""
        before = (node for node in scope.nodes[: cleanup - scope.first] if isinstance(node, ItemOrMap))
        return any(item.attempt for node in before for item in (node.items if isinstance(node, InnerMap) else [node]))

    # The end of a run that was stopped

    def paused(self, stop: Stop, *, has_failed: bool) -> Iterator[TaskEvent]:
        """Yields the events of the tasks and items that a pause has held, but of cleanups. No attempt is in flight.

        With *has_failed* a failure has stopped the run before, and so the maps that are open.
        """
        self._stop = stop
        maps = {task: fan for task, fan in self._root_maps().items() if not task.links.always}
        yield from self._end_maps(maps, FAILED if has_failed else stop)
        yield from _stopped((task for task in self._tasks if not task.is_cleanup), stop)

    def clean_up(self) -> Iterator[Decision]:
        """Yields the next cleanups that begin, or what else is left to do, once nothing is ready or runs."""
        dropped = [fan for fan in self._fans.values() if fan.is_cleanup and (fan.inside or not fan.is_open)]
        for fan in dropped:  # by the stop
            fan.inside.clear()
            fan.pending.clear()
            yield from self._begin(fan)
        if not dropped:
            yield from self._unfinished_maps(self._stop)
            for task, wanted in [*self._cleaning.items()]:
                fan = self._fans[task]
                fan.left[task.task_id] = len(wanted)
                decisions: list[Decision] = []
                for node in wanted[: fan.limit]:
                    self._make_ready(fan, node, None, decisions)
                yield from decisions if wanted else self._end_owner(fan, task)
            if not self._cleaning and (cleanup := self.next_cleanup()) is not None:
                task_id = cleanup.task_id
                source = self._plan.previous[task_id]
                previous = Context() if source is None else self._contexts.get(source, Context())
                yield Ready(task_id, self._plan.lanes[task_id], cleanup, previous, cleanup.step)

    @property
    def has_cleanups(self) -> bool:
        """Whether cleanups are left to run."""
        return bool(self._cleaning) or self.next_cleanup() is not None

    def next_cleanup(self) -> Task | None:
        """Returns the first cleanup that has not run; None if there is none."""
        while self._cleanups and self._cleanups[0].status is not NOT_STARTED:
            self._cleanups.popleft()
        return self._cleanups[0] if self._cleanups else None

    def unfinished(self, stop: Stop, *, is_over: bool = False) -> Iterator[TaskEvent]:
        """Yields the failures of what a stopped run leaves unfinished. With *is_over* no cleanup follows."""
        paused, self._left_open = self._left_open, {}
        yield from self._end_maps(paused, stop)
        yield from self._unfinished_maps(stop, is_over=is_over)
        yield from _stopped((task for task in self._tasks if task not in self._cleaning), stop)

    def _unfinished_maps(self, stop: Stop, *, is_over: bool = False) -> Iterator[TaskEvent]:
        """Ends the maps that are open, but those of cleanups for scopes in which a node has run."""
        self._has_stopped = True
        self._cleaning.clear()
        for task, fan in [] if is_over else self._root_maps().items():
            if fan.nest is None or not task.links.always:
                continue
            fan.cut()
            yield from _stopped(task.items, stop)
            begun = [scope.node(task.task_id) for scope in task.scopes if self._has_run(scope, task.task_id)]
            if begun:
                self._cleaning[task] = [node for node in begun if node.status is NOT_STARTED]
        left = {task: fan for task, fan in self._root_maps().items() if task not in self._cleaning}
        yield from self._end_maps(left, stop)

    def _root_maps(self) -> dict[LinkedTask, Fan]:
        """Returns the open maps of the run, without those in scopes."""
        return {task: fan for task, fan in self._fans.items() if not isinstance(task, InnerMap)}

    def _end_maps(self, maps: Mapping[LinkedTask, Fan], stop: Stop) -> Iterator[TaskEvent]:
        failed: dict[LinkedTask, Failure | None] = {}
        allowed = {owner for owner, fan in self._fans.items() if fan.tolerance is not None and not fan.beyond}
        count = {task: sum(map(is_over, task.items)) for task in maps}
        for task, fan in maps.items():
            nest = fan.nest
            if nest is not None and nest.repeat:
                fan.cut()
                why = why_failed(nest, task.scopes[-1], allowed) if fan.begun else ""
                failed[task] = not_reached(nest, why) if why else None
            elif not self._goes_on_below(task, fan):
                failed[task] = self._failure_of(fan, task)
        for task in maps:
            for node in task.inner_maps:
                self._fans.pop(node, None)
            yield from _stopped(task.items, stop)
        for task, fan in maps.items():
            self._fans.pop(task, None)
            failure = failed.get(task)
            if failure is None and stop.state is TypeRunState.PAUSED:
                self._left_open[task] = fan
                yield _paused(task, stop)
                continue
            progress = f"{stop.reason}, after {count[task]} of {len(task.items)} items"
            if task.is_repeated:
                assert fan.nest is not None
                progress = f"{stop.reason}, after {max(fan.begun - 1, 0)} of at most {fan.nest.repeat} rounds"
            stopped = Failure(stop.exception, str(RunStopped(task.name, progress)))
            for node in task.inner_maps:
                if node.status in UNFINISHED:
                    node._apply(self._map_ended(node, map_failure(node) or stopped))
            yield self._map_ended(task, failure or stopped)


#: Of a scope that is over.
OVER: Final[list[int]] = []


def _stopped(tasks: Iterable[Task], stop: Stop) -> Iterator[TaskFailed | TaskPaused]:
    for task in tasks:
        is_paused = task.status is TypeStatus.PAUSED
        if task.status not in UNFINISHED and (not is_paused or task.question is not None):
            continue  # what waits for an approval has not begun
        if stop.state is TypeRunState.PAUSED:
            if not is_paused:
                yield _paused(task, stop)
            continue
        failure = Failure(stop.exception, str(RunStopped(task.name, stop.reason)))
        yield TaskFailed(task.task_id, task.attempt, failure, clock.now(), clock.monotonic(), task.item)


def _paused(task: Task, stop: Stop) -> TaskPaused:
    return TaskPaused(task.task_id, stop.reason, clock.now(), clock.monotonic(), task.item)
