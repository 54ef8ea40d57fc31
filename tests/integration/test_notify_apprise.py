"""NotifyApprise with Apprise's own JSON target, over HTTP."""

import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

import pytest

from dotflow import DotFlow, Task, action
from dotflow.core.task import RunTask
from dotflow.core.types.status import TypeStatus
from dotflow.errors import NotifyError
from dotflow.providers import NotifyApprise
from tests.loopback import Handler, Server, ok, refuses, serving, silence

MakeWorkflow = Callable[..., DotFlow]
SECRET = "hunter2-secret"


def url_of(server: Server, more: str = "") -> str:
    return f"json://user:{SECRET}@127.0.0.1:{server.port}/{SECRET}/{more}"


def task_with(message: str = "", status: TypeStatus = TypeStatus.COMPLETED) -> Task:
    """Returns a task with *message* in its workflow's id."""
    task = RunTask(0, action(lambda: None), workflow_id=f"w {message}")
    task.status = status
    return task


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (TypeStatus.IN_PROGRESS, "info"),
        (TypeStatus.COMPLETED, "success"),
        (TypeStatus.RETRY, "warning"),
        (TypeStatus.FAILED, "failure"),
        (TypeStatus.PAUSED, "info"),
    ],
)
def test_a_status_has_its_title_and_its_kind(status: TypeStatus, kind: str) -> None:
    """The headline is the title; services choose a colour or an icon by the kind."""
    with serving() as server:
        NotifyApprise(url_of(server)).send(task_with("nightly", status))

    (received,) = server.received
    assert received.json["type"] == kind
    assert f"{status.value}: task 0" in received.json["title"]
    assert "workflow w nightly" in received.json["message"]


@pytest.mark.parametrize("message", ["<b>&amp;</b> *_`[x](y) {}", "é 中文 😀", "lone \udc80", 'quotes " \\ \\n'])
def test_no_text_breaks_the_message(message: str) -> None:
    """It arrives as it is, with surrogates escaped."""
    with serving() as server:
        NotifyApprise(url_of(server)).send(task_with(message))

    assert message.replace("\udc80", "\\udc80") in server.received[0].json["message"]


def test_services_with_markup_get_it_escaped() -> None:
    """For a service that shows HTML, markup in an error is escaped."""
    with serving() as server:
        NotifyApprise(url_of(server, "?format=html")).send(task_with("<b>&"))

    assert "&lt;b&gt;&amp;" in server.received[0].json["message"]


def test_a_long_message_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the length that the service takes; by default Apprise would let the service reject it."""
    from apprise.plugins.custom_json import NotifyJSON

    monkeypatch.setattr(NotifyJSON, "body_maxlen", 100)
    with serving() as server:
        NotifyApprise(url_of(server)).send(task_with("x" * 1000))
        assert len(server.received) == 1
        NotifyApprise(url_of(server, "?overflow=split")).send(task_with("x" * 250))

    assert len(server.received) > 1 + 2  # the URL decides
    assert [received for received in server.received if len(received.json["message"]) > 100] == []


def test_one_of_several_is_down() -> None:
    """The others get the message, and the error names the one that failed, without its address."""
    with serving() as gone:
        down = url_of(gone)
    with serving() as first, serving(refuses(503, SECRET)) as third, serving() as last:
        notify = NotifyApprise([url_of(first), down, url_of(third), url_of(last)])
        with pytest.raises(NotifyError) as caught:
            notify.send(task_with())

    assert len(first.received) == len(last.received) == 1
    assert "JSON (URL 2 of 4) was not reached" in str(caught.value)
    assert "JSON (URL 3 of 4) answered 503" in str(caught.value)
    assert "URL 1 of 4" not in str(caught.value)
    assert "the others have it" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_one_that_hangs_does_not_delay_the_others() -> None:
    """All get the message at the same time."""
    sent = threading.Event()

    def answers_and_sets(handler: Handler) -> None:
        ok(handler)
        sent.set()

    with serving(silence) as hanging, serving(answers_and_sets) as server:
        notify = NotifyApprise([url_of(hanging, "?rto=10"), url_of(server)])
        sending = threading.Thread(target=notify.send, args=(task_with(),), daemon=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, "excepthook", lambda args: None)  # from the service that hung
            sending.start()
            assert sent.wait(60)
            assert sending.is_alive()
            hanging.over.set()
            sending.join(45)


def test_a_service_whose_code_breaks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the type of the exception; its message may hold a secret."""
    from apprise.plugins.custom_json import NotifyJSON

    def breaks(*arguments: object, **options: object) -> bool:
        raise RuntimeError(SECRET)

    with serving() as server:
        notify = NotifyApprise(url_of(server))
        monkeypatch.setattr(NotifyJSON, "send", breaks)
        with pytest.raises(NotifyError, match=r"JSON (raised|was not reached, or rejected)") as caught:
            notify.send(task_with())

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("statuses", ["Failed", TypeStatus.FAILED, ("failed", "RETRY")])
def test_other_statuses_are_not_sent(statuses: object) -> None:
    """notification_type takes one or several."""
    with serving() as server:
        notify = NotifyApprise(url_of(server), notification_type=statuses)  # type: ignore[arg-type]
        for status in (TypeStatus.IN_PROGRESS, TypeStatus.COMPLETED, TypeStatus.FAILED):
            notify.send(task_with(status=status))

    assert [received.json["type"] for received in server.received] == ["failure"]


def test_it_works_where_a_pickle_takes_it() -> None:
    """A copy makes its own services."""
    with serving() as server:
        notify = NotifyApprise([url_of(server)], "Completed")
        pickle.loads(pickle.dumps(notify)).send(task_with())

    assert len(server.received) == 1


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("count", [1, 2])
def test_an_interpreter_does_not_wait_for_a_service_that_hangs(count: int) -> None:
    """With a grace of 0.2 s the program ends, and no thread of Apprise's prevents it."""
    program = textwrap.dedent(
        """
        import sys
        from dotflow import Config, DotFlow, action
        from dotflow.providers import LogDefault, NotifyApprise
        notify = NotifyApprise(sys.argv[1:])
        workflow = DotFlow(Config(notify=notify, log=LogDefault(output="console"), notify_grace=0.2))
        workflow.task.add(action(lambda: 1))
        print(workflow.start().status)
        """
    )
    with serving(silence) as server:
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", program, *[url_of(server, "?rto=60")] * count],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=45,
        )

    assert (ended.returncode, ended.stdout) == (0, "Completed\n"), ended.stderr
    assert "one notification still hangs, 1 more were not sent" in ended.stderr
    assert SECRET not in ended.stderr


def test_a_run_sends_everything_in_order(make_workflow: MakeWorkflow) -> None:
    """Each of several services gets all messages; a failure of one does not affect another."""
    with serving(ok, refuses(500, "no"), ok) as first, serving() as second:
        workflow = make_workflow(notify=NotifyApprise([url_of(first), url_of(second)]))
        workflow.task.add([action(lambda: 1)] * 5)
        workflow.start()

    for server in (first, second):
        assert [received.json["type"] for received in server.received] == ["info", "success"] * 5
