"""Objects that fit into a number of characters."""

import json

from hypothesis import given
from hypothesis import strategies as st

from dotflow.cli.fitting import LEFT_OUT, fit_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=2000),
    lambda inner: st.lists(inner, max_size=200) | st.dictionaries(st.text(max_size=60), inner, max_size=60),
    max_leaves=300,
)


def printed(lines: object) -> str:
    """Returns objects as the command line prints them."""
    return "".join(f"{json.dumps(line)}\n" for line in lines)


@given(st.lists(VALUES, max_size=300), st.integers(1000, 20_000))
def test_whatever_it_is_it_fits(objects: list[object], room: int) -> None:
    """JSON of at most so many characters, and all of it where that is enough."""
    fitted = fit_lines(objects, room)

    assert len(printed(fitted)) <= room
    if len(printed(objects)) <= room:
        assert list(fitted) == objects


def test_long_texts_and_lists_lack_their_middle() -> None:
    """The beginning and the end stay, and what is left out is counted."""
    (text,) = fit_lines(["a" * 5000 + "z"], 1000)
    lines = fit_lines([{"number": number} for number in range(1000)], 1000)

    assert text.startswith("aaa")
    assert text.endswith("az")
    head, tail = text.partition("[")[0], text.rpartition("]")[2]
    assert f"[... {5001 - len(head) - len(tail)} characters were left out ...]" in text
    (mark,) = [line for line in lines if LEFT_OUT in line]
    assert (lines[0], lines[-1]) == ({"number": 0}, {"number": 999})
    assert mark == {LEFT_OUT: 1000 - len(lines) + 1}


def test_what_is_short_leaves_its_room_to_the_others() -> None:
    """One long text among many short members is cut no more than it must be."""
    (fitted,) = fit_lines([{"traceback": "line\n" * 1000, **{f"name{number}": number for number in range(20)}}], 2000)

    assert len(json.dumps(fitted)) > 1800
    assert fitted["name19"] == 19


def test_where_members_have_no_room_empty_ones_go_first() -> None:
    """Then the last ones."""
    row = {"task_id": 0, "group": "", "cpu": None, "name": "n" * 30, "state": "s" * 30, "late": "l" * 30}

    fitted = fit_lines([row] * 7, 1000)

    assert [list(line) for line in fitted] == [["task_id", "name", "state", LEFT_OUT]] * 7
