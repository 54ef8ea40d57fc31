"""What a log and a notifier receive, and that nothing they do changes a run."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Task, action
from dotflow.abc.log import Log
from dotflow.abc.notify import Notify, RunMessage
from dotflow.core.types import TypeStatus
from dotflow.engine.notifier import Notifier
from dotflow.errors import InvalidArgument, NotifyError
from dotflow.providers import ExecutorProcess, HistorySQLite, LogDefault, NotifyApprise, NotifyDefault, NotifyTelegram
from tests.loopback import TOKEN, Server, refuses, serving, silence

MakeWorkflow = Callable[..., DotFlow]


class MyLog(Log):
    """A log with the two required methods."""

    def __init__(self, breaks: Exception | None = None) -> None:
        self.lines: list[tuple[str, int, str, int]] = []
        self.reports: list[str] = []
        self.breaks = breaks

    def write(self, kind: str, task: Task) -> None:
        self.lines.append((kind, task.task_id, str(task.status), len(task.errors)))
        if self.breaks:
            raise self.breaks

    def info(self, task: Task) -> None:
        self.write("info", task)

    def error(self, task: Task) -> None:
        self.write("error", task)

    def report(self, message: str) -> None:
        self.reports.append(message)


class MyNotify(Notify):
    """Calls *hook*, and keeps the tasks."""

    def __init__(self, hook: Callable[[Task], Any] = lambda task: None) -> None:
        self.calls: list[tuple[int, str, int]] = []
        self.hook = hook

    def send(self, task: Task) -> None:
        self.calls.append((task.task_id, str(task.status), task.attempt))
        self.hook(task)


class KeywordLog(Log):
    """A log whose methods take any keyword arguments."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, str]] = []

    def info(self, **kwargs: Any) -> None:
        task = kwargs["task"]
        self.lines.append(("info", task.task_id, str(task.status)))

    def error(self, **kwargs: Any) -> None:
        task = kwargs.get("task")
        assert task is not None
        self.lines.append(("error", task.task_id, str(task.status)))


class NamedTaskLog(KeywordLog):
    """A log whose methods take `task` by name only."""

    def info(self, *, task: Task) -> None:
        super().info(task=task)

    def error(self, *, task: Task, **more: Any) -> None:
        super().error(task=task, **more)


class TaskAndMoreLog(KeywordLog):
    """A log whose methods take the task and further arguments."""

    def info(self, task: Task, **more: Any) -> None:
        assert more == {}
        super().info(task=task)

    def error(self, task: Task, **more: Any) -> None:
        assert more == {}
        super().error(task=task)


class ExtendedLogDefault(LogDefault):
    """A subclass of LogDefault."""

    def __init__(self) -> None:
        super().__init__(output="console")
        self.seen: list[str] = []

    def info(self, **kwargs: Any) -> None:
        self.seen.append(str(kwargs["task"].status))
        super().info(**kwargs)


class KeywordNotify(Notify):
    def __init__(self) -> None:
        self.calls: list[tuple[int, str]] = []

    def send(self, **kwargs: Any) -> None:
        self.calls.append((kwargs["task"].task_id, str(kwargs["task"].status)))


