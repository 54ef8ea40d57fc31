"""Secrets: who fills them, from where, what is missing, and where they never are."""

import copy
import inspect
import json
import pickle
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest

from dotflow import Config, Context, DotFlow, Secret, action
from dotflow.code.fingerprint import fingerprint
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.masks import Masks
from dotflow.errors import InvalidArgument, InvalidProvider, SecretMissing, UnknownParameter
from dotflow.graph.run_secrets import RunSecrets, SecretSource, find_secrets
from dotflow.worker.attempt import attempt
from dotflow.worker.loops import Loops


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "of-the-environment")
    for name in ("DB_PASSWORD", "NOT_THERE"):
        monkeypatch.delenv(name, raising=False)


@action
def sync(token: str = Secret("API_TOKEN")) -> str:
    return token


@action
def load(rows: int = 1, *, password: str = Secret("DB_PASSWORD", default="")) -> tuple[int, str]:
    return rows, password


@action
class Report:
    def __init__(self, password: str = Secret("DB_PASSWORD")) -> None:
        self.password = password

    @action
    def fetch(self, token: str = Secret("API_TOKEN")) -> str:
        return f"{self.password} {token}"

    @action
    def send(self, fetch: str, key: str = Secret("NOT_THERE")) -> str:
        return f"{fetch} {key}"


def found(workflow: DotFlow, source: Any = None, mask: tuple[str, ...] = ()) -> RunSecrets:
    return find_secrets(workflow.task, SecretSource(source), mask)


def workflow_of(*steps: Any, **options: Any) -> DotFlow:
    workflow = DotFlow()
    for step in steps:
        workflow.task.add(step, **options)
    return workflow


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (None, "of-the-environment"),
        ({"API_TOKEN": "of-the-mapping"}, "of-the-mapping"),
        (MappingProxyType({"API_TOKEN": "of-the-mapping"}), "of-the-mapping"),
        ({"API_TOKEN": ""}, "of-the-environment"),
        ({}, "of-the-environment"),
        (lambda name: f"of-the-function, {name}", "of-the-function, API_TOKEN"),
        (lambda name: None, "of-the-environment"),
    ],
)
def test_a_secret_is_found_in_config_then_in_the_environment(source: Any, value: str) -> None:
    """Config(secrets=) comes first, as a mapping or a function; an empty text counts as none."""
    assert found(workflow_of(sync), source).by_task.get(0) == {"API_TOKEN": value}


