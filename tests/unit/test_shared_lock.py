"""SharedLock: the first run of a process acquires, the last one releases, and an interrupt loses nothing."""

import pytest

from dotflow.abc.shared_lock import SharedLock


class Resource:
    """Counts how often it was acquired and released."""

    def __init__(self) -> None:
        self.acquired = self.released = 0


class Recorded(SharedLock[Resource]):
    """A lock whose resources are kept for the test.

    Args:
        key: What is locked.
        made: The resources so far.
    """

    interrupted = ""

    def __init__(self, key: str, made: list[Resource]) -> None:
        super().__init__(key)
        self.made = made

    def make(self) -> Resource:
        self.made.append(Resource())
        return self.made[-1]

    def acquire(self, resource: Resource) -> None:
        resource.acquired += 1
        self._interrupt("acquire")

    def release(self, resource: Resource) -> None:
        resource.released += 1
        self._interrupt("release")

    def _interrupt(self, method: str) -> None:
        if self.interrupted == method:
            self.interrupted = ""
            raise KeyboardInterrupt


class Another(Recorded):
    """A lock of another kind."""


@pytest.fixture
def made() -> list[Resource]:
    return []


def counts(made: list[Resource]) -> list[tuple[int, int]]:
    return [(resource.acquired, resource.released) for resource in made]


def test_the_first_acquires_and_the_last_releases(made: list[Resource]) -> None:
    """Whichever leaves first. Until then, the key leads to the resource."""
    first, second = Recorded("w", made), Recorded("w", made)

    assert first.__enter__() == second.__enter__() == "w"
    assert first.resource is second.resource is Recorded.held("w")
    first.__exit__()
    assert counts(made) == [(1, 0)]
    second.__exit__()
    assert counts(made) == [(1, 1)]
    assert Recorded.held("w") is None


def test_leaving_again_does_nothing(made: list[Resource]) -> None:
    """Neither after the last one has left, nor while another is in it."""
    first, second = Recorded("w", made), Recorded("w", made)
    first.__exit__()
    first.__enter__()
    second.__enter__()
    for _ in range(3):
        first.__exit__()

    assert counts(made) == [(1, 0)]
    second.__exit__()
    second.__exit__()
    assert counts(made) == [(1, 1)]


def test_other_keys_and_other_classes_share_nothing(made: list[Resource]) -> None:
    """A key means something within its class."""
    with Recorded("w", made), Recorded("v", made), Another("w", made):
        assert len(made) == 3


def test_an_interrupt_while_acquiring_releases(made: list[Resource]) -> None:
    """It may be acquired already; the next one acquires it anew."""
    lock = Recorded("w", made)
    lock.interrupted = "acquire"

    with pytest.raises(KeyboardInterrupt):
        lock.__enter__()
    assert counts(made) == [(1, 1)]
    assert Recorded.held("w") is None
    with lock:
        assert counts(made) == [(1, 1), (1, 0)]


@pytest.mark.parametrize("leaves_again", [True, False])
def test_an_interrupt_while_releasing_loses_nothing(made: list[Resource], leaves_again: bool) -> None:
    """Leaving can be repeated; otherwise the next one to enter releases first."""
    lock = Recorded("w", made)
    lock.__enter__()
    lock.interrupted = "release"

    with pytest.raises(KeyboardInterrupt):
        lock.__exit__()
    if leaves_again:
        lock.__exit__()
    with Recorded("w", made):
        assert counts(made) == [(1, 2), (1, 0)]
