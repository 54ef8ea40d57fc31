"""Limits and budgets: what attempts of steps may use, over all runs and processes.

Limits let attempts wait, budgets refuse them. Amounts are whole millionths, so that sums of fractions are exact.
"""

import inspect
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, timedelta
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.approval import fields_of
from dotflow.core.callables import parameters
from dotflow.core.durations import to_seconds
from dotflow.core.failure import describe
from dotflow.core.limit_rules import AT_ONCE, RUN
from dotflow.core.sizes import size_text
from dotflow.errors import InvalidPolicy

ONE: Final = 1_000_000  # an amount of one
USD: Final = "usd"  # the unit of $
MEMORY: Final = "memory"  # the one of bytes, among what a machine offers
MAX_NAME: Final = 200  # characters of a name with its values
_BEGINNING: Final = 150  # those that a longer one keeps, before its digest
MICRO: Final = 1_000_000  # microseconds of a second
MAX_AMOUNT: Final = 1e12  # which as millionths still has room in a column of 64 bits, added up
MAX_AFTER: Final = 86_400.0  # seconds that a step waits for a service; more is a failure

#: What a limit and a budget are, by their option, for errors.
ACCEPTED: Final = {
    "limit": (
        "made of parts such as '10/s', '100/15min', '500 tokens/min' or '3 at once', with commas between them and a "
        "name before: 'crm: 10/min, 3 at once'. Or a list of such texts"
    ),
    "budget": (
        "made of parts such as '$5/run', '50/run' or '100000 tokens/day', with commas between them and a name before: "
        "'llm: $5/run, $50/day'. Or a list of such texts"
    ),
}
#: What `uses` is, for errors.
USES_IS: Final = (
    "a plain function of parameters of the step that returns the amounts by unit, such as "
    "lambda text: {'tokens': len(text) // 3}"
)
_PERIODS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
_PART: Final = re.compile(
    r"(?P<usd>\$?)(?P<amount>[0-9]+(?:_[0-9]+)*(?:\.[0-9]{1,6})?)\s*(?P<unit>[a-z][a-z0-9_]*)??\s*"
    r"(?:/\s*(?P<times>[0-9]*)\s*(?P<period>[a-z]+)|(?:(?<=\s)|(?<=[0-9]))at\s+once)"
)
UNIT: Final = re.compile(r"[a-z][a-z0-9_]*")
_NAME: Final = re.compile(r"(?:[A-Za-z0-9_./@-]|\{[^{}]*\})+")


class Part(NamedTuple):
    """One part of a limit or a budget: so much in a period, or at once.

    Attributes:
        amount: How much, in millionths.
        period: The period in microseconds; AT_ONCE for attempts side by side, RUN for a run.
        unit: Of what; "" for attempts.
    """

    amount: int
    period: int
    unit: str = ""

    @property
    def text(self) -> str:
        """The part for people: `10/15min`, `3 at once`, `$5/run`."""
        return f"{self.shown(self.amount)}{self._per}"

    def shown(self, amount: int) -> str:
        """Returns an amount of its unit for people: `$4.97`, `200000 tokens`, `3`."""
        number = shown(amount)
        if self.unit == MEMORY and self.period == AT_ONCE:
            return f"{size_text(amount // ONE)} {MEMORY}"
        if self.unit == USD:
            whole, point, rest = number.partition(".")
            return f"${whole}{point}{rest.ljust(2, '0')}" if point else f"${whole}"
        return f"{number} {self.unit}".rstrip()

    @property
    def _per(self) -> str:
        if self.period == AT_ONCE:
            return " at once"
        if self.period == RUN:
            return "/run"
        seconds = self.period // MICRO
        size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
        return f"/{seconds // size if seconds != size else ''}{unit}"


def shown(amount: int) -> str:
    """Returns an amount, in millionths, as a number for people."""
    return f"{amount // ONE}.{amount % ONE:06d}".rstrip("0").rstrip(".")


_UNITS: Final = ((86_400, "day"), (3600, "h"), (60, "min"), (1, "s"))


