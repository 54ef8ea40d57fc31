"""NotifyTelegram over HTTP: requests, retries and timeouts."""

import http.client
import json
import os
import pickle
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from dotflow import DotFlow, Task, action
from dotflow.abc.log import Log
from dotflow.core.task import RunTask
from dotflow.core.types.status import TypeStatus
from dotflow.errors import NotifyError
from dotflow.providers import NotifyTelegram
from dotflow.providers.notifiers.telegram import notifier as telegram_notifier
from tests.loopback import (
    CERTIFICATE,
    TOKEN,
    Answer,
    Received,
    Server,
    drips,
    hangs_up,
    ok,
    pours,
    refuses,
    says,
    serving,
    silence,
)

MakeWorkflow = Callable[..., DotFlow]
CHAT = -1001234567890


def telegram(server: Server, timeout: float = 10, **arguments: object) -> NotifyTelegram:
    """Returns a notifier for that server, with a long timeout unless the test is about it."""
    return NotifyTelegram(TOKEN, CHAT, timeout=timeout, base_url=server.url, **arguments)  # type: ignore[arg-type]


def task_with(message: str = "", status: TypeStatus = TypeStatus.COMPLETED) -> Task:
    """Returns a task with *message* in its workflow's id."""
    task = RunTask(0, action(lambda: None), workflow_id=f"w {message}")
    task.status = status
    return task


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the delays between tries short."""
    monkeypatch.setattr(telegram_notifier, "RETRY_DELAYS", (0.01, 0.01))
    monkeypatch.setattr(telegram_notifier, "MIN_DELAY", 0.01)


class Reports(Log):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.reports: list[str] = []

    def info(self, task: Task) -> None: ...

    def error(self, task: Task) -> None: ...

    def report(self, message: str) -> None:
        self.reports.append(message)


class TestRequests:
    def test_the_bot_api_gets_a_message(self) -> None:
        """sendMessage with chat and plain text, without previews of links."""
        with serving() as server:
            telegram(server).send(task_with("nightly"))

        (received,) = server.received
        assert received.path == f"/bot{TOKEN}/sendMessage"
        assert received.headers["content-type"] == "application/json"
        assert received.json == {
            "chat_id": CHAT,
            "text": "✅ Completed: task 0 <lambda>\nworkflow w nightly\nrestored from its checkpoint",
            "link_preview_options": {"is_disabled": True},
        }

    @pytest.mark.parametrize(
        "message",
        [
            "<b>&amp;</b> *_`[x](y) {} $$ %s",
            "é 中文 😀 \u202e \x00 \x1b[31m",
            "lone \udc80 \ud800",
            'quotes " \\ \n\t',
            "x" * 100_000,
        ],
        ids=["markup", "letters", "surrogates", "quotes", "long"],
    )
    def test_no_text_breaks_the_message(self, message: str) -> None:
        """There is no markup to break; surrogates are escaped, and a long text is truncated."""
        with serving() as server:
            telegram(server).send(task_with(message))

        text = server.texts[0]
        assert text.encode()  # no lone surrogate is left
        assert len(text.encode("utf-16-le")) <= 2 * 4096
        assert message.encode("utf-8", "replace").decode()[:5].replace("?", "") in text

    @pytest.mark.parametrize("statuses", ["Failed", TypeStatus.FAILED, ["failed", "RETRY"]])
    def test_other_statuses_are_not_sent(self, statuses: object) -> None:
        """notification_type takes one or several."""
        with serving() as server:
            notify = telegram(server, notification_type=statuses)
            notify.send(task_with(status=TypeStatus.COMPLETED))
            notify.send(task_with(status=TypeStatus.IN_PROGRESS))
            notify.send(task_with(status=TypeStatus.FAILED))

        assert len(server.received) == 1
        assert "Failed" in server.texts[0]

    def test_the_proxy_of_the_environment_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Many servers reach Telegram only through one."""
        with serving() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:pass@"))
            monkeypatch.setenv("no_proxy", "")
            NotifyTelegram(TOKEN, CHAT, base_url="http://bot.invalid").send(task_with())

        (received,) = proxy.received
        assert received.path == f"http://bot.invalid/bot{TOKEN}/sendMessage"
        assert received.headers["proxy-authorization"] == "Basic bWU6cGFzcw=="

    @pytest.mark.parametrize("proxy", ["socks5h://me:pass@127.0.0.1:1", "http://me:pass@127.0.0.1:port"])
    def test_a_proxy_that_can_not_be_used_is_an_error(
        self, proxy: str, monkeypatch: pytest.MonkeyPatch, quick: None
    ) -> None:
        """The message does not show its address, which may hold a password."""
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "")

        with pytest.raises(NotifyError, match="the proxy that the environment names") as caught:
            NotifyTelegram(TOKEN, CHAT, base_url="http://bot.invalid").send(task_with())

        assert "me:pass" not in str(caught.value)