def test_a_default_is_the_last_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default counts where neither Config nor the environment has the secret."""
    assert found(workflow_of(load)).by_task.get(0) == {"DB_PASSWORD": ""}
    monkeypatch.setenv("DB_PASSWORD", "hunter22")
    assert found(workflow_of(load)).by_task.get(0) == {"DB_PASSWORD": "hunter22"}


def test_all_missing_secrets_are_named_at_once() -> None:
    """The error lists each step, parameter and name, also those of the actions of a class and of a fallback."""
    workflow = workflow_of(Report)
    workflow.task.add(action(lambda other=Secret("NOT_THERE"): other), name="first", fallback=Report)

    with pytest.raises(SecretMissing) as caught:
        workflow.start()

    assert caught.value.missing == (
        ("Report", "password", "DB_PASSWORD"),
        ("Report.send", "key", "NOT_THERE"),
        ("<lambda>", "other", "NOT_THERE"),
    )
    for other in (workflow.plan, workflow.check_start):
        with pytest.raises(SecretMissing, match="DB_PASSWORD"):
            other()


def test_a_secret_is_looked_up_once() -> None:
    """However many steps take it, the source is asked once."""
    asked = []

    def source(name: str) -> str:
        asked.append(name)
        return "x" * 10

    found(workflow_of(sync, sync, Report), source, mask=("API_TOKEN",))

    assert sorted(asked) == ["API_TOKEN", "DB_PASSWORD", "NOT_THERE"]


def test_another_source_of_the_parameter_comes_first() -> None:
    """A task or a run parameter of the name fills the parameter, and a run needs no secret then."""

    @action
    def password() -> str:
        return "of-the-task"

    @action
    def use(password: str = Secret("NOT_THERE"), day: str = Secret("NOT_THERE")) -> str:
        return f"{password} {day}"

    workflow = DotFlow(params={"day": "monday"})
    workflow.task.add(password).add(use)
    workflow.start()

    assert workflow.result_storage()[-1] == "of-the-task monday"


def attempted(step: Any, secrets: dict[str, str] | None, **arguments: Any) -> Any:
    given = arguments or None
    call = Call(0, 0, step, Context(), Context(), "w", arguments=given, secrets=secrets)
    return attempt(call, Loops())


def test_the_step_receives_plain_texts() -> None:
    """Values arrive as str, beside other arguments, which come first."""
    assert attempted(sync, {"API_TOKEN": "abc"}).value == "abc"
    assert attempted(load, {"DB_PASSWORD": "abc"}, rows=7).value == (7, "abc")
    assert attempted(load, {"DB_PASSWORD": "abc"}, password="other").value == (1, "other")
    assert attempted(sync, {}).failure.exception == "SecretMissing"


def test_classes_and_their_actions_receive_secrets() -> None:
    """The __init__ of a class and its actions are filled alike."""
    step = Report.__dotflow_action__  # type: ignore[attr-defined]
    values = {"DB_PASSWORD": "one", "API_TOKEN": "two", "NOT_THERE": "three"}

    outcome = attempted(step, values)

    assert [context.storage for context in outcome.value] == ["one two", "one two three"]


def test_a_method_of_an_instance_receives_secrets() -> None:
    """An action that is bound to an instance is a step like any other."""
    workflow = workflow_of(Report("hunter22").fetch)
    workflow.start()

    assert workflow.result_storage() == ["hunter22 of-the-environment"]


def test_an_instance_that_a_step_returns_has_no_secrets() -> None:
    """dotflow learns of its class only in the attempt, which fails rather than passing something else."""
    step = action(lambda: Report("password"))

    assert "API_TOKEN for 'token' of step 'Report.fetch'" in attempted(step, None).failure.message


def test_an_action_that_is_called_fills_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain call takes them from the environment, unless they are passed, by name or position."""
    assert sync() == "of-the-environment"
    assert (sync("mine"), sync(token="mine")) == ("mine", "mine")
    assert load(2) == (2, "")
    report = Report("hunter22")
    assert report.fetch() == "hunter22 of-the-environment"
    with pytest.raises(SecretMissing, match="NOT_THERE for 'key'"):
        report.send("x")
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        sync(tokn="mine")  # type: ignore[call-arg]


def test_a_secret_that_is_not_filled_is_no_text() -> None:
    """A plain function, or a class that is called by hand, gets no text that it could send somewhere."""
    secret = inspect.signature(Report.__init__).parameters["password"].default

    with pytest.raises(TypeError, match=r"Secret\('DB_PASSWORD'\) was used as a text"):
        f"Bearer {Report().password}"
    assert repr(secret) == "Secret('DB_PASSWORD')"
    assert "Secret('API_TOKEN')" in str(inspect.signature(sync.function))


@pytest.mark.parametrize("make", [pickle.dumps, cloudpickle.dumps])
def test_a_pickle_has_no_secret(make: Callable[[object], bytes]) -> None:
    """Neither a pickled step nor a pickled signature has the value or the default."""
    step = action(lambda token=Secret("API_TOKEN", default="my-default"): token)
    secret = Secret("API_TOKEN", default="my-default")
    sync()

    pickled = make(secret) + make(sync) + cloudpickle.dumps(step)

    assert b"my-default" not in pickled
    assert b"of-the-environment" not in pickled
    assert copy.deepcopy(secret).default == "my-default"


def test_the_fingerprint_has_the_name_only() -> None:
    """Another name is other code; another default, or another value, is not."""

    def step_with(secret: Any) -> str:
        def step(token: str = secret) -> str:
            return token

        return fingerprint(action(step))

    assert step_with(Secret("A")) == step_with(Secret("A", default="b")) != step_with(Secret("B"))


def test_no_repr_shows_a_secret() -> None:
    """Neither the run's secrets nor a call nor a Config shows a value."""
    secrets = found(workflow_of(sync))
    call = Call(0, 0, sync, Context(), Context(), "w", secrets=secrets.by_task.get(0))
    config = Config(secrets={"API_TOKEN": "of-the-mapping"})

    shown = f"{secrets!r}{secrets.masks!r}{call!r}{config!r}{vars(config)}{secrets.by_task.get(0)}"

    assert "of-the" not in shown
    assert "of-the" not in json.dumps([secrets], default=repr)  # as error reporters show the variables of a frame


