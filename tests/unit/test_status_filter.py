"""What notification_type means: one status, several, or all."""

import pytest

from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument
from dotflow.providers.notifiers.status_filter import status_filter


def test_none_is_all() -> None:
    """Who does not choose is told of everything."""
    assert status_filter(None) == set(TypeStatus)


@pytest.mark.parametrize("given", [TypeStatus.IN_PROGRESS, "In progress", "in progress", "IN_PROGRESS", "in-progress"])
def test_one_status_may_be_said_in_many_ways(given: str) -> None:
    """The status, its word or its name, in any case."""
    assert status_filter(given) == {TypeStatus.IN_PROGRESS}


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_several(kind: type) -> None:
    """A list, a tuple or a set of statuses and words."""
    assert status_filter(kind([TypeStatus.FAILED, "retry"])) == {TypeStatus.FAILED, TypeStatus.RETRY}


@pytest.mark.parametrize(
    "given", ["", "done", 5, True, [], (), ["Failed", "done"], ["Failed", None], [["Failed"]], {"a": 1}]
)
def test_what_is_no_status_is_refused(given: object) -> None:
    """With what came and all that is accepted; no status at all is a mistake too."""
    with pytest.raises(InvalidArgument) as caught:
        status_filter(given)

    assert repr(given) in str(caught.value)
    assert all(status.value in str(caught.value) for status in TypeStatus)
