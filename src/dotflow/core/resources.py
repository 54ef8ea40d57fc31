"""Resources: what steps need of a machine, what a machine offers, and what an attempt has of it."""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dotflow.core.sizes import to_bytes
from dotflow.errors import InvalidArgument, InvalidPolicy

#: The resource of graphics cards, whose ids CUDA is told.
GPU: Final = "gpu"
VARIABLE: Final = "DOTFLOW_RESOURCES"
CUDA_ORDER: Final = "CUDA_DEVICE_ORDER"
MAX_AMOUNT: Final = 1e12
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ID: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,100}")
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
#: What `@action(resources=...)` takes, for errors.
NEEDED: Final = 'a mapping of names to amounts above 0, such as {"gpu": 1, "memory": "8GB"}'
#: What `Config(resources=...)` takes, for errors.
OFFERED: Final = 'a mapping of names to ids or amounts, such as {"gpu": ["0", "1"], "memory": "64GB"}'
#: What the variable and the command line take, for errors.
WRITTEN: Final = "such as 'gpu=0,1 memory=64GB': ids with commas between them, or an amount"
#: The ids of a resource, or how much there is of it.
Offered = tuple[str, ...] | float


class Resources(Mapping[str, Any]):
    """What an attempt has of its machine: it is the attempt's alone until it ends.

    A step takes it as `resources`; `resources.gpu` is a tuple of ids, `resources.memory` an amount (for memory, bytes).

    Args:
        values: The ids or the amounts, by name.
    """

    def __init__(self, values: Mapping[str, Offered]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"the step has no resource {name!r}: {', '.join(self._values)}")
        return self._values[name]

    def __reduce__(self) -> Any:
        return Resources, (self._values,)

    def __repr__(self) -> str:
        return f"Resources({self._values!r})"


def as_needs(value: object) -> Mapping[str, float]:
    """Returns what a step needs: amounts by name. Raises InvalidPolicy."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
        raise InvalidPolicy("resources", value, NEEDED)
    needs = {name: _amount(amount) for name, amount in value.items()}
    if not all(amount is not None and amount > 0 for amount in needs.values()):
        raise InvalidPolicy("resources", value, NEEDED)
    return {name: amount for name, amount in needs.items() if amount is not None}


def _amount(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else to_bytes(value)
    is_number = type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]
    return value if is_number else None  # type: ignore[return-value]


def as_offer(value: object, name: str = "resources", accepted: str = OFFERED) -> Mapping[str, Offered]:
    """Returns what a machine offers, by name in small letters. Raises InvalidArgument, which has the *name*.

    A number of cards stands for their first ids: 2 for "0" and "1".
    """
    if not isinstance(value, Mapping):
        raise InvalidArgument(name, value, accepted)
    offer: dict[str, Offered] = {}
    for key, one in value.items():
        is_list = isinstance(one, Sequence) and not isinstance(one, str | bytes)
        ids = [str(each) for each in one] if is_list else None
        amount = None if is_list else _amount(one)
        if amount is not None and isinstance(key, str) and key.lower() == GPU and amount == int(amount):
            ids = [*map(str, range(int(amount)))]
        is_named = isinstance(key, str) and _NAME.fullmatch(key) and key.lower() not in offer
        is_valid = all(map(_ID.fullmatch, ids)) and len({*ids}) == len(ids) if ids is not None else amount is not None
        if not is_named or not is_valid or (amount or 0) >= MAX_AMOUNT * 10:
            raise InvalidArgument(name, value, accepted)
        offer[key.lower()] = tuple(ids) if ids is not None else float(amount or 0)
    return offer


def parse_offer(text: str, name: str = VARIABLE) -> Mapping[str, Offered]:
    """Returns what a text such as "gpu=0,1 memory=64GB" offers. Raises InvalidArgument, which has the *name*.

    A list of one id ends with a comma: "gpu=3,".
    """
    found: dict[str, object] = {}
    for one in text.split():
        key, equals, value = one.partition("=")
        if not equals or key in found:
            raise InvalidArgument(name, text, WRITTEN)
        found[key] = [part for part in value.split(",") if part] if "," in value else value
    return as_offer(found, name, WRITTEN)


def environ_of(had: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Returns the variables of a process that has cards; None for one without.

    CUDA counts the cards by their speed unless it is told to count them as `nvidia-smi` does.
    """
    ids = had.get(GPU)
    if not isinstance(ids, tuple):
        return None
    order = os.environ.get(CUDA_ORDER, "PCI_BUS_ID")
    return {"CUDA_VISIBLE_DEVICES": ",".join(ids), CUDA_ORDER: order}


def keys_of(needs: Mapping[str, float]) -> set[str]:
    """Returns the names of what a step needs, as offers have them."""
    return {name.lower() for name in needs}


def check_needs(step: str, needs: Mapping[str, float], offer: Mapping[str, Offered]) -> None:
    """Raises InvalidPolicy where a step needs more than this machine offers, or a part of what has ids."""
    for name, amount in needs.items():
        offered = offer[name.lower()]
        most = len(offered) if isinstance(offered, tuple) else offered
        if amount > most:
            raise InvalidPolicy("resources", dict(needs), f"for {step!r} at most what is offered here: {most:g} {name}")
        if isinstance(offered, tuple) and amount != int(amount):
            raise InvalidPolicy("resources", dict(needs), f"for {step!r} a whole number of {name}: each has an id")


def as_if_had(needs: Mapping[str, float]) -> Resources:
    """Returns what an attempt would have that nothing is reserved for: of cards the first ids."""
    cards = {name: tuple(map(str, range(int(amount)))) for name, amount in needs.items() if name.lower() == GPU}
    return Resources({**needs, **cards})
