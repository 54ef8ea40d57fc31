"""A run: looks ahead, voids what does not count, then begins what has its needs. A plan only looks ahead."""

import itertools
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.core_model import graph
from tests.core_model.graph import Const, Graph, Task, digest
from tests.core_model.judge import (
    CACHED,
    COMPLETED,
    FAILED,
    HAS,
    HELD,
    LACK,
    MADE,
    MAYBE,
    NOT_ASKED,
    NOT_NEEDED,
    NOTHING,
    OPEN,
    OVER,
    RESTORED,
    RUN,
    RUNNING,
    SKIPPED,
    UNSURE,
    WAITING,
    Got,
    Look,
    Node,
    Ref,
    Scope,
    Verdict,
    code_of,
    gather,
    gather_item,
    is_taken,
    judge,
    unmet_need,
)
from tests.core_model.store import Journal, Killed, World


class Mismatch(Exception):
    """Another step has made a checkpoint: nothing ran."""


@dataclass
class Options:
    resume: bool | str = False  # True, "changed" or "unfinished"
    rerun: Collection[str] = ()
    only: Collection[str] = ()
    keep_going: bool = True
    cache: bool = True
    width: int = 1  # attempts in flight; more than one is side by side
    eager: bool = True  # whether all that does not count is deleted before anything runs, or at its turn
    answers: Mapping[str, bool] = field(default_factory=dict)
    pick: Callable[[int], int] = lambda count: 0  # which of the attempts in flight ends next
    run: int = 0
    left_out: Set[str] = frozenset()
    strict: bool = False  # as today: what takes a list that is not known ahead runs again for certain


class Fan:
    """The child scopes of a mapped or repeated node, while they run."""

    __slots__ = ("failure", "inside", "is_closed", "is_open", "kids", "limit", "made", "pending", "round", "shared")

    def __init__(self, kids: list[Any], shared: Got, limit: int) -> None:
        self.kids, self.shared, self.limit = kids, shared, limit
        self.pending: deque[int] = deque()  # those that may begin, and have no place yet
        self.inside = 0
        self.round = -1
        self.failure = ""
        self.is_open = self.is_closed = False
        self.made: frozenset[str] = frozenset()  # of rounds: the parameters whose values this run makes


