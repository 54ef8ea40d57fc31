"""Ledger: what a storage may return after what trials have done with it."""

from typing import Any

import pytest

from dotflow.testing.crash.ledger import ABSENT, UNREADABLE, Ledger

OLD, NEW = ["", None, "one/1", "", {}, ""], ["", None, "two/1", "", {}, ""]


def post(version: Any, *, done: bool = True) -> list[tuple[Any, ...]]:
    return [("post", "w/0", version, [0, None], "w"), *[("posted", "w/0")] * done]


def delete(*, done: bool = True) -> list[tuple[Any, ...]]:
    return [("delete", "w/0"), *[("deleted", "w/0")] * done]


def clear(workflow_id: str = "w", *, done: bool = True) -> list[tuple[Any, ...]]:
    return [("clear", workflow_id), *[("cleared", workflow_id)] * done]


def found(operations: list[tuple[Any, ...]], *versions: Any) -> dict[str, set[Any]]:
    """Returns what the ledger says about a storage that returns these versions one after the other."""
    ledger = Ledger()
    ledger.follow(operations)
    findings = ledger.follow([("get", "w/0", version) for version in versions])
    names = ("lost", "stale", "altered", "valid")
    return {name: getattr(findings, name) for name in names if getattr(findings, name)}


@pytest.mark.parametrize(
    ("operations", "version", "finding"),
    [
        (post(OLD), OLD, "valid"),
        (post(OLD), None, "valid"),
        (post(OLD), ABSENT, "lost"),
        (post(OLD), UNREADABLE, "lost"),
        (post(OLD), NEW, "altered"),
        ([*post(OLD), *post(NEW)], OLD, "altered"),
        ([*post(OLD), *delete()], ABSENT, ""),
        ([*post(OLD), *delete()], OLD, "stale"),
        ([*post(OLD), *clear()], ABSENT, ""),
        ([*post(OLD), *clear()], OLD, "stale"),
        ([*post(OLD), *clear("other")], OLD, "valid"),
        ([*post(OLD), *clear("other")], ABSENT, "lost"),
        ([*post(OLD), *clear(), *post(NEW)], NEW, "valid"),
        (post(None), None, "valid"),
        (post(None), ABSENT, "lost"),
    ],
)
def test_an_operation_that_has_returned_counts(operations: Any, version: Any, finding: str) -> None:
    """What it saved is there, what it deleted is not."""
    assert found(operations, version) == ({finding: {(0, None)}} if finding else {})


@pytest.mark.parametrize(
    "operations",
    [
        [*post(OLD), *post(NEW, done=False)],
        [*post(OLD), *delete(done=False), *post(NEW, done=False)],
    ],
)
def test_after_a_kill_either_may_be_there(operations: Any) -> None:
    """Also half of it, which can't be read."""
    for version in (OLD, NEW):
        assert found(operations, version) == {"valid": {(0, None)}}
    assert found(operations, UNREADABLE) == {}


@pytest.mark.parametrize("operations", [[*post(OLD), *delete(done=False)], [*post(OLD), *clear(done=False)]])
def test_after_a_kill_in_a_deletion_it_may_be_gone(operations: Any) -> None:
    """Or be there still, but be no other one."""
    assert found(operations, OLD) == {"valid": {(0, None)}}
    assert found(operations, ABSENT) == {}
    assert found(operations, NEW) == {"altered": {(0, None)}}


def test_a_version_that_was_read_once_stays() -> None:
    """After a kill, a storage can't return one version and then the other."""
    operations = [*post(OLD), *post(NEW, done=False)]

    assert found(operations, NEW, NEW) == {"valid": {(0, None)}}
    assert found(operations, NEW, OLD)["altered"] == {(0, None)}


@pytest.mark.parametrize("version", [ABSENT, OLD, None, UNREADABLE])
def test_a_key_that_no_trial_has_written_may_have_anything(version: Any) -> None:
    """An earlier program may have left it."""
    assert "lost" not in found([], version)
    assert "lost" not in found(post(NEW, done=False), version)


def test_a_value_that_is_no_checkpoint_has_its_key_as_its_name() -> None:
    """And no clear() deletes it."""
    ledger = Ledger()
    ledger.follow([("post", "@cache/step/1", None, None, "w"), ("posted", "@cache/step/1"), *clear()])

    assert ledger.follow([("get", "@cache/step/1", ABSENT)]).lost == {"@cache/step/1"}


def test_a_checkpoint_that_the_trial_deletes_is_not_valid() -> None:
    """So its step may run again."""
    ledger = Ledger()
    ledger.follow(post(OLD))

    assert ledger.follow([("get", "w/0", OLD), *delete()]).valid == set()
