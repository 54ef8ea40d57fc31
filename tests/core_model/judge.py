"""The one judge: what becomes of a node, by what it takes and by what earlier runs have left. It writes nothing.

The run asks it when a node may begin. A resume and a plan ask it before, in the order of `add`: then a value that the
run makes anew is MADE, and one that it may make is MAYBE.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.core_model.graph import Const, Graph, Source, Task, digest
from tests.core_model.store import Journal, World

if TYPE_CHECKING:
    from .run import Options

NOTHING: Any = type("NOTHING", (), {"__repr__": lambda self: "NOTHING"})()

# The state of a node: one word.
WAITING, RUNNING, OPEN, COMPLETED, FAILED = "waiting", "running", "open", "completed", "failed"
SKIPPED, RESTORED, CACHED = "skipped", "restored", "cached"
OVER = frozenset((COMPLETED, FAILED, SKIPPED, RESTORED, CACHED))
# Verdicts have the words RESTORED, CACHED, SKIPPED, OPEN and these.
RUN, REFUSED = "run", "refused"

# What a source has: a value and its token; no value; a token only; made in this run; made in this run or not at all.
# UNSURE: ahead, whether it is made anew is not known, since a list is not; its token decides at its turn.
HAS, LACK, HELD, MADE, MAYBE, UNSURE = "has", "lack", "held", "made", "maybe", "unsure"

NOT_NEEDED, NOT_ASKED = "no task that runs needs it", "it was not asked for"


class Verdict(NamedTuple):
    """What becomes of a node, and why."""

    kind: str
    why: str = ""
    value: Any = NOTHING
    token: str = ""
    args: Any = None
    tokens: Any = None
    may_lack: bool = False  # OPEN: whether it may end without a value
    is_held: bool = False  # of a value without checkpoint: its token is known before it is made
    is_void: bool = False  # it has a checkpoint that does not count, whatever else happens
    is_intent: bool = False  # which only the options of this run say
    is_unsure: bool = False
    items: int | None = None
    done: int = 0


class Node:
    """One task at one place: in the run, for an item, in a round, or at a call. Its key tells it apart for good."""

    __slots__ = ("entry", "fan", "fore", "index", "key", "scope", "state", "task", "token", "unmet", "value", "why")

    def __init__(self, task: Task, scope: "Scope", key: str, index: int, entry: Any = None) -> None:
        self.task, self.scope, self.key, self.index, self.entry = task, scope, key, index, entry
        self.state, self.why, self.token, self.value, self.unmet = WAITING, "", "", NOTHING, 0
        self.fan: Any = None
        self.fore: Verdict | None = None

    def cell(self, part: str = "") -> tuple[str, Any, str]:
        """What it gives: the kind, the value and the token."""
        if self.state in OVER:
            if self.value is not NOTHING:
                return HAS, self.part(self.value, part), self.token
            return (HELD, None, self.token) if self.token else (LACK, f"'{self.task.name}' {self.state}", self.state)
        fore = self.fore
        if fore is None or fore.is_held:
            return (MADE, None, "") if fore is None else (HELD, None, fore.token)
        if fore.value is not NOTHING:
            return HAS, self.part(fore.value, part), fore.token
        if fore.kind == SKIPPED:
            return LACK, f"'{self.task.name}' skipped", ""
        return (MAYBE if fore.may_lack else UNSURE if fore.is_unsure else MADE), None, ""

    def part(self, value: Any, part: str) -> Any:
        if not part:
            return value
        index = self.task.outputs.index(part)
        return [one[index] for one in value] if self.task.each and self.fan is not None else value[index]

    def is_done(self) -> bool:
        """Whether nothing of it runs, as far as a resume knows before."""
        if self.state in (RESTORED, SKIPPED) or (self.fore is not None and self.fore.kind in (RESTORED, SKIPPED)):
            return True
        return self.task.each != {} and self.fan is not None and all(kid.is_done() for kid in self.fan.kids)


class Scope:
    """One instance of a graph: the run itself, an item of an added workflow, or a round."""

    __slots__ = ("env", "graph", "index", "key", "left", "made", "nodes", "owner", "path", "prefix", "tokens")

    def __init__(self, graph: Graph, prefix: str, path: str, index: int = 0, owner: Node | None = None) -> None:
        self.graph, self.prefix, self.path, self.index, self.owner = graph, prefix, path, index, owner
        self.env: dict[str, tuple[str, Any, Any]] = {}  # how its parameters are filled
        self.tokens: tuple[dict[str, str], bool] = {}, False  # of the conditions of its owner; whether one is MADE
        self.made: frozenset[str] = frozenset()  # of a later round: the parameters whose values this run has made
        self.left = len(graph.tasks)
        self.key = ""
        end = f"-{path}" if path else ""
        self.nodes = {
            task.name: Node(task, self, f"{prefix}{task.name}{end}", at) for at, task in enumerate(graph.tasks)
        }

    def is_made(self, source: Source) -> bool:
        """Whether a later round takes what this run has made: all rounds are judged by that, also if it is equal."""
        if isinstance(source, Const) or source[0] != "$":
            return False
        how, what, more = self.env[source[1:]]
        return source[1:] in self.made or (how == "up" and what.is_made(more))

    def entries(self) -> "Iterator[tuple[str, Ref]]":
        """The items of other maps that it goes over, and the scopes around it; each with a name of its own."""
        for name, (how, ref, _) in self.env.items():
            if how == "entry" and ref.__class__ is Ref:
                yield f"{self.prefix}{name}", ref
        if self.owner is not None:
            yield from self.owner.scope.entries()

    def read(self, source: Source) -> tuple[str, Any, str]:
        """What a source has: `Node.cell`."""
        if source.__class__ is Const:
            return HAS, source.value, f"={digest(source.value)}"  # type: ignore[union-attr]
        if source[0] == "$":  # type: ignore[index]
            how, what, more = self.env[source[1:]]  # type: ignore[index]
            if how == "entry":
                return what.kid.cell(what.part) if what.__class__ is Ref else (HAS, what, "item")
            return what.read(more) if how == "up" else (HAS, what, more)
        name, _, part = source.partition(":")  # type: ignore[union-attr]
        return self.nodes[name].cell(part)

    def cell(self, part: str = "") -> tuple[str, Any, str]:
        """What an item of an added workflow gives: the value of its result."""
        assert self.owner is not None
        return self.nodes[self.owner.task.result].cell(part)

    def codes(self, source: Source) -> str:
        """The code behind a value without checkpoint: part of the code of what takes it."""
        if isinstance(source, Const):
            return ""
        if source[0] == "$":
            how, what, more = self.env[source[1:]]
            return str(what.codes(more)) if how == "up" else ""
        return codes_of(self.graph.by_name[source.partition(":")[0]], self)

    @property
    def state(self) -> str:
        """COMPLETED, or FAILED if one of its tasks but a cleanup has failed; WAITING before it is over."""
        if self.left:
            return WAITING
        return FAILED if any(n.state == FAILED and not n.task.always for n in self.nodes.values()) else COMPLETED

    def is_done(self) -> bool:
        return all(node.is_done() or node.task.always for node in self.nodes.values())


class Inside:
    """The definition of an added workflow, which has the code of its tasks without an item or a round of it."""

    def __init__(self, task: Task, outer: "Scope | Inside") -> None:
        assert task.body is not None
        self.task, self.outer, self.graph = task, outer, task.body

    def codes(self, source: Source) -> str:
        """As `Scope.codes`."""
        if isinstance(source, Const):
            return ""
        if source[0] == "$":
            return self.outer.codes(self.task.takes[source[1:]]) if source[1:] in self.task.takes else ""
        return codes_of(self.graph.by_name[source.partition(":")[0]], self)


class Ref(NamedTuple):
    """An entry that is an item of another map, and the part of its value that is taken."""

    kid: Any
    part: str


class Got:
    """What a node takes, as far as it is known."""

    __slots__ = ("args", "held", "lack", "made", "open", "tokens", "unsure")

    def __init__(self) -> None:
        self.args: dict[str, Any] = {}
        self.tokens: dict[str, str] = {}
        self.lack = ""  # why it is skipped for certain
        self.made = False  # a value that it depends on is made in this run
        self.held = False  # one of them is not there, but its token is
        self.unsure = False  # whether one of them is made in this run is not known ahead
        self.open = ""  # why it may be skipped

    def copy(self) -> "Got":
        other = Got()
        other.args, other.tokens = dict(self.args), dict(self.tokens)
        other.lack, other.made, other.held, other.open = self.lack, self.made, self.held, self.open
        other.unsure = self.unsure
        return other

    def take(self, name: str, cell: tuple[str, Any, str], required: bool) -> None:
        """Adds an argument."""
        kind, value, token = cell
        if kind is HAS:
            self.args[name] = value
            self.tokens[name] = token
        elif kind is HELD:
            self.held = True
            self.tokens[name] = token
        elif kind is LACK:
            self.tokens[name] = ""
            self.made = self.made or token is FAILED  # it ran in this run: what was made without it does not count
            if required:
                self.lack = self.lack or f"it needs {value}"
        elif kind is UNSURE:
            self.unsure = True
        else:
            self.made = True
            if kind is MAYBE and required:
                self.open = self.open or f"if {name} is made"

    def ask(self, source: str, wanted: bool, cell: tuple[str, Any, str]) -> None:
        """Adds a condition."""
        kind, value, token = cell
        if kind is HAS:
            self.tokens[f"when {source}"] = token
            if bool(value) is not wanted:
                self.lack = self.lack or f"{source} was {value!r}"
        elif kind is LACK:
            self.lack = self.lack or f"it depends on {value}"
        else:
            self.held, self.made = self.held or kind is HELD, self.made or kind not in (HELD, UNSURE)
            self.unsure = self.unsure or kind is UNSURE
            self.open = self.open or f"when {source}"
            if kind is HELD:
                self.tokens[f"when {source}"] = token


def gather(task: Task, scope: Scope) -> Got:
    """What a task takes, or all items of it share."""
    got = Got()
    if task.when:
        for source, wanted in task.when:
            if not (task.each and scope.graph.in_step(task, source)):
                got.ask(source, wanted, scope.read(source))
    if task.body is None:
        for name, source in task.takes.items():
            got.take(name, scope.read(source), name not in task.optional)
            got.made = got.made or scope.is_made(source)
    for name, ref in scope.entries():  # all tasks of an item depend on the item that it goes over
        whole = Got()
        whole.take(f"item of {name}", ref.kid.cell(ref.part), True)
        got.tokens.update(whole.tokens)
        got.made, got.held, got.lack = got.made or whole.made, got.held or whole.held, got.lack or whole.lack
        got.open = got.open or whole.open
    tokens, made = scope.tokens
    if tokens or made:
        got.tokens.update(tokens)
        got.made = got.made or made
    return got


def gather_item(node: Node, shared: Got) -> Got:
    """What an item of a mapped step takes."""
    task, scope, got = node.task, node.scope, shared.copy()
    for name, entry in node.entry.items():
        if entry.__class__ is Ref:
            got.take(name, entry.kid.cell(entry.part), True)
        else:
            got.args[name] = entry
    for source, wanted in task.when:
        if scope.graph.in_step(task, source):
            name, _, part = source.partition(":")
            fan = scope.nodes[name].fan
            got.ask(source, wanted, fan.kids[node.index].cell(part) if fan else scope.nodes[name].cell())
    return got


def code_of(task: Task, scope: Scope | Inside, by_fallback: bool = False) -> str:
    """The code that makes the value of a task, that of unsaved values that it takes included."""
    assert task.step is not None
    codes = [task.step.code, *([task.fallback.code] if by_fallback and task.fallback else [])]
    # The entries of other lists are known by their values.
    names = [one for one in task.each.values() if isinstance(one, str) and scope.graph.in_step(task, one)]
    codes += [code for source in (*task.takes.values(), *names) if (code := scope.codes(source))]
    return "/".join(codes)


def codes_of(task: Task, scope: Scope | Inside) -> str:
    """The code of a value without checkpoint; "" for a value that is saved."""
    if task.body is not None:
        inside = Inside(task, scope)
        return inside.codes(task.result)
    return "" if task.saved else code_of(task, scope)


class Look:
    """What earlier runs have left. It reads each place once, by its key; and cached values by another key."""

    def __init__(self, world: World, journal: Journal, options: "Options") -> None:
        self._docs, self.journal, self.options = world.docs, journal, options
        self._files = world.files
        self._seen: dict[str, Any] = {}
        self._states: dict[str, str | None] = {}
        self.mismatches: list[str] = []
        self.will_make: set[str] = set()  # keys of cached values that tasks before make, while it only looks ahead

    def saved(self, node: Node) -> Any:
        """The checkpoint at a place; None for none, or one of a run that does not count any more."""
        if not self.options.resume:
            return None
        doc = self._seen.get(node.key, NOTHING)
        if doc is NOTHING:
            doc = self._docs.get(node.key)
            if doc is not None and not self.journal.counts(node.scope.prefix + node.task.name, node.key, doc["run"]):
                doc = None
            self._seen[node.key] = doc
        return doc

    def why_void(self, node: Node, doc: Any, got: Got) -> tuple[str, bool]:
        """Why a checkpoint does not count; and whether only an option of this run says so. In the order of messages."""
        task, options = node.task, self.options
        assert task.step is not None
        by_fallback = doc["step"] != task.step.name
        if by_fallback and not (task.fallback and doc["step"] == task.fallback.name):
            self.mismatches.append(node.key)
        if task.outputs and not (isinstance(doc["value"], list | tuple) and len(doc["value"]) == len(task.outputs)):
            return "it does not fit its outputs", False
        if got.made or (got.unsure and options.strict):
            return "it takes a value that is made anew", False
        was, now = doc["tokens"], got.tokens
        if was != now:
            for label in {**was, **now}:
                if was.get(label) != now.get(label) and not (
                    label[:5] == "when " and not (label in was and label in now)
                ):
                    return f"it was made from another value of '{label}'", False
        for path, state in doc.get("files", {}).items():
            if self.state_of(path) != state:
                return f"{path} is another file", True
        if node.scope.prefix + task.name in options.rerun:
            return "rerun names it", True
        if options.resume == "changed" and doc["code"] != code_of(task, node.scope, by_fallback):
            return "its code has changed", True
        return "", False

    def state_of(self, path: str) -> str | None:
        """The state of a file, as it was at the first look: what this run makes of it later does not count."""
        if path not in self._states:
            self._states[path] = self._files.get(path)
        return self._states[path]

    def cache_key(self, task: Task, args: dict[str, Any]) -> str:
        assert task.step is not None
        return f"@cache/{task.step.name}/{digest([task.step.code, sorted(args.items())])}"

    def cached(self, key: str) -> Any:
        return self._docs.get(key)


def unmet_need(task: Task, scope: Scope) -> str:
    """Which task of `needs` has not completed; "" if all have, or may."""
    for name in task.needs:
        node = scope.nodes[name]
        if node.state == FAILED or (node.state == SKIPPED and node.why != NOT_NEEDED and not node.token):
            return f"it needs '{name}', which {node.state}"
        if node.state not in OVER and node.fore and node.fore.kind == SKIPPED and node.fore.why != NOT_NEEDED:
            return f"it needs '{name}', which was skipped"
    return ""


def judge(node: Node, got: Got, look: Look, is_ahead: bool) -> Verdict:
    """The verdict on one node that has a step. `is_ahead`: before the run, when not all that it takes is known.

    The order of the rules is the contract: see the table in core-2.md.
    """
    task, scope = node.task, node.scope
    if look.options.left_out and scope.prefix + task.name in look.options.left_out:
        return Verdict(SKIPPED, NOT_ASKED)
    doc = look.saved(node) if task.saved and not task.always else None
    if doc is not None and not is_ahead and node.fore is not None and node.fore.is_void:
        doc = None  # what was decided ahead is final in this run, so that its plan was true
    if got.lack:
        return Verdict(SKIPPED, got.lack, is_void=doc is not None)
    void, is_intent = "", False
    lacking = [name for name in task.takes if name not in got.args and name not in task.optional]
    if got.held and lacking and doc is None and not is_ahead:
        held = "" if task.saved or node.fore is None else node.fore.token
        return Verdict(SKIPPED, "it needs a value that is not made anew", token=held)
    if doc is not None and got.unsure and not got.made and not look.options.strict:
        void, is_intent = look.why_void(node, {**doc, "tokens": got.tokens}, got)
        if not void:
            return Verdict(OPEN, "what it takes is known only in the run", may_lack=bool(got.open), is_unsure=True)
    elif doc is not None:
        void, is_intent = look.why_void(node, doc, got)
        if not void:
            return Verdict(RESTORED, "", doc["value"], f"{task.name}:{doc['run']}")
    flags = {"is_void": bool(void), "is_intent": is_intent}
    if task.needs and not task.always and (unmet := unmet_need(task, scope)):
        return Verdict(SKIPPED, unmet, **flags)
    if task.always and scope.owner is not None and not is_taken(node) and not _has_run_before(node, is_ahead):
        return Verdict(SKIPPED, NOT_NEEDED)
    held = ""
    is_named = scope.prefix + task.name in look.options.rerun
    if not task.saved and not got.made and not got.unsure and not (is_ahead and is_named):
        held = f"={digest(sorted(got.tokens.items()))}"
    if not task.saved and not is_ahead and node.fore and node.fore.why == NOT_NEEDED:
        return Verdict(SKIPPED, NOT_NEEDED, token=node.fore.token)
    if is_ahead and not got.open and not task.always:
        got.open = next((f"if {name} runs" for name in task.needs if _may_lack(scope.nodes[name])), "")
    may_lack = bool(got.open) and is_ahead
    if task.cache and not task.always and look.options.cache and not is_named:
        if is_ahead and (got.made or got.held or got.unsure):
            look.will_make.add(task.step.name)  # type: ignore[union-attr]
            return Verdict(OPEN, "its arguments are not known", may_lack=may_lack, **flags)
        key = look.cache_key(task, got.args)
        hit = look.cached(key)
        if hit is not None and not may_lack:
            return Verdict(CACHED, "", hit["value"], f"{task.name}:{look.options.run}", got.args, got.tokens, **flags)
        if is_ahead:
            if key in look.will_make or task.step.name in look.will_make:  # type: ignore[union-attr]
                return Verdict(OPEN, "its value may be made before", may_lack=may_lack, **flags)
            look.will_make.add(key)
    if may_lack:
        return Verdict(OPEN, got.open, may_lack=True, is_held=bool(held), token=held, **flags)
    if task.approve:
        answer = look.options.answers.get(node.key)
        if answer is None:
            return Verdict(OPEN, "it waits for an approval", **flags)
        if not answer:
            return Verdict(REFUSED, "rejected", **flags)
    return Verdict(RUN, void, NOTHING, held, got.args, got.tokens, is_held=bool(held), **flags)


def _may_lack(node: Node) -> bool:
    return node.state not in OVER and node.fore is not None and node.fore.may_lack


def is_taken(node: Node) -> bool:
    """Returns whether a task of its scope takes the value of a cleanup, which no checkpoint keeps."""
    others = [one for one in node.scope.graph.tasks if not one.always]
    sources = [source for one in others for source in (*one.takes.values(), *one.each.values())]
    return any(isinstance(source, str) and source.partition(":")[0] == node.task.name for source in sources)


def _has_run_before(node: Node, is_ahead: bool) -> bool:
    """Whether a task of the same item, added before a cleanup of it, runs in this run."""
    for other in node.scope.nodes.values():
        if other is node:
            return False
        if not other.task.always and (not other.is_done() if is_ahead else has_run(other)):
            return True
    return False


def has_run(node: Node) -> bool:
    if node.fan is None:
        return node.state in (COMPLETED, FAILED, RUNNING) and not (node.task.is_fan and node.entry is None)
    return any(
        has_run(kid) if isinstance(kid, Node) else any(map(has_run, kid.nodes.values())) for kid in node.fan.kids
    )
