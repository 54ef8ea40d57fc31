"""Objects of JSON that fit into a number of characters, for readers with little room."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

MIN_ROOM: Final = 40  # characters of a value, below which elements of lists and members of objects are left out
MARK_ROOM: Final = 40  # characters of the mark for what was left out
LEFT_OUT: Final = "left_out"
EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})


def fit_lines(objects: Sequence[Any], room: int) -> Sequence[Any]:
    """Returns objects that have at most *room* characters of JSON, each on a line.

    What is too long lacks its middle: a text has `[... 812 characters were left out ...]` there, a list, as the lines
    themselves, `{"left_out": 30}`. What is shorter than its share leaves the rest to the others.
    """
    return list(_fit_all(objects, room))


def fit(value: Any, room: int) -> Any:
    """Returns a value whose JSON has at most *room* characters, if that is enough for its mark."""
    text = json.dumps(value)
    if len(text) <= room:
        return value
    if isinstance(value, dict):
        return _fit_members(value, room)
    if isinstance(value, list | tuple):
        return list(_fit_all(value, room - 2))
    return _fit_text(value if isinstance(value, str) else text, room)


def _fit_text(text: str, room: int) -> str:
    """Returns a text without its middle. Its JSON may have six characters for one."""
    kept = max(room - MARK_ROOM - 12, 0) * len(text) // len(json.dumps(text))
    while kept > 0:
        head, tail = text[: (kept + 1) // 2], text[len(text) - kept // 2 :]
        shorter = f"{head}[... {len(text) - kept} characters were left out ...]{tail}"
        if len(json.dumps(shorter)) <= room:
            return shorter
        kept = kept * 3 // 4
    return "…"


def _fit_all(values: Sequence[Any], room: int) -> Iterator[Any]:
    """Yields values without those in the middle for which there is no room; the others share it."""
    sizes = [len(json.dumps(value)) + 2 for value in values]
    if sum(sizes) <= room:
        yield from values
        return
    count = max((room - MARK_ROOM) // MIN_ROOM, 0)
    if count >= len(values):
        yield from (fit(value, share - 2) for value, share in zip(values, shares(sizes, room), strict=True))
        return
    head, tail = (count + 1) // 2, len(values) - count // 2
    ends = [*range(head), *range(tail, len(values))]
    fitted = [
        fit(values[index], share - 2)
        for index, share in zip(ends, shares([sizes[index] for index in ends], room - MARK_ROOM), strict=True)
    ]
    yield from fitted[:head]
    yield {LEFT_OUT: tail - head}
    yield from fitted[head:]


def _fit_members(value: dict[str, Any], room: int) -> dict[str, Any]:
    """Returns an object whose members share the room; where it is too small, without empty ones, then the last ones."""
    sizes = {name: len(json.dumps(member)) for name, member in value.items()}
    needs = {name: len(json.dumps(name)) + 4 + min(size, MIN_ROOM) for name, size in sizes.items()}
    free = room - MARK_ROOM
    in_order = sorted(value, key=lambda name: value[name] in EMPTY)
    while in_order and sum(map(needs.__getitem__, in_order)) > free:
        in_order.pop()
    kept = [name for name in value if name in in_order]
    free -= sum(len(json.dumps(name)) + 4 for name in kept)
    fitted = zip(kept, shares([sizes[name] for name in kept], free), strict=True)
    members = {name: fit(value[name], share) for name, share in fitted}
    return members if len(kept) == len(value) else members | {LEFT_OUT: len(value) - len(kept)}


def shares(sizes: Sequence[int], room: int) -> list[int]:
    """Returns how much of the room each has: the smallest first, since what they don't need is for the others."""
    found = [0] * len(sizes)
    for index, number in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        found[number] = min(sizes[number], room // (len(sizes) - index))
        room -= found[number]
    return found
