"""Outputs: the parts of a task's value that have names of their own."""

from collections.abc import Collection, Sequence
from dataclasses import is_dataclass
from typing import Any, NamedTuple


class Part(NamedTuple):
    """One output of a task: `outputs=["train", "test"]`."""

    name: str
    position: int

    def of(self, value: Any) -> Any:
        """Returns the part of a value that fits the outputs; None for None, which stands for an unknown value."""
        if value is None:
            return None
        if isinstance(value, dict):
            return value[self.name]
        return value[self.position] if _fields_of(value) is None else getattr(value, self.name)

    def key_in(self, value: Any) -> str:
        """Returns what `of` finds the part by: its name or its position; both for None, an unknown value."""
        if value is None:
            return f"{self.name}.{self.position}"
        return self.name if isinstance(value, dict) or _fields_of(value) is not None else str(self.position)


def take(value: Any, part: Part | None, depth: int = 0) -> Any:
    """Returns the part of a task's value; of a mapped task the list of its items' parts. Without a part, the value.

    Args:
        value: The value.
        part: The part.
        depth: How many lists stand inside of each other in the value.
    """
    if part is None or value is None:
        return value
    return [take(own, part, depth - 1) for own in value] if depth else part.of(value)


def why_unfit(value: Any, outputs: Sequence[Part]) -> str:
    """Returns what is wrong with a value that lacks one of the outputs: "has no 'test'"; "" if it fits."""
    names: Collection[Any] | None = value if isinstance(value, dict) else _fields_of(value)
    if names is not None:
        return next((f"has no '{part.name}'" for part in outputs if part.name not in names), "")
    if not isinstance(value, tuple | list):
        return "has no parts"
    return "" if len(value) == len(outputs) else f"has {len(value)} entries"


def _fields_of(value: object) -> Collection[str] | None:
    """Returns the fields of a NamedTuple or a dataclass's instance; None for every other value."""
    kind: Any = type(value)
    if is_dataclass(kind):
        return kind.__dataclass_fields__
    return getattr(kind, "_fields", None) if issubclass(kind, tuple) else None