class Run:
    """One run of a graph over what the world has of earlier ones."""

    def __init__(self, world: World, graph: Graph, options: Options, params: Mapping[str, Any] | None = None) -> None:
        self.world, self.graph, self.options = world, graph, options
        world.runs += 1
        options.run = world.runs
        self.journal = Journal(world)
        self.look = Look(world, self.journal, options)
        self.side_by_side = options.width > 1
        self.root = Scope(graph, "", "")
        for name, value in {**graph.params, **(params or {})}.items():
            self.root.env[name] = "value", value, f"={digest(value)}"
        options.left_out = _left_out(graph, options.only) if options.only else frozenset()
        self.ready: deque[Node] = deque()
        self.flight: list[tuple[Node, Any, bool]] = []
        self.stopping = False
        self.state = WAITING
        self.voids: list[Node] = []
        self.count = sum(1 for _ in _tasks(graph))
        self.needed: set[Node] = set()
        self.waited: set[str] = set()

    # Ahead: what a resume and a plan know before anything runs

    def plan(self) -> dict[str, Verdict]:
        """The verdicts by task. Nothing is written."""
        self.foresee(self.root)
        if self.options.resume:
            self.demand(self.root)
        if self.look.mismatches:
            raise Mismatch(self.look.mismatches)
        if self.options.resume == "unfinished" and not self._is_unfinished():
            self._anew()
            self.foresee(self.root)
        return {node.task.name: node.fore for node in self.root.nodes.values() if node.fore}

    def _anew(self) -> None:
        self.options.resume = False
        self.root = _fresh(self.root)
        self.voids.clear()

    def foresee(self, scope: Scope) -> None:
        """Judges all nodes of a scope in the order of `add`, then which unsaved ones somebody needs."""
        for node in scope.nodes.values():
            node.fore = self.foresee_node(node)
            if node.fore.is_void and node.fan is None:
                self.voids.append(node)

    def foresee_node(self, node: Node) -> Verdict:
        got = gather(node.task, node.scope)
        if not node.task.is_fan:
            return judge(node, got, self.look, True)
        whole = self._whole(node, got)
        if whole is not None and whole.kind == SKIPPED and not (node.task.needs and whole.why.endswith("skipped")):
            return whole
        kids = self._kids(node, got)
        if isinstance(kids, str):
            return whole or Verdict(
                OPEN if self.options.resume else RUN,
                kids,
                is_unsure=bool(self.options.resume) and not node.task.repeat and not self._is_made(node, got),
            )
        node.fan = Fan(kids, got, 1)
        if node.task.repeat:
            read = node.scope.read
            node.fan.made = frozenset(n for n, one in node.task.takes.items() if read(one)[0] in (MADE, MAYBE))
            return self._foresee_rounds(node, whole)
        for kid in kids:
            self._foresee_kid(kid, got)
        fore = self._foreseen_fan(node)
        return fore if whole is None or (whole.kind == SKIPPED and fore.kind == RESTORED) else whole

    def _is_made(self, node: Node, got: Got) -> bool:
        """Whether all of its items run again for certain, though its list is not known."""
        return got.made or node.scope.prefix + node.task.name in self.options.rerun or not node.task.saved

    def _foresee_kid(self, kid: Any, shared: Got) -> None:
        if isinstance(kid, Scope):
            self.foresee(kid)
            return
        kid.fore = judge(kid, gather_item(kid, shared), self.look, True)
        if kid.fore.is_void:
            self.voids.append(kid)

    def _foreseen_fan(self, node: Node) -> Verdict:
        kids = node.fan.kids
        leaves = [leaf for leaf in _leaves(kids) if not leaf.task.always and leaf.fore is not None]
        done = sum(kid.is_done() for kid in kids)
        kind = OPEN if any(leaf.fore.kind == OPEN for leaf in leaves) else RUN
        if kids and all(_is_skipped(kid) for kid in kids):
            kind = SKIPPED
        elif kids and done == len(kids):
            kind = RESTORED
        elif kids and all(leaf.fore.kind in (CACHED, RESTORED, SKIPPED) for leaf in leaves):
            kind = CACHED
        cells = [kid.cell() for kid in kids]
        verdict = Verdict(kind, "", items=len(kids), done=done)
        if not kids and self._takes_made(node):  # if that fails, it has no value
            return verdict
        if any(cell[0] in (MADE, MAYBE, UNSURE) for cell in cells):
            return verdict._replace(is_unsure=not any(cell[0] in (MADE, MAYBE) for cell in cells))
        value, token, _ = self._ended(node)
        if self._lacks(node):
            return verdict._replace(kind=SKIPPED)
        if any(cell[0] is HELD for cell in cells):
            return verdict._replace(token=token, is_held=True)
        return verdict._replace(value=value, token=token)

    def _foresee_rounds(self, node: Node, whole: Verdict | None) -> Verdict:
        """Judges rounds in turn, up to the first one that is not restored. Later ones do not count."""
        task, done = node.task, 0
        for number in range(task.repeat):
            scope = self._round(node, number)
            self.foresee(scope)
            saved = [n for n in scope.nodes.values() if not n.task.always and (n.task.saved or n.task.is_fan)]
            is_over = all(n.is_done() for n in saved or scope.nodes.values() if not n.task.always)
            until = scope.nodes[task.until].cell() if task.until else (HAS, False, "")
            if not is_over or until[0] is not HAS:
                self._void_rounds(node, number + 1)
                break
            done += scope.is_done()
            if until[1] or number + 1 == task.repeat:
                kind, value, token = scope.cell()
                if task.until and not until[1]:
                    break
                done_all = all(kid.is_done() for kid in node.fan.kids)
                token = f"r{number}:{token}"
                if kind is HAS:
                    return Verdict(RESTORED if done_all else RUN, "", value, token, items=number + 1, done=done)
                if kind is LACK:
                    return Verdict(SKIPPED, str(value))
                if kind is HELD:
                    return Verdict(RUN, "", NOTHING, token, is_held=True)
                break
        return whole if whole and whole.kind == OPEN else Verdict(RUN, "", items=None, done=done)

    def _void_rounds(self, node: Node, first: int) -> None:
        """Voids the rounds after one that runs again: found by their keys, for a map's items of a round by prefix."""
        if not self.options.resume:
            return
        prefix, marker = f"{node.scope.prefix}{node.task.name}.", f"-{node.scope.path}-" if node.scope.path else "-"
        for key in sorted(self.world.docs):
            if key.startswith(prefix) and marker in key:
                number = key.partition(marker)[2].partition("-")[0]
                if number[:1] == "r" and number[1:].isdigit() and int(number[1:]) >= first:
                    self.voids.append(_Place(key))  # type: ignore[arg-type]

    def demand(self, scope: Scope) -> None:
        """Decides what of that without checkpoint runs: what is asked for itself, and what a node takes that runs.

        The last node first: who runs demands what it takes.
        """
        for node in reversed(scope.nodes.values()):
            self._demand_of(node)
        for node in scope.nodes.values():
            if node.task.always and node.fore is not None and node.fore.kind == RUN and not node.task.is_fan:
                for name, source in node.task.takes.items():
                    held = (
                        scope.nodes.get(source.partition(":")[0])
                        if isinstance(source, str) and source[0] != "$"
                        else None
                    )
                    if (
                        held is not None
                        and held.fore is not None
                        and held.fore.why == NOT_NEEDED
                        and name not in node.task.optional
                    ):
                        node.fore = Verdict(SKIPPED, "it needs a value that is not made anew")

    def _demand_of(self, node: Node) -> None:
        task, scope, fore = node.task, node.scope, node.fore
        if fore is None:
            return
        if task.is_fan and node.entry is None:
            for kid in reversed(node.fan.kids) if node.fan is not None else ():
                self.demand(kid) if isinstance(kid, Scope) else self._demand_of(kid)
            if node.fan is not None and (task.body is None or task.each):
                return
            if node.fan is None and fore.kind == SKIPPED:
                return
        elif node.is_done():
            return
        elif not task.saved and not task.always and node not in self.needed and not self._is_asked_for(node):
            node.fore = Verdict(SKIPPED, NOT_NEEDED, token=fore.token, is_held=fore.is_held)
            return
        is_left = task.name not in self.journal.cleanups and task.name not in self.waited
        if task.always and is_left and not (scope.owner is not None and is_taken(node)):
            return
        self.waited.update(task.needs)
        for name in () if task.always else task.needs:
            self._need_all(scope.nodes[name])
        sources = [*task.takes.values(), *(one for one, _ in task.when), *(() if task.always else task.needs)]
        if node.entry is None:
            sources += task.each.values()
        entries = [*(node.entry or {}).values(), *(ref for _, ref in scope.entries())]
        for entry in entries:  # it depends on the item that it goes over, also where it does not take it
            if entry.__class__ is Ref:
                self._need(entry.kid)
        if task.body is not None:
            taken = {*task.sources()}  # without what no task of its body takes
            sources = [s for s in sources if isinstance(s, str) and (s[0] == "$" or s.partition(":")[0] in taken)]
        if task.body is None or node.fan is None:
            for source in sources:
                self._need_source(scope, source)

    def _need_source(self, scope: Scope, source: Any) -> None:
        if isinstance(source, Const):
            return
        if source[0] != "$":
            self._need(scope.nodes[source.partition(":")[0]])
            return
        how, what, more = scope.env[source[1:]]
        if how == "up":
            self._need_source(what, more)
        elif how == "entry" and what.__class__ is Ref:
            self._need(what.kid)

    def _need(self, node: Any) -> None:
        if isinstance(node, Scope):
            self._need(node.nodes[node.owner.task.result])  # type: ignore[union-attr]
            return
        self.needed.add(node)
        for kid in node.fan.kids if node.fan is not None else ():
            self._need(kid)

    def _need_all(self, owner: Node) -> None:
        """Demands all that is to complete of an added workflow: what others of it take, these demand."""
        for kid in owner.fan.kids if owner.fan is not None and owner.task.body is not None else ():
            for node in kid.nodes.values():
                if node.task.always or any(n.task.is_taker(node.task.name) for n in kid.nodes.values()):
                    continue
                self.needed.add(node)
                self._need_all(node)

    def _is_needed_whole(self, owner: Node) -> bool:
        """Whether a task outside needs all of an added workflow."""
        nodes = [node for node in owner.scope.nodes.values() if not self._is_left_out(node) and not node.task.always]
        if any(owner.task.name in node.task.needs for node in nodes):
            return True
        return owner.scope.owner is not None and self._is_needed_whole(owner.scope.owner)

    def _is_asked_for(self, node: Node) -> bool:
        """Whether it runs for its own sake: nobody takes it, or `rerun` names it."""
        task, scope = node.task, node.scope
        if scope.prefix + task.name in self.options.rerun:
            return True
        nodes = [node for node in scope.nodes.values() if not self._is_left_out(node)]
        takers = [node.task for node in nodes if node.task.is_taker(task.name)]
        if scope.owner is not None or self.options.left_out:
            takers = [one for one in takers if not one.always]
            if scope.owner is not None and task.name == scope.owner.task.result and self._is_taken(scope.owner):
                return scope.owner in self.needed
        return not takers and not (scope.owner is not None and self._is_needed_whole(scope.owner))

    def _is_taken(self, owner: Node) -> bool:
        """Whether somebody outside takes the value of an item or a round."""
        nodes = [node for node in owner.scope.nodes.values() if not self._is_left_out(node)]
        taken = any(node.task.is_taker(owner.task.name) and not node.task.always for node in nodes)
        inside = owner.scope.owner is not None and owner.task.name == owner.scope.owner.task.result
        return taken or (inside and self._is_taken(owner.scope.owner))  # type: ignore[arg-type]

    # Commit: the order of writes

    def commit(self) -> bool:
        """Makes the storage that of this run, before anything runs. Returns whether earlier runs count."""
        options, world, journal = self.options, self.world, self.journal
        if options.resume:
            self.plan()
        if not options.resume and not options.only:
            world.clear()
            self.journal = self.look.journal = Journal(world)
            self._anew()
            return False
        anew = {name.rpartition(".")[2] for name in options.rerun}
        for node in self.voids:  # an unsaved task has no document to void: the intent is in those of what takes it
            if node.fore and any(
                not node.scope.graph.by_name[one].saved and one in anew
                for one in node.task.value_sources()
                if one in node.scope.graph.by_name
            ):
                node.fore = node.fore._replace(is_intent=True)
        intents = [node for node in self.voids if node.fore and node.fore.is_intent]
        void = {node.key: node for node in self.voids if options.eager or (node.fore and node.fore.is_intent)}
        for node in intents if len(intents) > 1 and not options.eager else ():  # one delete needs no journal
            name = node.scope.prefix + node.task.name
            journal.floors[name if name in options.rerun else node.key] = options.run
        for name in options.rerun:
            if self._is_unknown(name):
                journal.floors[name] = options.run
        if options.resume == "changed":
            for task, prefix in _tasks(self.graph):
                if self._is_unknown(prefix + task.name):
                    journal.floors |= dict.fromkeys(self._of_other_code(prefix + task.name, task), options.run)
        if options.left_out or journal.left_out:
            journal.left_out = sorted(self._excused())
        journal.save()
        journal = self.journal
        for key in reversed(void):
            world.delete(key)
        return True

    def _excused(self) -> Set[str]:
        """The tasks that leave nothing unfinished, though they have no value that counts: a run left them out.

        They had one, which this run outdates, or none of the tasks had one.
        """
        saved = {_name_of(key, self.graph) for key in self.world.docs if key[0] != "@"}
        if not saved:
            return self.options.left_out
        places = {place.name: place for place in _places(self.graph)}
        runs = {leaf.scope.prefix + leaf.task.name for leaf in _leaves([self.root]) if _may_run(leaf)}
        outdated = set[str]()
        for name, place in places.items():
            if name in self.options.left_out and name in saved and not (runs | outdated).isdisjoint(_sources_of(place)):
                outdated.add(name)
        return self.options.left_out & {*self.journal.left_out, *outdated}

    def _is_unknown(self, name: str) -> bool:
        """Whether the items of a task are known only in the run, so that what is void of them is not known yet."""
        scope = self.root
        *outer, last = name.split(".")
        for one in outer:
            fan = scope.nodes[one].fan
            if fan is None or scope.nodes[one].task.repeat:
                return True
            if not fan.kids:
                return False
            scope = fan.kids[0]
        node = scope.nodes.get(last)
        return node is not None and node.task.is_fan and node.fan is None

    def _of_other_code(self, name: str, task: Task) -> list[str]:
        """The keys of the checkpoints of a task that other code has made."""
        docs = {key: doc for key, doc in self.world.docs.items() if key == name or key.startswith(f"{name}-")}
        return [key for key, doc in docs.items() if task.step and doc["code"].partition("/")[0] != task.step.code]

    def _is_unfinished(self) -> bool:
        """Whether a task of the last run lacks a checkpoint, or a cleanup of it did not complete."""
        if self.journal.cleanups:
            return True
        counts = [doc["of"] for key, doc in self.world.docs.items() if key[0] != "@"]
        missing = {name for node in self.root.nodes.values() for name in self._missing(node)}
        places = [place.name for place in _places(self.graph)]
        first = min(map(places.index, missing - {*self.journal.left_out}), default=len(places))
        return first < min(max(counts, default=0), len(places))

    def _missing(self, node: Node) -> Any:
        """Yields the names of its tasks that lack a checkpoint."""
        task, name = node.task, node.scope.prefix + node.task.name
        inside = [name] if task.body is None else [one.name for one in _places(task.body, f"{name}.")]
        if node.is_done() or task.always:
            return
        if task.repeat and node.fan is not None:
            if node.fore is None or not (node.fore.is_held or node.fore.value is not NOTHING):
                yield from inside
        elif task.is_fan and node.fan is None:
            if node.fore is not None and node.fore.why.startswith("its lists"):
                yield from inside
        else:
            for leaf in [node] if not task.is_fan else _leaves(node.fan.kids) if node.fan is not None else ():
                one = leaf.task
                if one.saved and not one.always and not leaf.is_done() and self.look.saved(leaf) is None:
                    full = leaf.scope.prefix + one.name
                    yield from [full] if one.body is None else [it.name for it in _places(one.body, f"{full}.")]

    # The run

    def execute(self) -> "Run":
        """Runs to the end, or until it is killed."""
        self.commit()
        self._begin_scope(self.root)
        self._loop()
        for node in self._cleanups():
            self._enter(node)
            self._loop()
        self._close()
        return self

    def _loop(self) -> None:
        while True:
            if self.ready and len(self.flight) < self.options.width:
                self._enter(self.ready.popleft())
            elif self.flight:
                self._finish(*self.flight.pop(self.options.pick(len(self.flight))))
            else:
                return

    def _begin_scope(self, scope: Scope) -> None:
        wiring = scope.graph.wiring[self.side_by_side]
        for node, unmet in zip(scope.nodes.values(), wiring.unmet, strict=True):
            node.unmet = unmet
            if not unmet:
                self._ready(node)

    def _ready(self, node: Node) -> None:
        if not self.stopping:
            self.ready.append(node)

    def _enter(self, node: Node) -> None:
        """Asks for the verdict on a node whose sources are over, and acts."""
        fore, task = node.fore, node.task
        if fore is not None and fore.kind == RESTORED and node.fan is None:  # all that it takes is restored, too
            self._end(node, RESTORED, fore.value, fore.token)
            return
        is_item = node.entry is not None
        got = gather_item(node, node.scope.nodes[task.name].fan.shared) if is_item else gather(task, node.scope)
        if task.is_fan and not is_item:
            self._open_fan(node, got)
            return
        verdict = judge(node, got, self.look, False)
        kind = verdict.kind
        if kind == RUN:
            self._attempt(node, task.step, verdict)
        elif kind == RESTORED:
            self._end(node, RESTORED, verdict.value, verdict.token)
        elif kind == CACHED:
            self._save(node, verdict, verdict.value, task.step, {})
            self._end(node, CACHED, verdict.value, verdict.token)
        elif kind == SKIPPED:
            if verdict.is_void:
                self.world.delete(node.key)
            self._end(node, SKIPPED, NOTHING, verdict.token, verdict.why)
        elif kind == OPEN:
            node.state, node.why = OPEN, verdict.why
        else:
            self._end(node, FAILED, NOTHING, "", verdict.why)

    def _attempt(self, node: Node, step: Any, verdict: Verdict, is_fallback: bool = False) -> None:
        """Makes one attempt. What an earlier run has saved at its place is gone before its effect begins."""
        if not is_fallback and node.key in self.world.docs and node.task.saved:
            self.world.delete(node.key)
        node.state, node.fore = RUNNING, verdict
        if node.task.files and not self.journal.is_open:
            self.journal.is_open = True
            self.journal.save()
        self.world.tick("effect", node.key)
        if self.world.effects is not None:
            self.world.effects[node.key] = digest([step.name, step.code, sorted(verdict.args.items())])
        try:
            outcome = step.fn(**verdict.args)
            if node.task.files:
                self.world.files[outcome] = digest([node.key, self.options.run])
        except Exception as error:
            outcome = error
        self.flight.append((node, outcome, is_fallback))

    def _finish(self, node: Node, outcome: Any, is_fallback: bool) -> None:
        task, verdict = node.task, node.fore
        if (
            task.outputs
            and not isinstance(outcome, Exception)
            and not (isinstance(outcome, list | tuple) and len(outcome) == len(task.outputs))
        ):
            outcome = ValueError("it does not fit its outputs")
        if isinstance(outcome, Exception):
            if task.fallback and not is_fallback:
                self._attempt(node, task.fallback, verdict, True)
            else:
                self._end(node, FAILED, NOTHING, "", repr(outcome))
            return
        step = task.fallback if is_fallback else task.step
        files = {outcome: self.world.files[outcome]} if task.files else {}
        self._save(node, verdict, outcome, step, files)
        token = f"{task.name}:{self.options.run}" if task.saved else verdict.token
        if task.cache and not is_fallback and not task.always and not task.files:
            self.world.post(self.look.cache_key(task, verdict.args), {"value": outcome})
        self._end(node, COMPLETED, outcome, token or f"{task.name}:{self.options.run}")

    def _save(self, node: Node, verdict: Verdict, value: Any, step: Any, files: dict[str, str]) -> None:
        """Saves a value with what it was made from, before anything that takes it may begin."""
        task = node.task
        if task.saved and not task.always:
            code = code_of(task, node.scope, step is task.fallback and step is not task.step)
            doc = {"step": step.name, "run": self.options.run, "tokens": verdict.tokens, "code": code, "value": value}
            doc["of"] = self.count
            self.world.post(node.key, {**doc, "files": files} if files else doc)

    def _end(self, node: Node, state: str, value: Any, token: str, why: str = "") -> None:
        node.state, node.value, node.token, node.why = state, value, token, why
        if not self.options.resume:
            node.fore = None  # with its arguments: nothing asks for them any more
        if state is FAILED and not (node.entry is not None and node.task.always):
            self._failed(node)
        self._over(node)

    def _failed(self, node: Node) -> None:
        going = node.task.keep_going
        owner = node.scope.owner
        while going is None and owner is not None:
            going, owner = owner.task.keep_going, owner.scope.owner
        if not (self.options.keep_going if going is None else going):
            self.stopping = True
            self.ready.clear()

    def _over(self, node: Node) -> None:
        """What follows from the end of a node: its scope's other nodes, the maps that go over it, its fan."""
        scope, task = node.scope, node.task
        if node.entry is not None:
            self._kid_over(scope.nodes[task.name], node)
            return
        self._release(scope, scope.graph.wiring[self.side_by_side].followers[task.name])
        if node.fan is None:  # skipped or failed without items: those that only wait for its list go on
            self._release(scope, scope.graph.wiring[self.side_by_side].openers[task.name])
        scope.left -= 1
        if not scope.left and scope.owner is not None:
            self._kid_over(scope.owner, scope)

    def _release(self, scope: Scope, followers: list[str]) -> None:
        for name in followers:
            node = scope.nodes[name]
            node.unmet -= 1
            if not node.unmet and node.state is WAITING:
                self._ready(node)

    # Child scopes

    def _whole(self, node: Node, got: Got) -> Verdict | None:
        """The verdict on a fan as a whole; None if it opens."""
        task, scope = node.task, node.scope
        if self.options.left_out and self._is_left_out(node):
            return Verdict(SKIPPED, NOT_ASKED)
        if got.lack:
            return Verdict(SKIPPED, got.lack)
        for source in task.each.values():
            kind, value, _ = scope.read(source) if isinstance(source, str) else (HAS, None, "")
            if kind is LACK and not (isinstance(source, str) and self._gives_items(scope, source, task)):
                return Verdict(SKIPPED, f"it needs {value}")
        if not task.always and (unmet := unmet_need(task, scope)):
            return Verdict(SKIPPED, unmet)
        for name in (task.result, task.until) if task.repeat else ():
            one = task.body.by_name.get(name) if task.body else None  # without these no round could be judged
            for parameter, source in one.takes.items() if one else ():
                outer = task.takes.get(source[1:]) if isinstance(source, str) and source[0] == "$" else None
                if outer is not None and parameter not in one.optional and scope.read(outer)[0] is LACK:  # type: ignore[union-attr]
                    return Verdict(SKIPPED, f"it needs {outer}")
        return Verdict(OPEN, got.open, may_lack=True) if got.open else None

    def _is_left_out(self, node: Node) -> bool:
        """Whether no task of it was asked for."""
        name = node.scope.prefix + node.task.name
        body = node.task.body
        return (
            {name} <= self.options.left_out
            if body is None
            else ({one.name for one in _places(body, f"{name}.")} <= self.options.left_out)
        )

    def _lacks(self, node: Node) -> bool:
        """Whether the result of an added workflow is skipped as a whole, since an outer value is not there."""
        task = node.task
        one = task.body.by_name[task.result] if task.body is not None else None
        for parameter, source in one.takes.items() if one is not None else ():
            outer = task.takes.get(source[1:]) if isinstance(source, str) and source[0] == "$" else None
            if outer is not None and parameter not in one.optional and node.scope.read(outer)[0] is LACK:  # type: ignore[union-attr]
                return True
        return False

    def _takes_made(self, node: Node) -> bool:
        """Whether its items would take, for its value, what is made in this run, as far as all of them share it."""
        body = node.task.body
        shared = node.fan.shared
        if shared.made or shared.unsure or body is None:
            return bool(shared.made or shared.unsure)
        one = body.by_name[node.task.result]
        sources = (*one.takes.values(), *one.each.values())
        outer = [source[1:] for source in sources if isinstance(source, str) and source[0] == "$"]
        taken = [node.task.takes[name] for name in outer if name in node.task.takes]
        return any(node.scope.read(source)[0] in (MADE, MAYBE, UNSURE) for source in taken)

    def _gives_items(self, scope: Scope, source: str, task: Task) -> bool:
        """Whether it goes over a map item by item; not over one that was skipped as a whole, so that none has begun."""
        other = scope.nodes.get(source.partition(":")[0])
        return (
            not task.cross
            and other is not None
            and other.fan is not None
            and bool(other.task.each)
            and (other.state is not SKIPPED)
        )

    def _kids(self, node: Node, got: Got) -> "list[Any] | str":
        """The children of a fan, one for each entry; or why they are not known yet."""
        task, scope = node.task, node.scope
        if task.repeat:
            return []
        columns: list[list[tuple[str, Any]]] = []  # of key and entry
        for source in task.each.values():
            if isinstance(source, str) and self._gives_items(scope, source, task):
                name, _, part = source.partition(":")
                columns.append([(_own_key(kid), Ref(kid, part)) for kid in scope.nodes[name].fan.kids])
                continue
            kind, value, _ = (HAS, source.value, "") if isinstance(source, Const) else scope.read(source)
            if kind is not HAS:
                return f"its items come from {source}"
            if not isinstance(value, list | tuple):
                return "its lists are none"
            columns.append([(graph.item_key(entry), entry) for entry in value])
        if not task.cross and len({len(column) for column in columns}) > 1:
            return "its lists are unequal"
        seen: Counter[str] = Counter()
        kids: list[Any] = []
        for index, row in enumerate(itertools.product(*columns) if task.cross else zip(*columns, strict=True)):
            key = row[0][0] if len(row) == 1 else graph.row_key([one for one, _ in row])
            seen[key] += 1
            if seen[key] > 1:
                key = f"{key}-{seen[key]}"
            kids.append(self._kid(node, index, key, {n: entry for n, (_, entry) in zip(task.each, row, strict=True)}))
        return kids

    def _kid(self, node: Node, index: int, key: str, entry: dict[str, Any]) -> Any:
        task, outer = node.task, node.scope
        path = f"{outer.path}-{key}" if outer.path else key
        if task.body is None:
            return Node(task, outer, f"{outer.prefix}{task.name}-{path}", index, entry)
        scope = self._child(node, path, index)
        scope.key = key
        for name, one in entry.items():
            scope.env[name] = "entry", one, ""
        return scope

    def _child(self, node: Node, path: str, index: int) -> Scope:
        task, outer = node.task, node.scope
        scope = Scope(task.body, f"{outer.prefix}{task.name}.", path, index, node)  # type: ignore[arg-type]
        for name, value in task.body.params.items():  # type: ignore[union-attr]
            scope.env[name] = ("up", outer, f"${name}") if name in outer.env else ("value", value, f"={digest(value)}")
        for name, source in task.takes.items():
            scope.env[name] = "up", outer, source
        got = Got()
        for source, wanted in task.when:
            got.ask(source, wanted, outer.read(source))
        tokens, made = outer.tokens
        scope.tokens = {**tokens, **got.tokens}, made or got.made
        return scope

    def _round(self, node: Node, number: int) -> Scope:
        """The scope of a round; it carries values of the round before."""
        task, fan, outer = node.task, node.fan, node.scope
        if number < len(fan.kids):
            return fan.kids[number]
        scope = self._child(node, f"{outer.path}-r{number}" if outer.path else f"r{number}", number)
        if number:
            before = fan.kids[number - 1]
            scope.made = fan.made.difference(task.carry)
            scope.tokens = scope.tokens[0], scope.tokens[1] or (bool(task.when) and fan.shared.made)
            for name, source in task.carry.items():
                scope.env[name] = "up", before, source
            if task.until:
                tokens, made = scope.tokens
                kind, _, token = before.nodes[task.until].cell()
                scope.tokens = {**tokens, "until": token}, made or kind not in (HAS,)
        fan.kids.append(scope)
        return scope

    def _open_fan(self, node: Node, got: Got) -> None:
        """Opens child scopes. Those that were not foreseen, since their list is new, are judged together now."""
        task, scope, fore = node.task, node.scope, node.fore
        whole = self._whole(node, got)
        if whole is not None and not (fore and fore.kind == RESTORED):
            self._end(node, SKIPPED, NOTHING, "", whole.why)
            return
        if node.fan is None or (task.each and not node.fan.kids):
            kids = self._kids(node, got)
            if isinstance(kids, str):
                self._end(node, FAILED, NOTHING, "", kids)
                return
            node.fan = Fan(kids, got, 1)
            if self.options.resume and not task.repeat:
                self.voids.clear()
                for kid in kids:
                    self._foresee_kid(kid, got)
                self._demand_of(node)
                if self.options.eager:
                    for place in reversed(self.voids):
                        self.world.delete(place.key)
        fan = node.fan
        fan.shared, fan.limit, fan.is_open = got, task.limit if self.side_by_side else 1, True
        node.state = RUNNING
        if task.repeat:
            self._next_round(node)
            return
        wiring = scope.graph.wiring[self.side_by_side]
        for kid in fan.kids:
            single = wiring.by_item_of(task) if self.side_by_side else ()
            unmet = sum(_waits(scope, name, kid.index) for name in single)
            if isinstance(kid, Node):
                kid.unmet = unmet
            else:
                kid.left = len(kid.nodes) + 1000 * unmet  # not begun: its end counts only once it has
            if not unmet:
                fan.pending.append(kid.index)
        self._release(scope, wiring.openers[task.name])
        self._admit(node)

    def _admit(self, node: Node) -> None:
        """Begins items while there is room, the lowest index first; ends the fan when all are over."""
        fan = node.fan
        while fan.pending and fan.inside < fan.limit and not self.stopping:
            kid = fan.kids[fan.pending.popleft()]
            fan.inside += 1
            if isinstance(kid, Node):
                self._ready(kid)
            else:
                self._begin_scope(kid)
        if not fan.inside and node.state is RUNNING and all(kid.state in OVER for kid in fan.kids):
            self._end_fan(node)

    def _kid_over(self, node: Node, kid: Any) -> None:
        fan, scope = node.fan, node.scope
        fan.inside -= 1
        if node.task.repeat:
            self._next_round(node)
            return
        if self.side_by_side:
            for name in scope.graph.wiring[True].by_item[node.task.name]:
                following = scope.nodes[name]
                if following.fan is not None and following.fan.is_open:
                    self._item_met(following, kid.index)
        if len(fan.kids) < 64 or not fan.pending:
            self._admit(node)
        else:
            nxt = fan.kids[fan.pending.popleft()]
            fan.inside += 1
            self._ready(nxt) if isinstance(nxt, Node) else self._begin_scope(nxt)

    def _item_met(self, node: Node, index: int) -> None:
        kid = node.fan.kids[index]
        if isinstance(kid, Node):
            kid.unmet -= 1
            is_free = not kid.unmet
        else:
            kid.left -= 1000
            is_free = kid.left < 1000
        if is_free and kid.state is WAITING:
            node.fan.pending.append(index)
            self._admit(node)

    def _next_round(self, node: Node) -> None:
        """Begins the next round, if the last one is over and it was not enough; or ends the node."""
        fan, task = node.fan, node.task
        if fan.round >= 0:
            last = fan.kids[fan.round]
            if last.left or node.state is not RUNNING:
                return
            if last.state is FAILED:
                fan.failure = f"after {fan.round} of {task.repeat} rounds: it failed"
            elif task.until:
                kind, value, _ = last.nodes[task.until].cell()
                if kind is not HAS:
                    fan.failure = "until was skipped"
                elif not value and fan.round + 1 >= task.repeat:
                    fan.failure = "it was not enough"
            if fan.failure or fan.round + 1 >= task.repeat or (task.until and last.nodes[task.until].value):
                del fan.kids[fan.round + 1 :]
                self._end_fan(node)
                return
            if self.stopping:
                return
        fan.round += 1
        fan.inside = 1
        is_new = fan.round >= len(fan.kids)
        scope = self._round(node, fan.round)
        if (
            not is_new
            and fan.round
            and any(leaf.fore and leaf.fore.kind == RUN for leaf in _leaves([fan.kids[fan.round - 1]]))
        ):
            fan.kids[fan.round :] = []  # what it was judged by was made anew since
            scope, is_new = self._round(node, fan.round), True
        if is_new and self.options.resume:
            self.voids.clear()
            self.foresee(scope)
            self.demand(scope)
        self._begin_scope(scope)

    def _end_fan(self, node: Node) -> None:
        value, token, failure = self._ended(node)
        if node.task.repeat:
            last = node.fan.kids[-1]
            kind, value, token = last.cell()
            if node.fan.failure or kind is not HAS:
                state = FAILED if node.fan.failure else SKIPPED
                held = f"r{last.index}:{token}" if kind is HELD and not node.fan.failure else ""
                self._end(node, state, NOTHING, held, node.fan.failure)
                return
            self._end(node, COMPLETED, value, f"r{last.index}:{token}")
            return
        if failure:
            node.state = FAILED
            self._failed(node)
            self._end_with(node, *((NOTHING, "") if self._lacks(node) else (value, token)))
            return
        states = {kid.state for kid in _leaves(node.fan.kids)}
        if self._lacks(node):
            self._end(node, SKIPPED, NOTHING, "", "its result is skipped")
            return
        state = RESTORED if states <= {RESTORED, SKIPPED} and RESTORED in states else COMPLETED
        self._end(node, state, value, token)

    def _end_with(self, node: Node, value: Any, token: str) -> None:
        node.value, node.token = value, token  # the values that came, though it failed
        self._over(node)

    def _ended(self, node: Node) -> tuple[list[Any], str, bool]:
        """The value of a fan: those that came, in order; and its token, by the keys and tokens of its items."""
        values, tokens = [], []
        if node.task.repeat:
            return [], "", False
        for kid in node.fan.kids:
            kind, value, token = kid.cell()
            if kind is HAS:
                values.append(value)
            if kind in (HAS, HELD):
                tokens.append(f"{_own_key(kid)}:{token}")
        return values, f"{node.task.name}:{digest(tokens)}", any(kid.state is FAILED for kid in node.fan.kids)

    # The end

    def _cleanups(self) -> Any:
        """The cleanups that a stop has kept from running: of items that have begun, then those of the run."""
        self.stopping_before, self.stopping = self.stopping, False
        if not self.stopping_before:
            return
        self.stopping = False
        for node in [
            node for node in every_node(self.root) if node.task.always and node.state is WAITING and node.entry is None
        ]:
            if node.scope.owner is None or any(map(_begun, node.scope.nodes.values())):
                yield node

    def _close(self) -> None:
        """Notes what a later run could not know: cleanups that are left, and that no attempt works on files."""
        journal = self.journal
        nodes = self.root.nodes.values()
        journal.cleanups = [n.task.name for n in nodes if n.task.always and n.state not in (COMPLETED, SKIPPED)]
        journal.is_open = False
        for name in list(journal.floors):
            if all(
                node.state in OVER
                for node in every_node(self.root)
                if name in (node.scope.prefix + node.task.name, node.key)
            ):
                del journal.floors[name]
        journal.save()
        states = {node.state for node in every_node(self.root)}
        self.state = FAILED if FAILED in states else OPEN if OPEN in states else COMPLETED


