"""Run parameters that are secrets: which these are, what fills them, and what does not have them."""

from typing import Any

import pytest

from dotflow import Config, DotFlow, Secret, action
from dotflow.core.masks import Masks, digest_of_secret
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument, SecretMissing
from dotflow.graph.params import run_id_of
from dotflow.graph.run_secrets import secret_params

GIVEN = "given-to-the-run"
FOUND = "found-in-the-config"


@action
def takes(token: str) -> str:
    return token


@action
def takes_secret(token: str = Secret("API_TOKEN")) -> str:
    return token


@action
def takes_all(params: dict[str, Any]) -> list[str]:
    return sorted(params)


def workflow_of(*steps: Any, params: dict[str, Any], **config: Any) -> DotFlow:
    workflow = DotFlow(Config(**config), params=params)
    for step in steps:
        workflow.task.add(step)
    return workflow


@pytest.mark.parametrize("default", [Secret("API_TOKEN"), ..., None, "of-the-code"])
def test_a_parameter_is_a_secret_if_it_is_declared_as_one_or_fills_one(default: object) -> None:
    workflow = workflow_of(takes_secret, takes, params={"token": default, "day": "mon"})

    assert list(secret_params(workflow.params, workflow.task)) == ["token"]
    assert not secret_params({"token": ...}, workflow_of(takes, params={"token": ...}).task)


@pytest.mark.parametrize("step", [takes, takes_secret])
def test_a_value_of_the_run_comes_first(step: Any) -> None:
    """Then comes what is found as for any secret."""
    workflow = workflow_of(step, params={"token": Secret("API_TOKEN")}, secrets={"API_TOKEN": FOUND})

    assert workflow.start(params={"token": GIVEN}).value(step) == GIVEN
    assert workflow.start().value(step) == FOUND
    assert workflow.start(params={"token": ""}).value(step) == FOUND
    assert workflow.start(params={"token": None}).value(step) == FOUND


def test_a_secret_that_is_neither_given_nor_found_is_missing() -> None:
    """The error names the step, the parameter and the secret."""
    workflow = workflow_of(takes, params={"token": Secret("NO_SUCH_VARIABLE")})

    with pytest.raises(SecretMissing) as raised:
        workflow.start()
    assert raised.value.missing == (("takes", "token", "NO_SUCH_VARIABLE"),)


def test_params_has_no_secrets() -> None:
    """A history keeps copies of arguments."""
    workflow = workflow_of(takes_all, takes, params={"token": Secret("API_TOKEN"), "day": "mon"})

    assert workflow.start(params={"token": GIVEN}).value(takes_all) == ["day"]


def test_a_wrong_value_is_not_shown() -> None:
    with pytest.raises(InvalidArgument, match=r"params\['token'\]='list' is not accepted"):
        workflow_of(takes, params={"token": Secret("API_TOKEN")}).start(params={"token": [GIVEN]})


def test_a_condition_on_a_secret_knows_only_whether_it_holds() -> None:
    """No checkpoint has a digest of the secret."""
    workflow = DotFlow(params={"token": Secret("API_TOKEN", default="x" * 9)})
    workflow.task.add(takes, name="one", when={"token": GIVEN})
    workflow.task.add(takes, name="other", unless={"token": GIVEN})
    run = workflow.start(params={"token": GIVEN})

    assert run.value("one") == GIVEN
    assert run["other"].status is TypeStatus.SKIPPED
    assert GIVEN not in run["other"].reason


def test_a_fallback_takes_the_secret_of_the_run() -> None:
    @action
    def breaks(token: str) -> str:
        raise ValueError(token)

    workflow = DotFlow(params={"token": Secret("API_TOKEN")})
    workflow.task.add(breaks, fallback=takes)

    assert workflow.start(params={"token": GIVEN}).value(breaks) == GIVEN


def test_items_of_a_map_take_the_secret_of_the_run() -> None:
    @action
    def fetch(page: int, token: str) -> str:
        return f"{page} {token}"

    workflow = DotFlow(params={"token": Secret("API_TOKEN")})
    workflow.task.add(fetch, each={"page": [1, 2]})

    assert workflow.start(params={"token": GIVEN}).value(fetch) == [f"1 {GIVEN}", f"2 {GIVEN}"]


@pytest.mark.parametrize(("outer", "expected"), [({"token": ...}, GIVEN), ({}, FOUND)])
def test_an_added_workflow_takes_the_secret(outer: dict[str, Any], expected: str) -> None:
    """It is that of the run where this has such a parameter, and else what is found."""
    inner = workflow_of(takes, params={"token": Secret("API_TOKEN")})
    workflow = DotFlow(Config(secrets={"API_TOKEN": FOUND}), params={**outer, "day": "mon"})
    workflow.task.add(inner.task, name="inner")
    workflow.task.add(takes_secret)
    run = workflow.start(params={"token": GIVEN} if outer else None)

    assert run.value("inner.takes") == expected
    assert run.value(takes_secret) == expected


def test_an_added_workflow_takes_the_value_of_a_task() -> None:
    """Then it is a value of the run like others."""

    @action
    def log_in() -> str:
        return GIVEN

    workflow = DotFlow()
    workflow.task.add(log_in)
    inner = workflow_of(takes, params={"token": Secret("NO_SUCH_VARIABLE")})
    workflow.task.add(inner.task, name="inner", needs={"token": "log_in"})

    assert workflow.start().value("inner.takes") == GIVEN


def test_a_digest_names_a_secret() -> None:
    """It is the same in every process, and another one for each parameter and workflow."""
    run_id = run_id_of("nightly", {"token": GIVEN, "day": "mon"}, {"token"})

    assert run_id == "nightly@day=mon,token=7ffed6dec4e67956c10ec21a108266dd"
    assert run_id_of("weekly", {"token": GIVEN}, {"token"}).partition("=")[2] not in run_id
    assert run_id_of("nightly", {"token": ..., "day": "mon"}, {"token"}) == "nightly@day=mon"
    assert run_id_of("nightly", {"token": None}, {"token"}) == "nightly"


@pytest.mark.parametrize("value", [GIVEN, f"https://me:{GIVEN}@host", [GIVEN], {"a": {"b": GIVEN}}])
def test_a_digest_names_a_value_with_a_secret(value: object) -> None:
    """A mask knows it, so no id shows it."""
    masks = Masks([GIVEN])

    assert GIVEN not in run_id_of("nightly", {"url": value}, (), masks)
    assert run_id_of("nightly", {"url": value}, (), masks) != run_id_of("nightly", {"url": GIVEN[1:]}, (), masks)


def test_two_ids_with_two_secrets_are_two() -> None:
    first, second = Masks(["first-secret", "second-secret"]).mask_id("of-first-secret"), "of-second-secret"

    assert first == f"of-{digest_of_secret('of-first-secret', '')}"
    assert first != Masks(["first-secret", "second-secret"]).mask_id(second)
    assert Masks(["first-secret"]).mask_id("nightly") == "nightly"


def test_a_plan_masks_the_type_of_an_error() -> None:
    """A value of the definition may raise any, when a condition compares it."""

    class Default:
        def __bool__(self) -> bool:
            raise type(GIVEN, (Exception,), {})

    workflow = DotFlow(Config(secrets={"API_TOKEN": GIVEN}), params={"ready": Default()})
    workflow.task.add(takes_secret, when="ready")

    assert "its conditions raised ***" in str(workflow.plan())