@pytest.mark.parametrize(
    ("source", "mask", "masked"),
    [
        (None, (), "of-the-environment"),
        ({"API_TOKEN": "of-the-mapping"}, (), "of-the-mapping"),
        ({"OTHER": "another-of-the-dict"}, (), "another-of-the-dict"),
        (None, ("EDITOR_OF_MINE",), "some-editor"),
        (None, (), "a-deploy-key-of-the-environment"),
    ],
)
def test_secrets_are_masked(source: Any, mask: tuple[str, ...], masked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secrets of steps, those of a dict, those of `mask`, and variables that are secret by their names."""
    monkeypatch.setenv("EDITOR_OF_MINE", "some-editor")
    monkeypatch.setenv("DEPLOY_PRIVATE_KEY", "a-deploy-key-of-the-environment")

    secrets = found(workflow_of(sync), source, mask)

    assert secrets.masks.mask(f"<{masked}>") == "<***>"
    assert secrets.notes == []


def test_unmasked_secrets_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short secret, and an entry of `mask` that names nothing; the entry is not shown, since it may be a secret."""
    monkeypatch.setenv("API_TOKEN", "abc")

    short, unknown = found(workflow_of(sync), None, ("HOME", "s3cret-itself")).notes

    assert "API_TOKEN has fewer than 4 characters" in short
    assert "entry 2" in unknown
    assert "s3cret" not in unknown


def test_failures_are_masked_in_message_and_traceback() -> None:
    """The message at once, the traceback when it is formatted, also in what chains and notes add."""

    def fail() -> None:
        try:
            raise KeyError("of-the-environment")
        except KeyError as error:
            error.add_note("note: of-the-environment")
            raise ValueError("bad token of-the-environment") from error

    with pytest.raises(ValueError, match="bad token") as caught:
        fail()

    failure = Failure.of(caught.value).masked(Masks(["of-the-environment"]))

    assert failure.message == "bad token ***"
    assert "of-the-environment" not in failure.traceback
    assert "note: ***" in failure.traceback
    assert pickle.loads(pickle.dumps(failure)).traceback == failure.traceback


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_secret_has_a_name(name: Any) -> None:
    """The name is a text that is not empty."""
    with pytest.raises(InvalidArgument, match="name of an environment variable"):
        Secret(name)


def test_wrong_types_are_refused_without_showing_them() -> None:
    """A default, a source, a value or a mask of the wrong type is refused; no message has the value."""
    workflow = workflow_of(sync)
    with pytest.raises(InvalidArgument) as default:
        Secret("A", default=b"s3cret")  # type: ignore[arg-type]
    with pytest.raises(InvalidProvider) as source:
        Config(secrets=b"s3cret")  # type: ignore[arg-type]
    with pytest.raises(InvalidProvider) as value:
        found(workflow, {"API_TOKEN": b"s3cret"})
    with pytest.raises(InvalidArgument) as mask:
        Config(mask=(b"s3cret",))  # type: ignore[arg-type]

    assert not any("s3cret" in str(caught.value) for caught in (default, source, value, mask))
    assert "'API_TOKEN'" in str(value.value)


def test_an_error_of_the_source_names_the_secret() -> None:
    """What the function raises passes through, with a note on the secret."""

    def source(name: str) -> str:
        raise ConnectionError("the vault is closed")

    with pytest.raises(ConnectionError) as caught:
        found(workflow_of(sync), source)

    assert caught.value.__notes__ == ["Config(secrets=...) was asked for 'API_TOKEN'."]


def test_a_secret_can_be_passed_by_name() -> None:
    """A positional-only parameter can't be filled, so it is refused at `add`."""

    @action
    def step(token: str = Secret("API_TOKEN"), /) -> str:
        return token

    with pytest.raises(UnknownParameter, match="Remove the '/'"):
        workflow_of(step)


def test_a_secret_is_no_value_of_a_run() -> None:
    """The value of a parameter names the run, and an initial context is digested, so neither may be a Secret."""
    with pytest.raises(InvalidArgument, match="default of a step's parameter"):
        DotFlow(params={"token": ...}).start(params={"token": Secret("API_TOKEN")})
    with pytest.raises(InvalidArgument, match="default of a step's parameter"):
        DotFlow().task.add(sync, initial_context=Secret("API_TOKEN"))


@pytest.mark.parametrize("returned", ["of-the-environment", None])
def test_a_masked_value_stays_exact(returned: str | None) -> None:
    """Results are values of the user's, so they are not masked."""
    workflow = workflow_of(action(lambda token=Secret("API_TOKEN"): returned and token))
    workflow.start()

    assert workflow.result_storage() == [returned]