class _Place:
    """A checkpoint that is known by its key only."""

    fore = None

    def __init__(self, key: str) -> None:
        self.key = key


def _own_key(kid: Any) -> str:
    """The part of an item's key that shows its entry."""
    if isinstance(kid, Scope):
        return kid.key
    start = len(kid.scope.prefix) + len(kid.task.name) + 1 + (len(kid.scope.path) + 1 if kid.scope.path else 0)
    return str(kid.key[start:])


def _waits(scope: Scope, name: str, index: int) -> bool:
    fan = scope.nodes[name].fan
    return fan is not None and index < len(fan.kids) and fan.kids[index].state not in OVER


def _may_run(node: Node) -> bool:
    return node.fore is not None and node.fore.kind in (RUN, OPEN)


def _name_of(key: str, graph: Graph) -> str:
    """The dotted name of the task that a key is of."""
    name = key.partition("-")[0]
    return name if any(place.name == name for place in _places(graph)) else ""


def _is_skipped(kid: Any) -> bool:
    return all(node.fore is not None and node.fore.kind == SKIPPED for node in _leaves([kid]))


def _is_there(kid: Any) -> bool:
    return all(
        n.fore is not None and n.fore.kind in (CACHED, RESTORED, SKIPPED) for n in _leaves([kid]) if not n.task.always
    )