class TestRetries:
    @pytest.mark.parametrize(
        "trouble",
        [
            refuses(500, "Internal Server Error"),
            says(502, b"<html>Bad Gateway</html>"),
            says(503, b"", Retry_After="0.05"),
            refuses(429, "Too Many Requests", retry_after=0.05),
            says(429, b"", Retry_After="0.05"),
            hangs_up,
            says(500, b"\xff\x00"),
            pytest.param(drips(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"), marks=pytest.mark.slow),
        ],
        ids=["500", "502", "503", "429", "429 header", "hangs up", "binary", "drip"],
    )
    def test_trouble_passes(self, trouble: Answer, quick: None, request: pytest.FixtureRequest) -> None:
        """The next try delivers the message."""
        with serving(trouble, ok) as server:
            telegram(server, timeout=2 if "drip" in request.node.name else 30).send(task_with())

        assert len(server.received) == 2
        assert server.texts[0] == server.texts[1]

    def test_retry_after_is_kept(self) -> None:
        """No message is sent before the delay that Telegram names has passed."""
        with serving(refuses(429, "Too Many Requests: retry after 1", retry_after=0.3), ok) as server:
            notify = telegram(server)
            other = threading.Thread(target=notify.send, args=(task_with("other"),))
            notify.send(task_with())
            other.start()
            other.join()

        first, second, third = server.received
        assert second.at - first.at >= 0.3
        assert "w other" in third.json["text"]

    def test_delays_that_telegram_names_allow_more_tries(self, quick: None) -> None:
        """There are more tries than after other failures, since Telegram names the delay."""
        with serving(*[refuses(429, "Too Many Requests", retry_after=0.01)] * 8, ok) as server:
            telegram(server).send(task_with())

        assert len(server.received) == 9

    def test_the_time_of_one_message_is_limited(self, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where Telegram names one short delay after the other."""
        monkeypatch.setattr(telegram_notifier, "MAX_WAIT", 0.3)
        with (
            serving(refuses(429, "Too Many Requests", retry_after=0.001)) as server,
            pytest.raises(NotifyError, match="accepts no message for the next 1 s"),
        ):
            telegram(server).send(task_with())

        assert len(server.received) > 1

    def test_a_long_delay_fails_at_once(self) -> None:
        """A delay of hours fails this message and the following ones, without a request."""
        with serving(refuses(429, "Too Many Requests: retry after 3600", retry_after=3600), ok) as server:
            notify = telegram(server)
            for _ in range(3):
                with pytest.raises(NotifyError, match=r"no message for the next 3600 s.*notification_type"):
                    notify.send(task_with())

        assert len(server.received) == 1

    @pytest.mark.parametrize("trouble", [refuses(500, "Internal Server Error"), hangs_up], ids=["500", "hangs up"])
    def test_trouble_that_stays_is_an_error(self, trouble: Answer, quick: None) -> None:
        """After three tries the error has the reason."""
        with serving(trouble) as server, pytest.raises(NotifyError, match=r"500, Internal|connection failed"):
            telegram(server).send(task_with())

        assert len(server.received) == 3

    def test_a_refused_connection(self, quick: None) -> None:
        """The error has the system's reason."""
        with serving() as server:
            url = server.url
        with pytest.raises(NotifyError, match="Connection refused"):
            NotifyTelegram(TOKEN, CHAT, base_url=url).send(task_with())

    def test_no_such_host(self, quick: None) -> None:
        """The error names the cause, without the host."""
        for host in ("no-such-host.invalid", f"{'a' * 70}.invalid"):
            with pytest.raises(NotifyError, match="the connection failed") as caught:
                NotifyTelegram(TOKEN, CHAT, base_url=f"http://{host}").send(task_with())

            assert host not in str(caught.value)

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (refuses(400, "Bad Request: chat not found"), "chat not found.*write to the bot first"),
            (refuses(401, "Unauthorized"), "401, Unauthorized.*Check the token"),
            (refuses(403, "Forbidden: bot was blocked by the user"), "blocked by the user.*start it"),
            (refuses(404, "Not Found"), "404, Not Found.*Check the token"),
            (says(200, b"<html>Log in to the network</html>"), "not that the message was sent.*network"),
            (pours, "not that the message was sent.*network"),
        ],
        ids=["400", "401", "403", "404", "portal", "gigabyte"],
    )
    def test_a_rejection_is_final(self, answer: Answer, words: str) -> None:
        """There is one try; the error has Telegram's reason and a hint."""
        with serving(answer) as server, pytest.raises(NotifyError, match=words) as caught:
            telegram(server).send(task_with())

        assert len(server.received) == 1
        assert caught.value.__context__ is None

    def test_a_redirect_is_not_followed(self) -> None:
        """The token would be sent along."""
        with (
            serving() as elsewhere,
            serving(says(302, b"", Location=f"{elsewhere.url}/")) as server,
            pytest.raises(NotifyError, match="answered 302"),
        ):
            telegram(server).send(task_with())

        assert elsewhere.received == []
        assert len(server.received) == 1

    def test_an_echoed_path_is_masked(self) -> None:
        """A proxy may repeat the path in its response."""
        with (
            serving(refuses(404, f"no page /bot{TOKEN}/sendMessage")) as server,
            pytest.raises(NotifyError, match=r"no page /bot\*\*\*/sendMessage"),
        ):
            telegram(server).send(task_with())


class TestTimeouts:
    @pytest.mark.parametrize(
        "answer",
        [
            silence,
            drips(b"HTTP/1.1 200 OK\r\nX-Slow: "),
            drips(b"", byte=b"H"),
            drips(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"),
            drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", byte=b"1\r\nx\r\n"),
        ],
        ids=["silence", "head", "first line", "body", "chunks"],
    )
    def test_the_timeout_covers_the_whole_response(self, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The timeout ends silence and a slow response; it does not start again with each byte."""
        monkeypatch.setattr(telegram_notifier, "RETRY_DELAYS", ())
        with serving(answer) as server:
            began = time.monotonic()
            with pytest.raises(NotifyError, match=r"no answer within 0\.3 s"):
                telegram(server, timeout=0.3).send(task_with())

            assert time.monotonic() - began >= 0.3

    def test_a_run_does_not_wait_for_silence(self, make_workflow: MakeWorkflow) -> None:
        """The run is over after the grace, and the log has the number of messages that were not sent."""
        log = Reports()
        with serving(silence) as server:
            workflow = make_workflow(log=log, notify=telegram(server, timeout=10), notify_grace=0.1)
            workflow.task.add([action(lambda: 1), action(lambda: 2)])
            run = workflow.start()

        assert run.status is TypeStatus.COMPLETED
        assert "one notification still hangs, 3 more were not sent" in log.reports[0]

    def test_an_interpreter_does_not_wait_for_it_either(self) -> None:
        """With a delay of 30 s and a grace of 0.2 s the program ends, and logs what was not sent."""
        program = textwrap.dedent(
            """
            import sys
            from dotflow import Config, DotFlow, action
            from dotflow.providers import LogDefault, NotifyTelegram
            notify = NotifyTelegram(sys.argv[1], 5, base_url=sys.argv[2])
            workflow = DotFlow(Config(notify=notify, log=LogDefault(output="console"), notify_grace=0.2))
            workflow.task.add(action(lambda: 1))
            print(workflow.start().status)
            """
        )
        with serving(refuses(429, "Too Many Requests: retry after 30", retry_after=30)) as server:
            ended = subprocess.run(
                [sys.executable, "-W", "error", "-c", program, TOKEN, server.url],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                capture_output=True,
                text=True,
                timeout=28,
            )

        assert (ended.returncode, ended.stdout) == (0, "Completed\n")
        assert "one notification still hangs, 1 more were not sent" in ended.stderr
        assert TOKEN not in ended.stderr

    def test_nothing_is_lost_at_a_normal_end(self, make_workflow: MakeWorkflow) -> None:
        """Every status of every task has been sent, in order, when start() returns."""
        with serving() as server:
            workflow = make_workflow(notify=telegram(server), notify_grace=15)
            workflow.task.add([action(lambda: 1)] * 25)
            workflow.start()

        assert [text.partition(":")[0][2:].strip(" \ufe0f") for text in server.texts] == [
            "In progress",
            "Completed",
        ] * 25
        assert len({json.dumps(received.json) for received in server.received}) == 50


class TestTls:
    """HTTPS, as with the real Bot API."""

    @pytest.fixture(autouse=True)
    def trust(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))

    def test_a_message_gets_there(self, caplog: pytest.LogCaptureFixture) -> None:
        """No log shows the token."""
        caplog.set_level(1)
        with serving(tls=True) as server:
            telegram(server).send(task_with())

        assert [received.path for received in server.received] == [f"/bot{TOKEN}/sendMessage"]
        assert TOKEN not in caplog.text

    @pytest.mark.parametrize(
        "answer", [silence, drips(b"HTTP/1.1 200 OK\r\nX-Slow: ")], ids=["silence", "a byte now and then"]
    )
    def test_the_timeout_covers_the_whole_response(self, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same with TLS."""
        monkeypatch.setattr(telegram_notifier, "RETRY_DELAYS", ())
        with serving(answer, tls=True) as server, pytest.raises(NotifyError, match=r"no answer within 0\.3 s"):
            telegram(server, timeout=0.3).send(task_with())

    def test_a_proxy_passes_it_on_unread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It receives the host, and neither path nor message."""
        with serving(tls=True) as server, serving() as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            monkeypatch.setenv("no_proxy", "")
            telegram(server).send(task_with())

        assert len(server.received) == 1
        assert [asked.path for asked in proxy.received] == [f"127.0.0.1:{server.port}"]

    def test_an_untrusted_server_gets_no_token(self, monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
        """The certificate is verified first, even if a program turned that off for http.client."""
        monkeypatch.delenv("SSL_CERT_FILE")
        monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
        with serving(tls=True) as server, pytest.raises(NotifyError, match=r"no secure connection.*certificate"):
            telegram(server).send(task_with())

        assert server.received == []


class TestProcesses:
    def test_it_works_where_a_pickle_takes_it(self) -> None:
        """A copy sends messages, too."""
        with serving() as server:
            notify = telegram(server)
            notify.send(task_with("here"))
            pickle.loads(pickle.dumps(notify)).send(task_with("there"))

        assert ["w here" in text for text in server.texts] == [True, False]

    def test_a_copy_is_not_blocked(self) -> None:
        """The delay is a time on this machine's clock."""
        with serving(refuses(429, "Too Many Requests", retry_after=3600), ok) as server:
            notify = telegram(server)
            with pytest.raises(NotifyError, match="3600 s"):
                notify.send(task_with())
            pickle.loads(pickle.dumps(notify)).send(task_with("there"))

        assert "w there" in server.texts[1]

    def test_several_runs_may_share_one(self, make_workflow: MakeWorkflow) -> None:
        """From several threads at once."""
        with serving() as server:
            notify = telegram(server)
            workflows = [
                make_workflow(notify=notify, notify_grace=15, workflow_id=f"number {number}") for number in range(4)
            ]
            for workflow in workflows:
                workflow.task.add([action(lambda: 1)] * 5)
            runs = [workflow.start(mode="background") for workflow in workflows]
            assert all(run.wait(45) for run in runs)

        received: list[Received] = server.received
        for number in range(4):
            assert sum(f"workflow number {number}" in received.json["text"] for received in received) == 10


@pytest.mark.slow
def test_debug_output_has_no_token(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """http.client prints requests if a program sets its debuglevel; nothing is logged either."""
    caplog.set_level(1)
    monkeypatch.setattr("http.client.HTTPConnection.debuglevel", 1)

    def odd(handler: object) -> None:
        handler.wfile.write(b'HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 12\r\n\r\n{"ok": true}')  # type: ignore[attr-defined]

    with serving(odd, hangs_up, ok) as server:
        notify = telegram(server)
        notify.send(task_with())
        notify.send(task_with())
        other = http.client.HTTPConnection("127.0.0.1", server.port)
        other.request("POST", "/printed")
        other.close()

    printed = capfd.readouterr()
    assert "/printed" in printed.out  # the setting has an effect
    assert TOKEN not in f"{caplog.text}{printed.out}{printed.err}{[vars(record) for record in caplog.records]}"
