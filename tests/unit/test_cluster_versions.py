"""Versions: what is said of a cluster whose versions are not ours."""

from importlib.metadata import version

import pytest

from dotflow.errors import ClusterError
from dotflow.providers.executors.cluster.protocol import Versions, check_versions, versions_here

HERE = {"Python": "3.11", "dotflow": "1.0", "cloudpickle": "3.1", "ray": "2.60"}


def check(there: dict[str, Versions]) -> list[str]:
    """Returns the lines of the log."""
    said: list[str] = []
    check_versions("The cluster", HERE, there, said.append, "ray")
    return said


def test_equal_versions_are_not_reported() -> None:
    """Neither of those that have all of it in our versions, nor where there is nobody."""
    assert check({"a": dict(HERE), "b": dict(HERE)}) == []
    assert check({}) == []


def test_another_python_or_dotflow_is_refused() -> None:
    """The error names both versions, the places and the cure."""
    old = {**HERE, "Python": "3.13", "dotflow": "not installed", "ray": "2.59"}
    with pytest.raises(ClusterError) as caught:
        check({"tcp://a": old, "tcp://b": dict(HERE), "tcp://c": old, "tcp://d": {**HERE, "dotflow": "0.9"}})

    assert str(caught.value) == (
        "The cluster has other versions: Python 3.13 (here 3.11), dotflow not installed (here 1.0) on tcp://a, "
        "tcp://c; dotflow 0.9 (here 1.0) on tcp://d. "
        "Install the same there as here, dotflow from the same place and with its extra [ray]."
    )


def test_another_version_of_a_package_is_reported() -> None:
    """One sentence for all who differ alike, which says what to do."""
    (one,) = check({"a": {**HERE, "cloudpickle": "2.2"}, "b": {**HERE, "cloudpickle": "2.2"}})
    two = check({"a": {**HERE, "cloudpickle": "2.2"}, "b": {**HERE, "ray": "2.59"}})

    assert one.startswith("Versions differ: cloudpickle 2.2 (here 3.1) on a, b.")
    assert one.endswith("install the same.")
    assert len(two) == 2


def test_a_thousand_places_fit_into_a_line() -> None:
    """Three are named, the others counted."""
    (sentence,) = check({f"w{place}": {**HERE, "ray": "2.59"} for place in range(1000)})

    assert "w0, w1, w2 and 997 more" in sentence


def test_the_versions_of_this_process() -> None:
    """Python without its patch level, and packages."""
    found = versions_here("pytest")

    assert found.keys() == {"Python", "dotflow", "cloudpickle", "pytest"}
    assert found["cloudpickle"] == version("cloudpickle")
    assert found["Python"].count(".") == 1