def _begun(node: Node) -> bool:
    return node.state is not WAITING


def _leaves(kids: Collection[Any]) -> Any:
    """All nodes with steps below."""
    for kid in kids:
        if isinstance(kid, Scope):
            for node in kid.nodes.values():
                if node.fan is None:
                    yield node
                else:
                    yield from _leaves(node.fan.kids)
        else:
            yield kid


def every_node(scope: Scope) -> Any:
    for node in scope.nodes.values():
        yield node
        for kid in node.fan.kids if node.fan is not None else ():
            if isinstance(kid, Scope):
                yield from every_node(kid)
            else:
                yield kid


def _tasks(graph: Graph, prefix: str = "") -> Any:
    for task in graph.tasks:
        if task.body is None:
            yield task, prefix
        else:
            yield from _tasks(task.body, f"{prefix}{task.name}.")


def _fresh(root: Scope) -> Scope:
    scope = Scope(root.graph, "", "")
    scope.env = root.env
    return scope


class Place(NamedTuple):
    """A task with a step, by its dotted name, and the added workflows that it is in, the outermost first."""

    name: str
    task: Task
    graph: Graph
    owners: "tuple[Place, ...]"


def _places(graph: Graph, prefix: str = "", owners: tuple[Place, ...] = ()) -> Any:
    for task in graph.tasks:
        place = Place(prefix + task.name, task, graph, owners)
        if task.body is None:
            yield place
        else:
            yield from _places(task.body, f"{prefix}{task.name}.", (*owners, place))