class Limit(NamedTuple):
    """A limit or a budget of a step.

    Attributes:
        name: What shares it; braces name arguments. "" for the step alone.
        parts: Its parts.
    """

    name: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The limit for people, as the decorator takes it."""
        return f"{self.name}{self.name and ': '}{text_of(self.parts)}"


def text_of(parts: Sequence[Part]) -> str:
    """Returns the parts of a limit for people."""
    return ", ".join(part.text for part in parts)


def parse_limits(value: object, option: str = "limit") -> tuple[Limit, ...]:
    """Returns the limits of a step, or its budgets. Raises InvalidPolicy, which names the *option*."""
    if isinstance(value, tuple) and all(isinstance(one, Limit) for one in value):
        return value
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not texts or not all(text and isinstance(text, str) for text in texts):
        raise InvalidPolicy(option, value, ACCEPTED[option])
    limits = tuple(_parse(text, option) for text in texts)
    names = [limit.name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise InvalidPolicy(option, value, f"one text for each name: {name or 'the step'!r} has two")
    return limits


def _parse(text: str, option: str) -> Limit:
    name, colon, rest = text.rpartition(":")
    name = name.strip()
    if colon and not _NAME.fullmatch(name):
        accepted = f"a name of letters, digits and _ . / @ - before the ':', and then {ACCEPTED[option]}"
        raise InvalidPolicy(option, text, accepted)
    return Limit(name, parse_parts(rest, option, text))


def parse_parts(text: str, option: str = "limit", whole: str = "") -> tuple[Part, ...]:
    """Returns the parts of a limit, or of a budget. Raises InvalidPolicy, which shows the *whole* text."""
    return tuple(_part(whole or text, one.strip(), option) for one in text.split(","))


def _part(text: str, part: str, option: str) -> Part:
    match = _PART.fullmatch(part)
    found = None if match is None else _part_of(match)
    if found is None or found.period == (RUN if option == "limit" else AT_ONCE):
        raise InvalidPolicy(option, text, f"{ACCEPTED[option]}. {part!r} is none of these")
    return found


def _part_of(match: re.Match[str]) -> Part | None:
    """Returns a part; None for one that is none: a fraction of an attempt, two units, an amount or a period of 0."""
    usd, number, unit, times, period = match.group("usd", "amount", "unit", "times", "period")
    amount = as_amount(float(number) if "." in number else int(number))
    unit = USD if usd else unit or ""
    if not amount or (usd and match["unit"]) or ("." in number and not unit):
        return None
    if period is None:
        return Part(amount, AT_ONCE, unit)
    if period == "run" and not times:
        return Part(amount, RUN, unit)
    if period not in _PERIODS or times == "0":
        return None
    return Part(amount, int(times or 1) * _PERIODS[period] * MICRO, unit)


def as_amount(number: float) -> int:
    """Returns a number in millionths."""
    return number * ONE if isinstance(number, int) else round(number * ONE)


def is_amount(number: object) -> bool:
    """Returns whether something is a number from 0 that can be added up."""
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < MAX_AMOUNT


def check_uses(uses: object, limits: Sequence[Limit]) -> None:
    """Raises InvalidPolicy for what can't say what an attempt uses, and where nothing counts it."""
    if not callable(uses) or isinstance(uses, type) or inspect.iscoroutinefunction(uses):
        raise InvalidPolicy("uses", uses, USES_IS)
    if not any(part.unit for limit in limits for part in limit.parts):
        raise InvalidPolicy("uses", uses, "for a limit or a budget with a unit, such as limit='200000 tokens/min'")


def check_names(limits: Sequence[Limit], known: Collection[str], secrets: Collection[str], option: str) -> None:
    """Raises InvalidPolicy, which names the *option*, for braces that name no parameter of the step, or a secret."""
    for limit in limits:
        for field in fields_of(limit.name):
            if field in secrets:
                raise InvalidPolicy(option, limit.text, f"no secret in a name, which the history has: not {{{field}}}")
            if field not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise InvalidPolicy(option, limit.text, f"a name whose braces name parameters of the step: {takes}")


