"""What each call of a durable step must do: a memo of all runs so far, which follows the log of one more.

Written from the contract, without dotflow. Where a kill or a race leaves it open what was kept, a call is "maybe" kept,
until the number of records or the next attempt shows it.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

YES: Final = "yes"
NO: Final = "no"
MAYBE: Final = "maybe"

#: Errors that say that a call could not be made or kept. None is a failure of the call.
REFUSED: Final = frozenset({"CallRefused", "ArgumentChanged", "BodyStopped", "CancelledError"})


class Key(NamedTuple):
    """The same call: its scope, its function, its arguments, and how many equal ones came before it."""

    scope: "Key | None"  # the call of the durable action around it
    name: str
    arguments: str
    number: int

    def __str__(self) -> str:
        around = "" if self.scope is None else f"{self.scope} > "
        arguments = ", ".join(f"{name}={value!r}" for name, value in json.loads(self.arguments).items())
        return f"{around}{self.name}({arguments})#{self.number}"


@dataclass
class Slot:
    """What is known of a call.

    Attributes:
        kept: Whether its outcome is kept.
        outcome: "value" with the value, or "failure" with class, arguments and text.
        code: What stands for the code that made it.
        key: Its idempotency key.
        voids: How often it was void since its code had changed.
        number: Its own number, whatever call it is that of.
    """

    kept: str = NO
    outcome: tuple[Any, ...] = ()
    code: str = ""
    key: str | None = None
    voids: int = 0
    number: int = field(default_factory=itertools.count().__next__)


@dataclass
class Ask:
    """A call in an attempt.

    Attributes:
        expected: "given", "made", "either", or "late" if its attempt is over.
        effects: Of an action: the numbers of its effects. Of a durable one: its scopes.
        result: The outcome of the last effect.
        keeps: The failures that are kept before it is made.
        is_resolved: Whether the body has its value or its failure.
        is_given: Whether it was given back.
    """

    number: int
    scope: int
    key: Key
    expected: str
    branch: tuple[int, ...]
    thread: int
    effects: list[int] = field(default_factory=list)
    result: tuple[Any, ...] = ()
    keeps: list[tuple[Key, str]] = field(default_factory=list)
    is_resolved: bool = False
    is_given: bool = False
    is_begun: bool = True  # False for a coroutine that nobody awaits


@dataclass
class Scope:
    """A body that runs.

    Attributes:
        path: The call of the durable action; None for the step.
        counts: How many equal calls it has made.
        threads: In which thread each was made first.
        callers: The tasks and threads that have made calls, by branch: since which line.
        pending: The failures that are not kept: where each was raised.
    """

    number: int
    path: Key | None
    name: str
    branch: tuple[int, ...]
    thread: int
    parent: int
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    threads: dict[tuple[str, str], int] = field(default_factory=dict)
    callers: dict[tuple[int, ...], int] = field(default_factory=dict)
    pending: dict[Key, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    is_over: bool = False
    value: Any = None
    has_value: bool = False


class Completed(NamedTuple):
    value: Any
    code: str


@dataclass
class Rules:
    """How a run is started, and what the program is then.

    Attributes:
        resume: As in `start`.
        rerun: Whether the step is named to run again.
        codes: What stands for the code of each function.
        retries: The attempts that the step has.
        tries: The attempts that each action has.
        unsaved: The actions whose values are not kept.
        lists: Whether the storage lists its keys.
    """

    resume: Any
    rerun: bool
    codes: Mapping[str, str]
    retries: int
    tries: Mapping[str, int]
    unsaved: frozenset[str]
    lists: bool


class Memo:
    """The calls of one workflow.

    Attributes:
        slots: What is known of each call of the present base.
        loose: The equal calls that threads have made side by side: which of them has which number is not known.
        blurred: Those of them of which a kill has left open which are kept.
        outcomes: What equal calls have returned or raised.
        records: The keys of the records that the storage has.
        own: Those of them that this base has made.
        unsure: Those that it may have made: another thread ended the process just after the post, or in it.
        figures: What happened so far.
    """

    def __init__(self) -> None:
        self.slots: dict[Key, Slot] = {}
        self.base = 0
        self.completed: Completed | None = None
        self.records: set[str] = set()
        self.own: set[str] = set()
        self.unsure: set[str] = set()
        self.owners: dict[str, Any] = {}
        self.loose: set[tuple[Key | None, str, str]] = set()
        self.blurred: set[tuple[Key | None, str, str]] = set()
        self.outcomes: defaultdict[tuple[Key | None, str, str], list[Any]] = defaultdict(list)
        self.figures: Counter[str] = Counter()
        self.problems: list[str] = []

    # A run

    def follow(self, lines: Sequence[list[Any]], rules: Rules, *, was_killed: bool) -> list[str]:
        """Follows the log of one run, and returns what the contract forbids."""
        self.problems = []
        self.rules = rules
        self.scopes: dict[int, Scope] = {}
        self.asks: dict[int, Ask] = {}
        self.former: set[int] = set()  # of attempts that are over
        self.letting: dict[int, list[Key]] = {}  # the failures that bodies have ended with, by the call of each
        self.root: Scope | None = None
        self.attempts = 0
        self.is_doomed = self.is_cut_off = False
        self.ran: tuple[Any, ...] | None = None
        self.orphans: str | None = None
        self.is_posted = False
        must_run = self._must_run()
        if rules.resume is False or rules.rerun:
            self._new_base()
        before = self.completed
        self._line_of: dict[Key, int] = {}
        for self._line, (kind, *data) in enumerate(lines):
            getattr(self, f"_on_{kind}")(*data)
        self._settle(is_cut_off=was_killed or self.is_cut_off)
        self._settle_root(was_killed)
        if self.attempts and must_run is False:
            self._say("the step ran again, though it had completed")
        if not was_killed:
            self._check_end(must_run, before)
        self._check_records(was_killed)
        return self.problems

    def _must_run(self) -> bool | None:
        rules = self.rules
        if rules.resume is False or rules.rerun or self.completed is None:
            return True
        return rules.resume == "changed" and self.completed.code != rules.codes["agent"]

    def _new_base(self) -> None:
        self.slots = {}
        self.own = set()
        self.unsure = set()
        self.base += 1
        self.completed = None

    def _root_is_over(self) -> bool:
        return self.root is not None and self.root.is_over

    def _say(self, text: str) -> None:
        self.problems.append(text)

    # The lines of the log

    def _on_run(self, number: int) -> None:
        self.figures["runs"] += 1

    def _on_begin(self, number: int, name: str, parent: int, branch: list[int], thread: int) -> None:
        ask = self.asks.get(parent)
        if name == "agent":
            if self.root is not None:
                self._settle(is_cut_off=self.is_cut_off)
            self.is_cut_off = False
            self.former |= set(self.asks)
            self.asks, self.scopes, self.letting = {}, {}, {}
            self.attempts += 1
            self.is_doomed = False
            self.completed = None
            self.root = self.scopes[number] = Scope(number, None, name, tuple(branch), thread, -1)
            return
        if ask is None or ask.key.name != name:
            self._say(f"{name} began, and no call of it is known")
            return
        self._is_made(ask, number, None)
        self.scopes[number] = Scope(number, ask.key, name, tuple(branch), thread, ask.number)

    def _on_ask(
        self, number: int, scope: int, name: str, arguments: str, branch: list[int], thread: int, is_later: bool
    ) -> None:
        within = self.scopes.get(scope)
        if within is None:  # of an attempt that is over
            return
        count = within.counts[name, arguments]
        within.counts[name, arguments] += 1
        key = Key(within.path, name, arguments, count)
        if within.threads.setdefault((name, arguments), thread) != thread:
            self.loose.add(key[:3])
        ask = self.asks[number] = Ask(number, scope, key, self._expected(key, within), tuple(branch), thread)
        self._line_of[key] = self._line
        ask.is_begun = not is_later
        if ask.is_begun:
            self._find_keeps(ask)

    def _on_awaits(self, number: int, branch: list[int], thread: int) -> None:
        ask = self.asks.get(number)
        if ask is not None:
            ask.branch, ask.thread, ask.is_begun = tuple(branch), thread, True
            self._find_keeps(ask)

    def _expected(self, key: Key, within: Scope) -> str:
        if within.is_over or self._root_is_over() or self.is_doomed:
            return "late"
        if key.name in self.rules.unsaved:
            return "made"
        slot = self.slots.setdefault(key, Slot())
        if slot.kept == NO:
            return "made"
        if self._is_void(key, slot):
            return "made"
        return "given" if slot.kept == YES else "either"

    def _find_keeps(self, ask: Ask) -> None:
        """Finds the failures that are kept before a call is made."""
        within = self.scopes[ask.scope]
        within.callers.setdefault(ask.branch, self._line)
        for key, (branch, thread) in within.pending.items():
            if ask.branch == within.branch or branch == ask.branch:
                ask.keeps.append((key, YES))
            elif branch[: len(ask.branch)] == ask.branch:  # raised in a task or thread that this one has started
                is_known = ask.branch in within.callers and within.callers[ask.branch] < self._line_of[key]
                ask.keeps.append((key, YES if is_known else MAYBE))  # only after a call of its own, it is known as such
            elif thread == ask.thread:  # it is another one's, who had the same thread
                ask.keeps.append((key, MAYBE))

    def _on_effect(self, number: int, call: int, name: str, version: int, arguments: str, key: str | None) -> None:
        ask = self.asks.get(call)
        if call in self.former:
            self._say(f"{name}({arguments}) was made in an attempt that had ended")
            return
        if ask is not None and ask.key.name != name:
            return  # an action that an action calls
        if ask is None:
            ask = next(
                (
                    one
                    for one in self.asks.values()
                    if one.key.name == name and one.key.arguments == arguments and not one.is_resolved
                ),
                None,
            )
        if ask is None:
            self._say(f"{name}({arguments}) was made, and no call of it is known")
            return
        if arguments != ask.key.arguments:
            self._say(f"{ask.key} was made with {arguments}")
        self._is_made(ask, number, key)

    def _is_made(self, ask: Ask, number: int, key: str | None) -> None:
        if ask.key[:3] in self.loose and not ask.effects:
            if key in self.owners:
                self._pair(ask, lambda slot: slot.key == key)
            else:
                same = [one for one in self.asks.values() if one.scope == ask.scope]
                asked = {id(self.slots[one.key]) for one in same if one.key in self.slots}

                def is_new(slot: Slot) -> bool:
                    return (slot.kept == NO and slot.key is None) or self._is_void(ask.key, slot)

                self._pair(ask, lambda slot: id(slot) in asked and is_new(slot))
                self._pair(ask, lambda slot: is_new(slot) or (slot.kept != YES and slot.key is None))
                self._pair(ask, lambda slot: slot.kept != YES or is_new(slot))
        slot = self.slots.setdefault(ask.key, Slot())
        first = not ask.effects
        ask.effects.append(number)
        if ask.expected == "given":
            self._say(f"{ask.key} was made again, though it was kept")
        if self.is_doomed and ask.expected == "late" and ask.thread == self.scopes[ask.scope].thread:
            self._say(f"{ask.key} was made, though its attempt had failed")
        if len(ask.effects) > self.rules.tries.get(ask.key.name, 1):
            self._say(f"{ask.key} was made {len(ask.effects)} times by one call")
        if ask.key.name in self.rules.unsaved:
            self._keep_pending(ask)
            return
        code = self.rules.codes[ask.key.name]
        if first:
            is_void = self._is_void(ask.key, slot)
            if slot.kept == YES and is_void:
                slot.voids += 1
                slot.key = None
                self.figures["voided"] += 1
            elif slot.kept == MAYBE and is_void:  # it was void, or had not been kept
                slot.key = None
                slot.voids += key is not None and key not in self.owners
            slot.kept = NO
            self._keep_pending(ask)
        slot.code = code
        if key is not None:
            if slot.key is not None and key != slot.key:
                self._say(f"{ask.key} was made with the idempotency key {key}, and before with {slot.key}")
            owner = (str(ask.key), slot.number, slot.voids)
            if self.owners.setdefault(key, owner)[1:] != owner[1:]:
                self._say(f"{ask.key} was made with the idempotency key {key} of {self.owners[key]}")
            slot.key = key
        self.figures["made"] += 1

    def _is_void(self, key: Key, slot: Slot) -> bool:
        return self.rules.resume == "changed" and slot.code != self.rules.codes[key.name]

    def _pair(self, ask: Ask, fits: Callable[[Slot], bool]) -> None:
        """Gives a call of several equal ones, side by side, what fits it."""
        if ask.key in self.slots and fits(self.slots[ask.key]):
            return
        others = [one for one in self.asks.values() if one.scope == ask.scope]
        taken = {one.key for one in others if one.effects or one.is_resolved}
        for key, slot in self.slots.items():
            if key[:3] == ask.key[:3] and key not in taken and fits(slot):
                self.slots[key], self.slots[ask.key] = self.slots.get(ask.key, Slot()), slot
                within = self.scopes[ask.scope]
                for one in others:
                    if one is ask or (one.key in (key, ask.key) and not one.is_resolved and not one.effects):
                        one.expected = self._expected(one.key, within)
                return

    def _keep_pending(self, ask: Ask) -> None:
        within = self.scopes[ask.scope]
        known, ask.keeps = ask.keeps, []
        self._find_keeps(ask)
        late = [(key, MAYBE) for key, _ in ask.keeps if key not in dict(known)]  # raised while it was asked for
        ask.keeps = known + late
        for key, how in ask.keeps:
            if ask.key.name in self.rules.unsaved:  # the contract leaves open whether it is a call like others
                how = MAYBE
            if key in within.pending and self.slots[key].kept != YES:
                self.slots[key].kept = how
                if how == YES:
                    del within.pending[key]
                    self.figures["failures kept"] += 1
        ask.keeps = []

    def _on_returns(self, number: int, value: Any) -> None:
        self._result(number, ("value", value))

    def _on_raises(self, number: int, kind: str, args: list[Any]) -> None:
        self._result(number, ("failure",))

    def _result(self, number: int, result: tuple[Any, ...]) -> None:
        for ask in self.asks.values():
            if number in ask.effects:
                ask.result = result

    def _on_got(self, number: int, value: Any) -> None:
        ask = self.asks.get(number)
        if ask is None:
            return
        ask.is_resolved = True
        if ask.key.name in self.rules.unsaved:
            return
        slot = self.slots[ask.key]
        if ask.effects:
            if ask.result != ("value", value):
                self._say(f"{ask.key} returned {ask.result[1:]}, and the body got {value}")
            slot.kept, slot.outcome = YES, ("value", value)
            self.outcomes[ask.key[:3]].append(["value", value])
            return
        self._is_given(ask, slot, ("value", value))

    def _is_given(self, ask: Ask, slot: Slot, outcome: tuple[Any, ...]) -> None:
        ask.is_given = True
        if ask.key[:3] in self.loose:
            self._pair(ask, lambda one: one.kept != NO and is_same(one.outcome, outcome))
            slot = self.slots[ask.key]
        self.figures["given"] += 1
        if ask.expected == "made" or slot.kept == NO:
            self._say(f"{ask.key} was given back as {outcome}, which must be made: {ask.expected}, {slot}")
        elif ask.key[:3] in self.blurred and list(outcome) in self.outcomes[ask.key[:3]]:
            slot.outcome = outcome
        elif not is_same(slot.outcome, outcome):
            self._say(f"{ask.key} was given back as {outcome}, and had {slot.outcome}")
        slot.kept = YES

    def _on_fail(
        self, number: int, kind: str, args: list[Any], text: str, is_exception: bool, branch: list[int], thread: int
    ) -> None:
        ask = self.asks.get(number)
        if ask is None:
            return
        ask.is_resolved = True
        self.letting.pop(number, None)
        if kind in ("ArgumentChanged", "BodyStopped"):
            self.is_doomed = True
        if ask.expected == "late" or self.is_doomed or ask.key.name in self.rules.unsaved:
            return
        slot, outcome = self.slots[ask.key], ("failure", kind, args, text)
        within = self.scopes[ask.scope]
        if kind in REFUSED or not is_exception:
            if not ask.effects and not within.is_over and not self._root_is_over() and kind != "CancelledError":
                self._say(f"{ask.key} was refused: {kind}: {text}")
            if ask.result[:1] == ("value",) or (kind == "CancelledError" and slot.kept == YES):
                slot.kept, slot.outcome = MAYBE, ask.result or slot.outcome
            return
        if not ask.effects:
            if within.is_over or self._root_is_over():
                return
            self._is_given(ask, slot, outcome)
            self.figures["failures given"] += 1
            return
        if ask.result[:1] == ("value",) and self.scopes.get(ask.effects[-1]) is None:
            self._say(f"{ask.key} returned a value, and the body got {kind}: {text}")
        slot.kept, slot.outcome = NO, outcome
        self.outcomes[ask.key[:3]].append(list(outcome))
        within.pending[ask.key] = (tuple(branch), thread)

    def _on_end(self, number: int, value: Any) -> None:
        scope = self.scopes.get(number)
        if scope is None:
            return
        scope.is_over, scope.has_value, scope.value = True, True, value
        if scope.path is not None and scope.parent in self.asks:
            self.asks[scope.parent].result = ("value", value)

    def _on_raised(self, number: int, tree: dict[str, Any]) -> None:
        scope = self.scopes.get(number)
        if scope is None:
            return
        was_over, scope.is_over = self._root_is_over(), True
        if scope.path is not None and scope.parent in self.asks:
            self.asks[scope.parent].result = ("failure",)
        for found in self._first_failures(tree, scope):
            slot = self.slots.get(found)
            if slot is None:
                continue
            scope.pending.pop(found, None)
            if slot.kept != NO:
                is_cut_short = self.is_doomed or was_over or tree["type"] in REFUSED
                slot.kept = MAYBE if is_cut_short else NO
                self.figures["let go"] += 1
                self.letting.setdefault(scope.parent, []).append(found)
            elif any(found == key for ask in self.asks.values() for key, _ in ask.keeps):  # it may be kept before
                self.letting.setdefault(scope.parent, []).append(found)

    def _first_failures(self, tree: dict[str, Any] | None, scope: Scope) -> Iterator[Key]:
        """Yields the first failure of a call of the scope on each path of an error."""
        if tree is None:
            return
        own = [self.asks[one].key for one in tree["calls"] if one in self.asks and self.asks[one].scope == scope.number]
        if own and own[0].name in self.rules.unsaved:  # as above
            for found in self._first_failures(tree["cause"] or tree["context"], scope):
                if self.slots[found].kept == YES:
                    self.slots[found].kept = MAYBE
            return
        if own:
            yield from own
            return
        yield from self._first_failures(tree["cause"] or tree["context"], scope)
        for member in tree["members"]:
            yield from self._first_failures(member, scope)

    def _on_killed(self, *kill: Any) -> None:
        self.figures["kills"] += 1
        self.is_cut_off = True
        for keys in self.letting.values():  # perhaps there was no time for it
            for key in keys:
                self.slots[key].kept = MAYBE

    def _on_ran(self, *ran: Any) -> None:
        self.ran = ran

    def _on_note(self, text: str) -> None:
        if "not asked for any more" in text:
            self.orphans = text

    def _on_posting(self, key: str) -> None:
        self.unsure.add(key)

    def _on_post(self, key: str) -> None:
        self.unsure.discard(key)
        if is_record(key):
            self.records.add(key)
            self.own.add(key)
        elif is_value(key):
            self.is_posted = True

    def _on_delete(self, key: str) -> None:
        self.records.discard(key)
        self.own.discard(key)
        self.unsure.discard(key)
        if is_value(key):
            self.completed = None

    def _on_clear(self) -> None:
        self.records.clear()
        self.own.clear()

    # The end of an attempt

    def _settle(self, *, is_cut_off: bool) -> None:
        """Settles what an attempt leaves.

        Args:
            is_cut_off: Whether its process was killed.
        """
        for ask in self.asks.values():
            is_open = is_cut_off and not ask.effects and not ask.is_resolved and ask.expected in ("made", "either")
            if is_open:
                for key, _ in ask.keeps:  # asked, and perhaps just going to be made
                    if self.slots[key].kept == NO:
                        self.slots[key].kept = MAYBE
            if ask.key.name in self.rules.unsaved:
                continue
            slot = self.slots.setdefault(ask.key, Slot())
            if is_open and ask.expected == "made" and slot.kept == YES:  # perhaps void already, and counted as such
                slot.kept, slot.key = MAYBE, None
            if ask.is_resolved or not ask.effects:
                continue
            if ask.result[:1] == ("value",):
                self.outcomes[ask.key[:3]].append(list(ask.result))
                slot.kept, slot.outcome = MAYBE if is_cut_off else YES, ask.result
            elif not is_cut_off and not ask.result and ask.key.name[0] == "f":
                self._say(f"{ask.key} was left behind by its attempt")

    def _settle_root(self, was_killed: bool) -> None:
        root = self.root
        if self.is_posted and root is not None and root.has_value:
            self.completed = Completed(root.value, self.rules.codes["agent"])

    def _check_end(self, must_run: bool | None, before: Completed | None) -> None:
        if self.ran is None:
            self._say("the run did not end, and was not killed")
            return
        status, value, errors = self.ran
        if must_run and not self.attempts:
            self._say(f"the step did not run: {status} {errors}")
        elif not must_run:
            if status != "Completed" or before is None or value != before.value:
                self._say(f"restored: {status} {value}, and had {before}")
        elif self.root is not None and self.root.has_value and not self.is_doomed and not self.is_cut_off:
            if status != "Completed" or value != self.root.value:
                self._say(f"the step returned {self.root.value}, and is {status} with {value}: {errors}")
            self._check_orphans()
            if self.rules.lists and self.records - self.own:
                self._say(f"{len(self.records - self.own)} records of another base are left")
        else:
            if status != "Failed":
                self._say(f"the step failed, and is {status} with {value}")
            if self.attempts != self.rules.retries and not self.is_doomed:
                self._say(f"the step had {self.attempts} attempts of {self.rules.retries}: {errors}")
        self.figures["completed"] += status == "Completed"

    def _check_orphans(self) -> None:
        asked = {ask.key for ask in self.asks.values() if ask.is_begun}
        given = {ask.key for ask in self.asks.values() if ask.is_given}
        required: Counter[str] = Counter()
        allowed: Counter[str] = Counter()
        for key, slot in self.slots.items():
            if slot.kept == NO or key in asked:
                continue
            above = list(scopes_of(key))
            if any(one in given for one in above):
                continue
            allowed[key.name] += 1
            is_covered = any(self.slots.get(one, Slot()).kept != NO and one not in asked for one in above)
            if slot.kept == YES and not is_covered and self.rules.lists:
                required[key.name] += 1
        count, names = orphans_in(self.orphans)
        named = Counter(names)
        self.figures["orphans"] += count
        if not required.total() <= count <= allowed.total() or named - allowed:
            self._say(f"orphans {dict(required)} of {dict(allowed)}: {self.orphans}")
        if count == named.total() and required - named:
            self._say(f"orphans {dict(required)} of {dict(allowed)}: {self.orphans}")

    def _check_records(self, was_killed: bool) -> None:
        """Compares the number of records of this base with the calls that are kept, and clears up what is not known."""
        self.blurred |= {key[:3] for key, slot in self.slots.items() if slot.kept == MAYBE and key[:3] in self.loose}
        kept = [slot for slot in self.slots.values() if slot.kept == YES]
        maybe = [slot for slot in self.slots.values() if slot.kept == MAYBE]
        unsure = sum(map(is_record, self.unsure))
        if not len(kept) - unsure <= len(self.own) <= len(kept) + len(maybe):
            names = [str(key) for key, slot in self.slots.items() if slot.kept == YES]
            self._say(f"{len(self.own)} records, and {len(kept)} calls are kept, {len(maybe)} more maybe: {names}")
        elif unsure:
            return
        elif len(self.own) == len(kept):
            for slot in maybe:
                slot.kept = NO
        elif len(self.own) == len(kept) + len(maybe):
            for slot in maybe:
                slot.kept = YES


def is_record(key: str) -> bool:
    """Returns whether a key is that of a call."""
    return "-call-" in key


def is_value(key: str) -> bool:
    """Returns whether a key is that of the step, and not that of the workflow, which some storages take for task -1."""
    return not is_record(key) and "@" not in key and not key.endswith("--1")


def scopes_of(key: Key) -> Iterator[Key]:
    """Yields the calls around a call."""
    scope = key.scope
    while scope is not None:
        yield scope
        scope = scope.scope


def is_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return list(one) == list(other)


def orphans_in(text: str | None) -> tuple[int, list[str]]:
    """Returns the number of orphans that a line of the log counts, and the names of the calls that it lists."""
    if text is None:
        return 0, []
    counted, _, listed = text.partition("not asked for any more: ")
    count = int(counted.partition(": ")[2].partition(" ")[0])
    return count, [part.partition("(")[0] for part in listed.split("), ") if not part.startswith("and ")]