def _below(place: Place, name: str) -> list[str]:
    """All tasks with steps that a name means, at the place of another one."""
    whole = place.name.rpartition(".")[0]
    whole = f"{whole}.{name}" if whole else name
    task = place.graph.by_name[name]
    return [whole] if task.body is None else [one.name for one in _places(task.body, f"{whole}.")]


def _given(place: Place, source: Any) -> list[str]:
    """The tasks whose values a source gives at a place."""
    if isinstance(source, Const):
        return []
    if source[0] != "$":
        name = source.partition(":")[0]
        task, end = place.graph.by_name[name], name
        while task.body is not None:
            task = task.body.by_name[task.result]
            end += f".{task.name}"
        whole = place.name.rpartition(".")[0]
        return [f"{whole}.{end}" if whole else end]
    if not place.owners:
        return []
    owner = place.owners[-1]
    outer = owner.task.takes.get(source[1:], owner.task.each.get(source[1:]))
    return [] if outer is None else _given(owner, outer)


def _sources_of(place: Place) -> list[str]:
    """The tasks whose values it depends on, those of the added workflows that it is in included."""
    found = []
    for one in (place, *place.owners):
        task = one.task
        takes = task.takes.values() if task.body is None else ()
        for source in (*takes, *task.each.values(), *(source for source, _ in task.when)):
            found += _given(one, source)
    return found