def with_defaults(function: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the arguments of an attempt with the defaults of the parameters that it does not fill."""
    known = parameters(function).items()
    defaults = {name: one.default for name, one in known if one.default is not one.empty}
    return {**defaults, **arguments}


class Wanted(NamedTuple):
    """What an attempt needs of one limit, or of one budget.

    Attributes:
        name: The name, with its arguments.
        shared: The name before its braces were filled: what has a text.
        parts: The parts as the step has them.
        amounts: What it will use, by unit, in millionths; what is missing is not known before.
        run: Of a budget: the first of the runs that share what is for a run; "" for a limit.
        is_place: Whether it is something of the machine, which the machine's own file counts.
    """

    name: str
    shared: str
    parts: tuple[Part, ...]
    amounts: Mapping[str, int] = {}
    run: str = ""
    is_place: bool = False

    def needs(self, part: Part) -> int:
        """Returns what an attempt needs of a part, in millionths: of attempts one."""
        return self.amounts.get(part.unit, 0) if part.unit else ONE


def wanted_by(step: Any, arguments: Mapping[str, Any], run: str) -> tuple[Wanted, ...]:
    """Returns what an attempt of a step needs: budgets first, since nobody waits for what is refused then.

    Args:
        step: The action.
        arguments: The arguments of the attempt, by parameter.
        run: What stands for the run in what it needs of budgets.

    Raises:
        Exception: What `uses` raises; or TypeError for what it returns, and for a value that tells nothing apart.
    """
    policy, known = step.policy, with_defaults(step.function, arguments)
    limits = [*((one, run) for one in policy.budgets), *((one, "") for one in policy.limits)]
    units = {part.unit for one, _ in limits for part in one.parts}
    amounts = {} if policy.uses is None else amounts_by(policy.uses, known, units)
    return tuple(
        Wanted(
            name_of(one, step.identity, known),
            one.name or step.identity,
            one.parts,
            {part.unit: amounts[part.unit] for part in one.parts if part.unit in amounts},
            of_run,
        )
        for one, of_run in limits
    )


def amounts_by(uses: Callable[..., Any], arguments: Mapping[str, Any], units: Collection[str]) -> dict[str, int]:
    """Returns what an attempt will use, in millionths, by `uses`.

    Args:
        uses: The function.
        arguments: The arguments of the attempt.
        units: The units that are counted.

    Raises:
        Exception: What the function raises; or TypeError for what it returns.
    """
    value = uses(**{name: arguments[name] for name in parameters(uses) if name in arguments})
    if not isinstance(value, Mapping):
        raise TypeError(f"uses returned {describe(value)}, not the amounts by unit, such as {{'tokens': 500}}")
    for unit, number in value.items():
        if not isinstance(unit, str) or not UNIT.fullmatch(unit) or not is_amount(number):
            raise TypeError(f"uses returned {unit!r}: {describe(number)}, not a unit and a number from 0")
    return {unit: as_amount(value[unit]) for unit in units if unit in value}


def name_of(limit: Limit, identity: str, arguments: Mapping[str, Any]) -> str:
    """Returns the name of a limit with the arguments of an attempt.

    Args:
        limit: The limit.
        identity: The identity of the step, which is the name of its own limit.
        arguments: The arguments, by parameter.

    Raises:
        TypeError: An argument is no text, number, bool or date, so that its name could differ from run to run.
    """
    if not limit.name:
        return identity
    if "{" not in limit.name:
        return limit.name
    values = {field: _shown(field, arguments.get(field)) for field in fields_of(limit.name)}
    name = limit.name.format_map(values)
    if len(name) <= MAX_NAME:
        return name
    return f"{name[:_BEGINNING]}~{blake2b(name.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"


def seconds_after(after: object) -> float | None:
    """Returns for how many seconds a service wants to be left alone; None where it does not say so.

    Args:
        after: Seconds, a duration, a timedelta, or the text of the header Retry-After: seconds, or an HTTP date.
    """
    if isinstance(after, timedelta):
        after = after.total_seconds()
    if isinstance(after, str):
        text = after.strip()
        after = float(text) if text.isascii() and text.isdigit() else to_seconds(text) or _until(text)
    seconds = after if isinstance(after, int | float) and not isinstance(after, bool) else 0
    return float(seconds) if 0 < seconds < math.inf else None


def _until(text: str) -> float:
    """Returns the seconds until an HTTP date; 0 for another text."""
    from email.utils import parsedate_to_datetime  # here: few services name a date

    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - clock.now()).total_seconds()


def _shown(field: str, value: object) -> str:
    if isinstance(value, str | int | date):
        return str(value)
    raise TypeError(f"limit: {{{field}}} is a {type(value).__name__}, and a name takes texts, whole numbers and dates")
