"""Secrets appear nowhere: they are searched for in everything that a failing run leaves.

A provider that takes a secret has one entry in CASES: how to make one that fails, and its secrets.
"""

import base64
import contextlib
import io
import logging
import pickle
import pprint
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dotflow import Config, DotFlow, action
from dotflow.abc.history import History
from dotflow.abc.storage import Storage
from dotflow.core.events import Event
from dotflow.providers import LogDefault, NotifyApprise, NotifyTelegram, StorageGCS, StoragePostgres, StorageS3
from tests.clouds.fake_server import Response as Reply
from tests.clouds.fake_server import serve_responses
from tests.clouds.postgres import PostgresProcess
from tests.clouds.settings import S3_SETTINGS
from tests.loopback import Answer, hangs_up, refuses, says, serving

TOKEN = "987654:BBq-Secret_Token/of+bot"
PASSWORD = "s3cret-Pa55word"
PATH = "s3cret-Path"

Left = list[str]
Offer = Callable[[str], dict[str, Any]]
"""Returns arguments of Config, from the address of a server that rejects everything."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A provider that fails.

    Args:
        offer: Makes the arguments of Config.
        secrets: The secrets, which must not be found in any spelling.
        trace: A text that is found if the provider was used and failed.
    """

    offer: Offer
    secrets: tuple[str, ...]
    trace: str


CASES = {
    "telegram": Case(
        offer=lambda url: {"notify": NotifyTelegram(TOKEN, 5, base_url=url)},
        secrets=(TOKEN,),
        trace="NotifyError: Telegram did not deliver the message",
    ),
    "apprise": Case(
        offer=lambda url: {"notify": NotifyApprise(f"{url.replace('http', 'json')}/{PATH}?+X-Key={PASSWORD}")},
        secrets=(PASSWORD, PATH),
        trace="NotifyError: Apprise did not deliver the message",
    ),
    "apprise, user and password": Case(
        offer=lambda url: {
            "notify": NotifyApprise([f"{url.replace('http://', 'json://user:' + PASSWORD + '@')}/{PATH}"] * 2)
        },
        secrets=(PASSWORD, PATH, f"user:{PASSWORD}"),
        trace="JSON (URL 2 of 2)",
    ),
}

#: The server's answers.
ANSWERS: dict[str, Answer] = {
    "refuses": refuses(403, f"Forbidden: /bot{TOKEN}/{PATH} {PASSWORD}"),
    "hangs up": hangs_up,
    "redirects": says(307, b"", Location="/elsewhere"),
    "is no API": says(502, f"<html>{TOKEN} {PATH} {PASSWORD}".encode(), Set_Cookie="a=b"),
}


class Recorder(History):
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, run_id: str, event: Event) -> None:
        self.events.append(event)


