"""Versions: what is said of a cluster whose versions are not ours."""

import pickle
import sys
from importlib.metadata import version

import cloudpickle  # type: ignore[import-untyped]
import pytest

from dotflow.providers.executors.cluster.protocol import differences, make_describe

HERE = {"Python": "3.11", "dotflow": "1.0", "cloudpickle": "3.1"}


def test_equal_versions_are_not_reported() -> None:
    """Neither of those that have all of it in our versions, nor where there is nobody."""
    assert differences(HERE, {"a": dict(HERE), "b": dict(HERE)}) == []
    assert differences(HERE, {}) == []


def test_both_versions_and_the_places_are_named() -> None:
    """One sentence for all who differ alike, which says what to do."""
    old = {**HERE, "Python": "3.13", "dotflow": "not installed"}
    (sentence,) = differences(HERE, {"tcp://a": old, "tcp://b": dict(HERE), "tcp://c": old})

    assert "Python 3.13 (here 3.11), dotflow not installed (here 1.0) on tcp://a, tcp://c" in sentence
    assert sentence.endswith("install the same.")


def test_other_differences_are_other_sentences() -> None:
    """A mixed cluster is told of whole."""
    found = differences(HERE, {"a": {**HERE, "Python": "3.12"}, "b": {**HERE, "cloudpickle": "2.2"}})

    assert len(found) == 2


def test_a_thousand_places_fit_into_a_line() -> None:
    """Three are named, the others counted."""
    (sentence,) = differences(HERE, {f"w{place}": {**HERE, "Python": "3.12"} for place in range(1000)})

    assert "w0, w1, w2 and 997 more" in sentence


def test_the_description_has_python_and_packages() -> None:
    """Python without its patch level, and packages, which may be missing."""
    found = make_describe("nowhere_to_be_found")()

    assert found["cloudpickle"] == version("cloudpickle")
    assert found["nowhere_to_be_found"] == "not installed"
    assert found["Python"].count(".") == 1


def test_the_description_is_made_where_dotflow_is_missing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It travels by value, and so can say that it is missing."""
    sent = cloudpickle.dumps(make_describe("x"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "dotflow"]:
        monkeypatch.setitem(sys.modules, name, None)

    assert pickle.loads(sent)()["x"] == "not installed"