class Flaky:
    """Fails a number of times, then works."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> str:
        if self.left:
            self.left -= 1
            raise ValueError("not yet")
        return "done"


def three_tasks(workflow: DotFlow) -> DotFlow:
    """Adds a task that works, one that works at the second attempt, and one that fails."""
    workflow.task.add(action(lambda: 1))
    workflow.task.add(action(retry=2, retry_delay=0)(Flaky(1)))
    workflow.task.add(action(lambda: 1 / 0))
    return workflow


class TestLog:
    def test_every_change_of_status_is_logged(self, make_workflow: MakeWorkflow) -> None:
        """Failed attempts go to error and other changes to info, in order, with the updated task."""
        log = MyLog()

        three_tasks(make_workflow(log=log)).start()

        assert log.lines == [
            ("info", 0, "In progress", 0),
            ("info", 0, "Completed", 0),
            ("info", 1, "In progress", 0),
            ("error", 1, "Retry", 1),
            ("info", 1, "In progress", 1),
            ("info", 1, "Completed", 1),
            ("info", 2, "In progress", 0),
            ("error", 2, "Failed", 1),
        ]

    @pytest.mark.parametrize("kind", [KeywordLog, NamedTaskLog, TaskAndMoreLog])
    def test_the_task_may_be_taken_by_name(self, make_workflow: MakeWorkflow, kind: type[KeywordLog]) -> None:
        """info(self, **kwargs) and info(self, *, task) work as info(self, task) does."""
        log = kind()
        workflow = make_workflow(log=log)
        workflow.task.add([action(lambda: 1), action(lambda: 1 / 0)])

        workflow.start()

        assert log.lines == [
            ("info", 0, "In progress"),
            ("info", 0, "Completed"),
            ("info", 1, "In progress"),
            ("error", 1, "Failed"),
        ]

    def test_ours_may_be_extended_that_way(
        self, make_workflow: MakeWorkflow, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """super().info(**kwargs) writes the line."""
        log = ExtendedLogDefault()
        workflow = make_workflow(log=log)
        workflow.task.add(action(lambda: 1))

        workflow.start()

        assert log.seen == ["In progress", "Completed"]
        assert len(capsys.readouterr().err.splitlines()) == 2

    def test_the_retry_of_a_classs_own_action_has_its_error(
        self, make_workflow: MakeWorkflow, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is a retry like any other, not another In progress."""
        flaky = Flaky(1)

        class Report:
            @action(retry=2, retry_delay=0)
            def load(self) -> str:
                return flaky()

        workflow = make_workflow(log=LogDefault(output="console"))
        workflow.task.add(action(Report))

        workflow.start()

        first, retry, *_, last = capsys.readouterr().err.splitlines()
        assert first.endswith("Report: In progress")
        assert " WARNING " in retry
        assert retry.endswith("Report: Retry (attempt 1): ValueError: not yet")
        assert "Report: Completed in " in last

    def test_one_that_raises_changes_nothing(self, make_workflow: MakeWorkflow) -> None:
        """The run ends as usual, and each exception is reported with its traceback."""
        log = MyLog(breaks=OSError("disk full"))
        workflow = make_workflow(log=log)
        workflow.task.add([action(lambda: 1), action(lambda: 2)])

        run = workflow.start()

        assert run.status is TypeStatus.COMPLETED
        assert workflow.result_storage() == [1, 2]
        assert len(log.reports) == 4
        assert all("OSError: disk full" in report and "Traceback" in report for report in log.reports)

    @pytest.mark.processes
    def test_a_task_beside_the_groups_is_reported_once(self, make_workflow: MakeWorkflow) -> None:
        """It has no group_name and takes previous_context: the first run reports what to write instead."""
        log = MyLog()
        workflow = make_workflow(log=log)
        workflow.task.add(action(lambda: 1), group_name="left")
        workflow.task.add(action(lambda: 2), group_name="right")
        workflow.task.add(action(lambda previous_context: previous_context.storage))

        workflow.start()
        workflow.start()

        (report,) = log.reports
        assert "runs beside the groups ('left', 'right')" in report

    def test_callbacks_that_raise_are_reported_there(self, make_workflow: MakeWorkflow) -> None:
        """A callback's exception is in the log, and changes nothing in the run."""
        log = MyLog()
        workflow = make_workflow(log=log)

        def breaks(**kwargs: object) -> None:
            raise RuntimeError("my callback is broken")

        workflow.task.add(action(lambda: 1), callback=breaks)
        run = workflow.start(on_success=breaks)

        assert run.status is TypeStatus.COMPLETED
        assert len(log.reports) == 2
        assert all("my callback is broken" in report for report in log.reports)

    def test_a_silent_default_log_writes_nothing(
        self, make_workflow: MakeWorkflow, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """output="none" and level="OFF" are both silent."""
        for log in (LogDefault(output="none"), LogDefault(level="OFF")):
            three_tasks(make_workflow(log=log)).start()

        assert capfd.readouterr() == ("", "")


class TestNotify:
    def test_every_change_of_status_is_sent_in_order(self, make_workflow: MakeWorkflow) -> None:
        """Each with the task as it was at that moment; all are sent before start() returns."""
        notify = MyNotify()

        three_tasks(make_workflow(notify=notify)).start()

        assert notify.calls == [
            (0, "In progress", 1),
            (0, "Completed", 1),
            (1, "In progress", 1),
            (1, "Retry", 1),
            (1, "In progress", 2),
            (1, "Completed", 2),
            (2, "In progress", 1),
            (2, "Failed", 1),
        ]

    def test_the_task_may_be_taken_by_name(self, make_workflow: MakeWorkflow) -> None:
        """send(self, **kwargs) works as send(self, task) does."""
        notify = KeywordNotify()
        workflow = make_workflow(notify=notify)
        workflow.task.add(action(lambda: 1))

        workflow.start()

        assert notify.calls == [(0, "In progress"), (0, "Completed")]

    def test_one_that_raises_changes_nothing(self, make_workflow: MakeWorkflow) -> None:
        """The exception is reported, and the next change is sent all the same."""
        log = MyLog()

        def breaks(task: Task) -> None:
            raise OSError("no network")

        notify = MyNotify(breaks)
        workflow = make_workflow(log=log, notify=notify)
        workflow.task.add(action(lambda: 1))

        run = workflow.start()

        assert run.status is TypeStatus.COMPLETED
        assert len(notify.calls) == len(log.reports) == 2
        assert all("no network" in report for report in log.reports)

    def test_one_that_hangs_delays_nothing(self, make_workflow: MakeWorkflow) -> None:
        """After the grace the run is over, and the log reports what was not sent."""
        log, let_go = MyLog(), threading.Event()
        workflow = make_workflow(log=log, notify=MyNotify(lambda task: let_go.wait()), notify_grace=0.05)
        workflow.task.add(action(lambda: 1))

        run = workflow.start()
        let_go.set()

        assert run.status is TypeStatus.COMPLETED
        assert len(log.reports) == 1
        assert "MyNotify" in log.reports[0]

    def test_what_it_does_not_want_is_not_queued(self, make_workflow: MakeWorkflow) -> None:
        """`wants` is asked before; one that raises is reported, and the message is sent all the same."""
        log, let_go = MyLog(), threading.Event()

        class Failures(MyNotify):
            def wants(self, message: Task | RunMessage) -> bool:
                if message.status is TypeStatus.RETRY:
                    raise OSError("no settings")
                return message.status is TypeStatus.FAILED and isinstance(message, Task)

        notify = Failures(lambda task: let_go.wait())
        workflow = three_tasks(make_workflow(log=log, notify=notify, notify_grace=0.05))
        workflow.start()
        let_go.set()

        broken, left = log.reports
        assert "Failures.wants raised" in broken
        assert "one notification still hangs, 1 more were not sent" in left

    def test_wants_that_cannot_be_decided_fails_no_task(self, make_workflow: MakeWorkflow) -> None:
        """Such as the comparison of an array: it is reported as if `wants` had raised."""
        log = MyLog()

        class Array:
            def __bool__(self) -> bool:
                raise ValueError("ambiguous")

        class Undecided(MyNotify):
            def wants(self, message: Task | RunMessage) -> Any:
                return Array()

        workflow = make_workflow(log=log, notify=Undecided())
        workflow.task.add(action(lambda: 1))

        assert workflow.start().status is TypeStatus.COMPLETED
        assert all("Undecided.wants raised" in report for report in log.reports)
        assert len(log.reports) == 3

    def test_it_receives_a_snapshot(self, make_workflow: MakeWorkflow) -> None:
        """A notifier changes only its copy of the task."""

        def spoils(task: Task) -> None:
            task.status = TypeStatus.FAILED
            task.errors.clear()

        workflow = three_tasks(make_workflow(notify=MyNotify(spoils)))

        workflow.start()

        assert [str(task.status) for task in workflow.result_task()] == ["Completed", "Completed", "Failed"]
        assert [len(task.errors) for task in workflow.result_task()] == [0, 1, 1]

    def test_it_needs_no_alert(self) -> None:
        """One that has only `send` ignores the alerts of a server."""
        MyNotify().alert("the run was given up")

    def test_alerts_and_tasks_are_sent_in_order(self) -> None:
        """An alert that raises is reported, and the next one is sent all the same."""
        sent, reports = list[str](), list[str]()

        class Alerts(MyNotify):
            def alert(self, message: str) -> None:
                sent.append(message)
                raise OSError("no network")

        notifier = Notifier(Alerts(), 10, lambda message, error: reports.append(f"{message}: {error}"), "server")
        for message in ("first", "second"):
            notifier.alert(message)
        notifier.close()

        assert sent == ["first", "second"]
        assert reports == ["Alerts.alert raised: no network"] * 2

    def test_what_was_not_sent_is_counted_before_its_thread_has_begun(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As if the first one were being sent: on a busy machine, the grace may be over by then."""
        begins, reports, work = threading.Event(), list[str](), Notifier._work
        monkeypatch.setattr(Notifier, "_work", lambda notifier: work(notifier) if begins.wait(60) else None)
        notifier = Notifier(MyNotify(), 0.01, lambda message, error: reports.append(message))
        for message in ("first", "second", "third"):
            notifier.alert(message)
        notifier.close()
        begins.set()

        (report,) = reports
        assert "one notification still hangs, 2 more were not sent" in report

    def test_the_default_sends_nothing_and_starts_no_thread(self, make_workflow: MakeWorkflow) -> None:
        """NotifyDefault is silent; a subclass that overrides one of its methods is not."""

        class More(NotifyDefault):
            def send(self, task: Task) -> None: ...

        class Runs(NotifyDefault):
            def send_run(self, message: RunMessage) -> None: ...

        class Alerts(NotifyDefault):
            def alert(self, message: str) -> None: ...

        assert NotifyDefault().is_silent
        assert not any(kind().is_silent for kind in (More, Runs, Alerts))

    @pytest.mark.processes
    def test_parallel_runs_call_it_in_the_callers_process(
        self, make_workflow: MakeWorkflow, start_method: str | None
    ) -> None:
        """With any number of workers, log and notifier are the caller's own objects."""
        log, notify = MyLog(), MyNotify()
        workflow = make_workflow(log=log, notify=notify, executor=ExecutorProcess(2, start_method))
        workflow.task.add([action(lambda: 1), action(lambda: 2)])

        workflow.start(mode="parallel")

        assert sorted(notify.calls) == [
            (0, "Completed", 1),
            (0, "In progress", 1),
            (1, "Completed", 1),
            (1, "In progress", 1),
        ]
        assert len(log.lines) == 4


def telegram_at(server: Server, **given: Any) -> Notify:
    return NotifyTelegram(TOKEN, -1001234567890, timeout=10, base_url=server.url, **given)


def apprise_at(server: Server, **given: Any) -> Notify:
    return NotifyApprise(f"json://user:{TOKEN}@127.0.0.1:{server.port}/{TOKEN}", **given)


def texts(server: Server) -> list[str]:
    """Returns the messages, with their titles."""
    return [each.json.get("text") or f"{each.json['title']}\n{each.json['message']}" for each in server.received]


def headlines(server: Server) -> list[str]:
    """Returns the first words of each message, without the icon: "Completed: task 0"."""
    found = [received.json.get("text") or received.json["title"] for received in server.received]
    return [re.findall(r"\w[\w ]*: task \d", text)[0] for text in found]


@pytest.mark.parametrize("notify_at", [telegram_at, apprise_at], ids=["telegram", "apprise"])
class TestEveryNotify:
    """The promises of every notifier that uses a network."""

    def test_each_status_is_sent_in_order(self, make_workflow: MakeWorkflow, notify_at: Callable[..., Notify]) -> None:
        """One message for each change, none lost or repeated, all before start() returns."""
        with serving() as server:
            three_tasks(make_workflow(notify=notify_at(server))).start()

        assert headlines(server) == [
            "In progress: task 0",
            "Completed: task 0",
            "In progress: task 1",
            "Retry: task 1",
            "In progress: task 1",
            "Completed: task 1",
            "In progress: task 2",
            "Failed: task 2",
        ]

    @pytest.mark.exhaustive(keep_every=3)
    @pytest.mark.parametrize(
        ("wanted", "sent"),
        [
            ("FAILED", ["Failed: task 2"]),
            (TypeStatus.RETRY, ["Retry: task 1"]),
            ([TypeStatus.COMPLETED, "failed"], ["Completed: task 0", "Completed: task 1", "Failed: task 2"]),
        ],
    )
    def test_only_chosen_statuses_are_sent(
        self, make_workflow: MakeWorkflow, notify_at: Callable[..., Notify], wanted: object, sent: list[str]
    ) -> None:
        """notification_type is one or several."""
        with serving() as server:
            three_tasks(make_workflow(notify=notify_at(server, notification_type=wanted))).start()

        assert headlines(server) == sent

    @pytest.mark.parametrize("statuses", [None, "Failed"])
    def test_by_run_one_message_is_sent_at_the_end(
        self, make_workflow: MakeWorkflow, notify_at: Callable[..., Notify], statuses: object
    ) -> None:
        """With all that failed; notification_type chooses how runs end."""
        with serving() as server:
            notify = notify_at(server, by="run", notification_type=statuses)
            three_tasks(make_workflow(notify=notify)).start()
            good = make_workflow(notify=notify)
            good.task.add(action(lambda: 1))
            good.start()

        first, *others = texts(server)
        assert first.startswith("❌ Failed: a run\nrun ")
        assert "<lambda> failed: ZeroDivisionError: division by zero\n" in first
        assert [text.partition(":")[0] for text in others] == ([] if statuses else ["✅ Completed"])

    def test_by_run_a_question_is_sent_at_once(
        self, make_workflow: MakeWorkflow, notify_at: Callable[..., Notify], tmp_path: Path
    ) -> None:
        """Whatever statuses are chosen, by task, too: a person has to answer it. The paused run sends nothing."""
        with serving() as server:
            for by in ("run", "task"):
                history = HistorySQLite(tmp_path / f"{by}.db")
                workflow = make_workflow(
                    notify=notify_at(server, by=by, notification_type="Failed"), history=history, workflow_id="nightly"
                )
                workflow.task.add(action(approve="Go?")(lambda: 1))
                workflow.start()

        assert [text.partition("\n")[0] for text in texts(server)] == ["⏸️ Paused: task 0 <lambda>"] * 2
        assert "waits for an approval: Go?\ndotflow approve " in texts(server)[0]

    def test_another_status_is_refused_at_once(self, notify_at: Callable[..., Notify]) -> None:
        """The error has the accepted values."""
        with serving() as server, pytest.raises(InvalidArgument, match=r"notification_type='done'.*'Completed'"):
            notify_at(server, notification_type="done")

    def test_a_rejection_changes_nothing_and_is_in_the_log(
        self, make_workflow: MakeWorkflow, notify_at: Callable[..., Notify]
    ) -> None:
        """Once for each message, as a NotifyError that names no address."""
        log = MyLog()
        with serving(refuses(403, "Forbidden")) as server:
            workflow = make_workflow(log=log, notify=notify_at(server))
            workflow.task.add(action(lambda: 1))
            run = workflow.start()

        assert run.status is TypeStatus.COMPLETED
        assert len(log.reports) == 2
        assert all("NotifyError" in report and "403" in report for report in log.reports)
        assert not [report for report in log.reports if TOKEN in report or str(server.port) in report]

    def test_alerts_are_sent_whatever_statuses_are_chosen(self, notify_at: Callable[..., Notify]) -> None:
        """As one message, with lone surrogates escaped."""
        with serving() as server:
            notify_at(server, notification_type="Failed").alert("A scheduled run of 'nightly\ud800' is late: 1")

        (text,) = texts(server)
        assert text == "⚠️ Alert of dotflow serve\nA scheduled run of 'nightly\\ud800' is late: 1"

    def test_an_alert_that_is_rejected_names_no_secret(self, notify_at: Callable[..., Notify]) -> None:
        """The error is a NotifyError without the address, for the log of the server."""
        with serving(refuses(403, "Forbidden")) as server, pytest.raises(NotifyError, match="403") as caught:
            notify_at(server).alert("late")

        assert TOKEN not in str(caught.value)

    def test_silence_delays_nothing(self, make_workflow: MakeWorkflow, notify_at: Callable[..., Notify]) -> None:
        """The run ends after the grace, and the log reports what was not sent."""
        log = MyLog()
        with serving(silence) as server:
            workflow = make_workflow(log=log, notify=notify_at(server), notify_grace=0.5)
            workflow.task.add(action(lambda: 1))
            run = workflow.start()

            assert ["1 more were not sent" in report for report in log.reports] == [True]
        assert run.status is TypeStatus.COMPLETED

    def test_it_never_shows_its_secrets(self, notify_at: Callable[..., Notify]) -> None:
        """Neither its repr nor its attributes show them."""
        with serving() as server:
            notify = notify_at(server)

        assert TOKEN not in f"{notify!r} {notify} {vars(notify)} {vars(Config(notify=notify))}"

    @pytest.mark.processes
    def test_parallel_runs_call_it_in_the_callers_process(
        self, make_workflow: MakeWorkflow, notify_at: Callable[..., Notify]
    ) -> None:
        """Workers don't use it, with any start method."""
        with serving() as server:
            workflow = make_workflow(notify=notify_at(server))
            workflow.task.add([action(lambda: 1), action(lambda: 2)])
            workflow.start(mode="parallel")

        sent = ["Completed: task 0", "Completed: task 1", "In progress: task 0", "In progress: task 1"]
        assert sorted(headlines(server)) == sent