def _left_out(graph: Graph, only: Collection[str]) -> set[str]:
    """The tasks that a run of `only` some leaves out: it has these, what they need, and the cleanups of what it has."""
    places = {place.name: place for place in _places(graph)}
    asked, left = set[str](), [one for name in only for one in places if one == name or one.startswith(f"{name}.")]
    while left:
        name = left.pop()
        if name not in asked:
            asked.add(name)
            place = places[name]
            left += _sources_of(place)
            for one in (place, *place.owners):
                needs = () if one.task.always else one.task.needs  # a cleanup only waits for them
                left += [needed for need in needs for needed in _below(one, need)]
                if one.task.repeat:
                    left += [inner.name for inner in _places(one.task.body, f"{one.name}.")]  # type: ignore[arg-type]
    order = list(places)
    for name, place in places.items():
        if place.task.always:
            before = order[: order.index(name)]
            if place.owners:
                before = [one for one in before if one.startswith(f"{place.owners[-1].name}.")]
            waits = (*place.task.needs, *place.task.after)
            needed = [one for need in waits for one in _below(place, need)]
            if not asked.isdisjoint([*_sources_of(place), *needed] if waits else before):
                asked.add(name)
    return places.keys() - asked


def start(world: World, graph: Graph, params: Mapping[str, Any] | None = None, **options: Any) -> Run:
    """Runs a graph. A run that is killed raises Killed."""
    return Run(world, graph, Options(**options), params).execute()


def plan(world: World, graph: Graph, params: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Verdict]:
    """What a run would do."""
    run = Run(world, graph, Options(**options), params)
    world.runs -= 1
    return run.plan()


__all__ = ["Killed", "Mismatch", "Options", "Run", "plan", "start"]
