"""notification_type: one status, several, or all."""

import pytest

from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument
from dotflow.providers.notifiers.message import status_filter


def test_none_is_all() -> None:
    """Without a choice every status is sent."""
    assert status_filter(None) == set(TypeStatus)


@pytest.mark.parametrize("value", [TypeStatus.IN_PROGRESS, "In progress", "in progress", "IN_PROGRESS"])
def test_one_status_may_be_written_in_many_ways(value: str) -> None:
    """The status, its value or its name, in any case."""
    assert status_filter(value) == {TypeStatus.IN_PROGRESS}


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_several(kind: type) -> None:
    """A list, a tuple or a set of statuses and texts."""
    assert status_filter(kind([TypeStatus.FAILED, "retry"])) == {TypeStatus.FAILED, TypeStatus.RETRY}


@pytest.mark.parametrize(
    "value", ["", "done", 5, True, [], (), ["Failed", "done"], ["Failed", None], [["Failed"]], {"a": 1}]
)
def test_an_unknown_status_is_refused(value: object) -> None:
    """The error has the value and all accepted ones; an empty collection is refused, too."""
    with pytest.raises(InvalidArgument) as caught:
        status_filter(value)

    assert repr(value) in str(caught.value)
    assert all(status.value in str(caught.value) for status in TypeStatus)