def spellings(secret: str) -> set[str]:
    """Returns a secret as text, in a URL, in a repr, in a header, and its most valuable part."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {
        secret,
        quote(secret),
        quote(secret, safe=""),
        repr(secret)[1:-1],
        encoded,
        secret.partition(":")[2] or secret,
    }


@contextlib.contextmanager
def everything_is_logged(least: int = 1) -> Iterator[io.StringIO]:
    """Collects the records of all loggers from the *least* level on, also of those that don't propagate."""
    text = io.StringIO()

    class Everything(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text.write(f"{self.format(record)}\n{vars(record)}\n")

    root, handler = logging.getLogger(), Everything(0)
    loggers = [root, *(logging.getLogger(name) for name in list(logging.root.manager.loggerDict))]
    levels = [(logger, logger.level) for logger in loggers]
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(least)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        for logger, level in levels:
            logger.setLevel(level)


@contextlib.contextmanager
def searched(capfd: pytest.CaptureFixture[str], secrets: tuple[str, ...], trace: str, least: int = 1) -> Iterator[Left]:
    """Collects what a run leaves, and searches it together with all logs, warnings and output.

    Fails if a secret is found in any spelling, or no trace of the failure.
    """
    left: Left = []
    with everything_is_logged(least) as logged, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield left
    printed = capfd.readouterr()
    everything = "\n".join([*left, logged.getvalue(), *map(str, warned), printed.out, printed.err])
    assert trace in everything
    assert [spelling for spelling in all_spellings(secrets) if spelling in everything] == []


def all_spellings(secrets: tuple[str, ...]) -> set[str]:
    return set().union(*map(spellings, secrets))


def everything_in_error(error: BaseException) -> str:
    """Returns all that an error tracker may show: traceback, variables of the frames, and pickle."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False)
    return f"{''.join(shown.format())}{error!r}{vars(error)}{pickle.dumps(error)!r}"


def all_that_is_left(offer: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yields everything that a run leaves whose steps and providers fail."""

    @action(retry=2, retry_delay=0)
    def fails() -> None:
        raise ValueError("the step's own error")

    for format in ("simple", "json"):
        file, history = folder / f"{format}.log", Recorder()
        config = Config(log=LogDefault(path=file, format=format, level="DEBUG"), history=history, **offer)
        workflow = DotFlow(config, workflow_id="w")
        workflow.task.add([fails, action(lambda: 1)])
        yield f"{config!r}{vars(config)}{workflow!r}{vars(workflow)}"
        try:
            run = workflow.start(keep_going=True)
        except Exception as error:  # a storage that can't be reached stops a run before it begins
            yield everything_in_error(error)
        else:
            yield f"{run!r}{vars(run)}{pprint.pformat(run.tasks)}"
            yield f"{workflow.result()!r}{workflow.result().model_dump_json()}"
            yield "".join(f"{task.errors}{error.traceback}" for task in run.tasks for error in task.errors)
        yield pprint.pformat(history.events)
        yield file.read_text() if file.exists() else ""
    for provider in offer.values():
        yield f"{provider!r}{provider}{pprint.pformat(vars(provider))}"
        if hasattr(provider, "send"):
            with contextlib.suppress(IndexError):
                try:
                    provider.send(workflow.result_task()[0])
                except Exception as error:
                    yield everything_in_error(error)


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_secrets_are_nowhere(
    case: Case, answer: Answer, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In no log, error, repr, result, traceback, event, warning or output, for any failure of the server."""
    monkeypatch.setattr("dotflow.providers.notifiers.telegram.notifier.RETRY_DELAYS", (0.01,))
    monkeypatch.setattr("dotflow.providers.notifiers.telegram.notifier.MIN_DELAY", 0.01)
    with serving(answer) as server, searched(capfd, case.secrets, case.trace) as left:
        left += all_that_is_left(case.offer(server.url), tmp_path)

    assert any("the step's own error" in part for part in left)
    # The secrets were in use.
    sent = "".join(f"{request.path}{request.headers}" for request in server.received)
    assert [spelling for spelling in all_spellings(case.secrets) if spelling in sent] != []


#: Storages that a server rejects: how to make one from the server's address, its environment, and its secrets.
STORAGES: dict[str, tuple[Callable[[str], Storage], Callable[[str, Path], dict[str, str]], tuple[str, ...]]] = {
    "s3": (
        lambda url: StorageS3("values"),
        lambda url, folder: {**S3_SETTINGS, "AWS_ENDPOINT_URL": url},
        (S3_SETTINGS["AWS_SECRET_ACCESS_KEY"], S3_SETTINGS["AWS_SESSION_TOKEN"], "Signature="),
    ),
    "gcs": (
        lambda url: StorageGCS("values"),
        lambda url, folder: {"GOOGLE_APPLICATION_CREDENTIALS": str(key_file(folder, url))},
        (PASSWORD, PATH),
    ),
}


def key_file(folder: Path, url: str) -> Path:
    """Writes a damaged key of a service account."""
    path = folder / "key.json"
    key = f"-----BEGIN PRIVATE KEY-----\\n{PASSWORD}\\n-----END PRIVATE KEY-----\\n"
    path.write_text(
        f'{{"type": "service_account", "project_id": "p", "private_key_id": "{PATH}", "private_key": "{key}", '
        f'"client_email": "a@b.c", "token_uri": "{url}/token"}}'
    )
    return path


@pytest.mark.parametrize("answer", [403, 500, 0], ids=["refuses", "is broken", "says nothing"])
@pytest.mark.parametrize("name", STORAGES)
def test_secrets_of_storages_are_nowhere(
    name: str, answer: int, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is refused before its first step. The SDKs' own debug logs are not kept back."""
    make, environment, secrets = STORAGES[name]
    monkeypatch.setattr("dotflow.providers.storages.buckets.s3.READ_TIMEOUT", 0.1)
    with (
        serve_responses(
            Reply(answer, f"<Error><Code>AccessDenied</Code><Message>{PASSWORD}</Message></Error>")
        ) as server,
        searched(capfd, secrets, "StorageError", logging.INFO) as left,
    ):
        for variable, value in environment(server.url, tmp_path).items():
            monkeypatch.setenv(variable, value)
        left += all_that_is_left({"storage": make(server.url)}, tmp_path)


#: Why a database can't be used: changes of the DSN, and libpq's reason.
REFUSALS: dict[str, tuple[dict[str, str], str]] = {
    "wrong password": ({}, "password authentication failed"),
    "no server": ({"port": "1"}, "Connection refused"),
}


@pytest.mark.parametrize("in_url", [True, False], ids=["in the URL", "in the environment"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_secrets_of_databases_are_nowhere(
    refusal: str,
    in_url: bool,
    postgres_server: PostgresProcess,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run is refused before its first step, with the reason of the server or the system, without the password."""
    postgres_server.order("start")  # an earlier test may have stopped it
    changes, reason = REFUSALS[refusal]
    password = f"{PASSWORD}/?%@:"  # which has to be quoted in a URL
    dsn = postgres_server.dsn(password, **changes)
    if not in_url:
        monkeypatch.setenv("PGPASSWORD", password)
        dsn = dsn.replace(f":{quote(password, safe='')}@", "@")
    with searched(capfd, (password, PASSWORD), reason) as left:
        left += all_that_is_left({"storage": StoragePostgres(dsn)}, tmp_path)

    assert any("StorageError" in part for part in left)
    assert not any("the step's own error" in part for part in left)


def test_the_search_finds_a_secret(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A provider with a secret in its error is found, in the log and in the frames."""
    from dotflow.abc.notify import Notify
    from dotflow.core.task import Task

    class Talks(Notify):
        def send(self, task: Task) -> None:
            password = PASSWORD
            raise OSError(f"can't reach http://user@{password}/")

    with everything_is_logged() as logged:
        left = list(all_that_is_left({"notify": Talks()}, tmp_path))
        logging.getLogger("apprise").debug("a %s", PATH)

    assert sum(PASSWORD in part for part in left) >= 3  # both logs, and the error itself
    assert PASSWORD in capfd.readouterr().err
    assert PATH in logged.getvalue()
