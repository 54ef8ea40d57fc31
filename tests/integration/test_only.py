"""start(only=...): some tasks, what they need and what cleans up after them; the others keep their checkpoints."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.storage import Storage
from dotflow.core.events import NOT_ASKED_FOR
from dotflow.errors import CheckpointMismatch, InvalidArgument, UnknownTask
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault, SchedulerCron, StorageDefault, StorageFile
from dotflow.resume.journal import Journal
from dotflow.serving.server import Server
from dotflow.testing import assert_survives_crashes
from tests.integration.children import Command
from tests.integration.modes import COMPLETED, FAILED, NOT_STARTED, SKIPPED
from tests.storages import StorageThree

ran: list[Any] = []
state: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    ran.clear()
    state.clear()
    yield
    state.clear()


@action
def urls() -> list[str]:
    ran.append("urls")
    return list(state.get("urls", ["a", "b"]))


@action
def page(url: str) -> str:
    ran.append(url)
    return url.upper()


@action
def summary(page: list[str]) -> str:
    ran.append("summary")
    return "".join(page)


@action
def rates() -> int:
    ran.append("rates")
    return 3


@action
def report(summary: str, rates: int) -> str:
    ran.append("report")
    return summary * rates


def build(storage: Storage | None = None, **options: Any) -> DotFlow:
    """Returns urls -> page -> summary -> report, which takes rates, too."""
    config = Config(storage=storage, log=LogDefault(output="none"), executor=ExecutorThread())
    workflow = DotFlow(config, workflow_id="w", **options)
    workflow.task.add(urls).add(page, each=urls).add([summary, rates, report])
    return workflow


def keys(storage: Storage) -> list[str]:
    return sorted(key for key in storage.list_keys("w/") if "@" not in key)


@pytest.mark.parametrize("mode", ["sequential", "parallel", "background"])
@pytest.mark.parametrize("only", ["summary", summary, [summary, "page"]])
def test_a_task_and_what_it_needs_run(mode: str, only: Any) -> None:
    """The others are skipped, and the run completes."""
    run = build().start(mode, only=only)
    run.wait()

    assert sorted(ran) == ["a", "b", "summary", "urls"]
    assert [task.status for task in run.tasks] == [COMPLETED, COMPLETED, COMPLETED, SKIPPED, SKIPPED]
    assert {run["rates"].reason, run["report"].reason} == {NOT_ASKED_FOR}
    assert run.status is COMPLETED


def test_plain_tasks_are_left_out_too() -> None:
    """A step that takes the value before it needs that task; one that does not is not needed."""

    @action
    def after(previous_context: Context) -> Any:
        return previous_context.storage

    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add([urls, rates]).add(after, name=None).add(action(lambda: ran.append("last")))

    run = workflow.start(only=after)

    assert ran == ["rates"]
    assert [task.status for task in run.tasks] == [SKIPPED, COMPLETED, COMPLETED, SKIPPED]
    assert run.value(after) == 3


def test_conditions_needs_and_fallbacks_are_needed_and_after_is_not() -> None:
    """What waits for a task whatever becomes of it does not need it."""
    workflow = DotFlow(Config(log=LogDefault(output="none")))
    for name in ("good", "needed", "mended", "waited", "other"):
        workflow.task.add(action(lambda name=name: name), name=name)
    last = action(lambda: "last")
    fallback = action(lambda mended: mended)
    workflow.task.add(last, name="last", when="good", needs=["needed"], after=["waited"], fallback=fallback)

    run = workflow.start(only="last")

    assert [task.name for task in run.tasks if task.status is COMPLETED] == ["good", "needed", "mended", "last"]


def test_the_name_of_a_nested_workflow_means_all_of_its_tasks() -> None:
    """Not only the last one, and what they need outside."""
    inner = DotFlow(params={"start": ...})
    inner.task.add(action(lambda start: start), name="one").add(action(lambda: 2), name="two")
    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add([urls, rates]).add(inner, name="inner", needs={"start": rates})

    run = workflow.start(only="inner")

    assert [task.status for task in run.tasks] == [SKIPPED, COMPLETED, COMPLETED, COMPLETED]


# Checkpoints


def test_the_others_keep_their_checkpoints_but_for_those_made_from_a_new_value() -> None:
    """What was asked for runs anew; what was made from it, and is not asked for, is void."""
    storage = StorageDefault()
    build(storage).start()
    before = keys(storage)
    ran.clear()

    build(storage).start(only="page")

    assert ran == ["urls", "a", "b"]
    assert set(before) - {*keys(storage)} == {"w/2", "w/4"}  # summary and report
    ran.clear()
    run = build(storage).start(resume=True)
    assert ran == ["summary", "report"]
    assert run.value("report") == "ABABAB"


def test_with_a_resume_it_brings_them_up_to_date() -> None:
    """As make does: only what is missing or void runs."""
    storage = StorageDefault()
    build(storage).start()
    state["urls"] = ["a", "b", "c"]
    for key in ("w/0", "w/3"):
        storage.delete(key)
    ran.clear()

    run = build(storage).start(resume=True, only="summary")

    assert ran == ["urls", "c", "summary"]
    assert run.value("summary") == "ABC"
    assert not storage.contains("w/3")
    assert not storage.contains("w/4")


def test_nothing_is_void_where_nothing_is_made_anew() -> None:
    """A resume that restores all that was asked for touches nothing."""
    storage = StorageDefault()
    build(storage).start()
    before = keys(storage)
    ran.clear()

    build(storage).start(resume=True, only="summary")

    assert ran == []
    assert keys(storage) == before


@pytest.mark.parametrize("kind", ["memory", "three methods", "file"])
def test_items_follow_the_items_that_they_take(kind: str, tmp_path: Path) -> None:
    """Of a map that was not asked for, those items are void whose source runs again."""
    storage: Any = {"memory": StorageDefault, "three methods": StorageThree, "file": lambda: StorageFile(tmp_path)}[
        kind
    ]()

    def chain() -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add(page, each=["a", "b"]).add(action(lambda text: ran.append(text) or text), name="x", each=page)
        workflow.task.add(action(lambda text: ran.append(text) or text), name="y", each="x")
        return workflow.task.add(action(lambda y: y), name="z") and workflow

    run = chain().start()
    storage.delete(f"{storage.key(run['page'])}-{run['page'].items[0].key_suffix}")
    ran.clear()

    chain().start(resume=True, only="page")
    assert ran == ["a"]
    ran.clear()
    again = chain().start(resume=True)

    assert ran == ["A", "A"]
    assert [item.restored_from for item in again["y"].items] == [None, "checkpoint"]


def plain(storage: Storage, **options: Any) -> DotFlow:
    """Returns urls, rates and a task that takes the value before it."""

    @action
    def after(previous_context: Context) -> Any:
        ran.append("after")
        return previous_context.storage

    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
    workflow.task.add([action(urls.function, **options), action(rates.function, **options)]).add(after, name=None)
    return workflow


@pytest.mark.parametrize("kind", ["memory", "three methods"])
def test_a_previous_value_that_is_not_made_anew_keeps_what_was_made_from_it(kind: str) -> None:
    """The task right before is not asked for either: it stays the source, and none before that."""
    storage: Any = StorageDefault() if kind == "memory" else StorageThree()
    plain(storage).start()
    plain(storage).start(only=urls.name)
    ran.clear()

    assert plain(storage).start(resume=True).value("after") == 3
    assert ran == []

    plain(storage).start(only="rates")
    ran.clear()
    plain(storage).start(resume=True)
    assert ran == ["after"]


def test_a_previous_value_that_was_never_made_is_none() -> None:
    """The value was made from the one before that."""
    storage = StorageThree()
    plain(storage).start()
    storage.delete(storage.key(plain(storage).result_task()[1]))
    plain(storage).start(only="urls")

    assert not storage.contains(storage.key(plain(storage).result_task()[2]))


@pytest.mark.parametrize("before", ["all", "none", "only"])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_run_that_completes_leaves_nothing_unfinished_by_itself(kind: str, before: str, tmp_path: Path) -> None:
    """What it voids, and what it was never asked for, is for another run; so a schedule begins anew."""
    storage = StorageDefault() if kind == "memory" else StorageFile(tmp_path)
    if before != "none":
        build(storage).start(only=None if before == "all" else "urls")
    build(storage).start(only="rates")
    build(storage).start(only="page")
    ran.clear()

    build(storage).start(resume="unfinished")

    assert sorted(ran) == ["a", "b", "rates", "report", "summary", "urls"]


def test_what_another_run_left_unfinished_stays_unfinished() -> None:
    """A run of some tasks finishes these; and it can be left unfinished itself."""

    def start(**options: Any) -> None:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add([urls, rates]).add(failing, name="last").add(action(lambda rates: rates), name="kept")
        ran.clear()
        workflow.start(**options)

    @action
    def failing(rates: int) -> None:
        if state.get("fails"):
            raise ValueError

    storage = StorageDefault()
    state["fails"] = True
    start()
    state.clear()
    start(only="urls")
    start(resume="unfinished")
    assert ran == []  # but for what failed, and what comes after it

    state["fails"] = True
    start(only="last")
    state.clear()
    start(resume="unfinished")
    assert ran == []

    start(only="rates")
    start(resume=True)
    storage.delete("w/last")
    start(resume="unfinished")
    assert ran == []  # a run of all tasks left nothing out


def test_the_history_calls_it_resumed_only_with_a_resume(tmp_path: Path) -> None:
    """In any case it goes on with the values of the runs before it."""
    history, storage = HistorySQLite(tmp_path / "h.db"), StorageFile(tmp_path / "kept")

    def start(**options: Any) -> None:
        config = Config(storage=storage, history=history, log=LogDefault(output="none"))
        workflow = DotFlow(config, workflow_id="w")
        workflow.task.add([urls, rates])
        workflow.start(**options)

    start()
    start(only="urls")
    start(only="urls", resume=True)

    runs = list(history.runs())
    assert [run.resumed for run in runs] == [True, False, False]
    assert len({run.origin for run in runs}) == 1


def test_a_checkpoint_that_is_not_asked_for_is_not_judged() -> None:
    """Another step has made it: that concerns the run which asks for it."""
    storage = StorageDefault()
    build(storage).start()
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
    workflow.task.add(urls).add(page, each=urls).add([summary, report := action(lambda: 1)])

    assert workflow.start(resume=True, only="summary").status is COMPLETED
    with pytest.raises(CheckpointMismatch):
        workflow.start(resume=True, only=report)


def test_the_values_stay_those_of_the_same_chain() -> None:
    """So the idempotency key of what is not asked for stays. What runs anew after it had finished gets another one."""
    storage, sent = StorageDefault(), []

    @action
    def send(idempotency_key: str) -> None:
        sent.append(idempotency_key)
        if state.get("fails"):
            raise ValueError

    def start(**options: Any) -> None:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add(rates).add(send, name="send")
        workflow.start(**options)

    state["fails"] = True
    start()
    origin = Journal(storage, "w").read()
    start(only=rates)
    assert Journal(storage, "w").read() == origin
    start(resume=True)
    assert len({*sent}) == 1
    state.clear()
    start(resume=True)
    start(only="send")
    assert len({*sent}) == 2


def test_a_file_that_changed_voids_what_is_not_asked_for_too(tmp_path: Path) -> None:
    """The run notes the new state of the file, so that a later one could not find out."""
    path = tmp_path / "rows.txt"
    path.write_text("1")

    @action
    def read(initial_context: Context) -> str:
        return Path(initial_context.storage).read_text()

    def start(**options: Any) -> DotFlow:
        config = Config(storage=StorageFile(tmp_path / "kept"), log=LogDefault(output="none"))
        workflow = DotFlow(config, workflow_id="w")
        workflow.task.add(read, name="one", initial_context=path).add(read, name="two", initial_context=path)
        workflow.start(**options)
        return workflow

    start()
    path.write_text("20")
    start(resume=True, only="one")

    assert start(resume=True).result_storage() == ["20", "20"]


@pytest.mark.exhaustive
@pytest.mark.processes
@pytest.mark.timeout(90)
def test_it_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    """With nothing lost and nothing stale."""

    def workflow(storage: Storage) -> DotFlow:
        built = DotFlow(Config(storage=storage, log=LogDefault(output="none")))
        built.task.add(urls).add(page, each=urls).add([summary, rates, report])
        return built

    assert assert_survives_crashes(workflow, StorageFile(tmp_path), only="summary").crashes > 20


# Cleanups


def test_cleanups_of_what_ran_run() -> None:
    """One that waits for all before it, and one that names a task that ran; not one of another task."""
    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add([urls, rates])
    for name, needs in (("all", None), ("of urls", urls), ("of rates", "rates")):
        clean = action(lambda name=name: ran.append(name))
        workflow.task.add(clean, name=name.replace(" ", "_"), always=True, needs=needs and [needs])

    run = workflow.start(only=rates)

    assert ran == ["rates", "all", "of rates"]
    assert run["of_urls"].reason == NOT_ASKED_FOR


@pytest.mark.parametrize("nested", [False, True], ids=["plain", "for each item"])
@pytest.mark.parametrize("has_cleanup", [False, True], ids=["alone", "with a cleanup"])
@pytest.mark.parametrize("resume", [False, True])
def test_an_unsaved_task_that_was_asked_for_runs(nested: bool, has_cleanup: bool, resume: bool) -> None:
    """Though no task that was asked for takes its value."""
    inner = DotFlow(params={"url": "a"})
    inner.task.add(action(checkpoint=False)(lambda url: ran.append(f"open {url}")), name="open")
    inner.task.add(action(lambda open: ran.append("use")), name="use")
    if has_cleanup:
        inner.task.add(action(lambda url, open: ran.append(f"close {url}")), name="close", always=True)
    workflow = DotFlow(Config(log=LogDefault(output="none")))
    workflow.task.add(urls).add(inner, name="page", each={"url": "urls"} if nested else None)

    plan = workflow.plan(only="page.open", resume=resume)
    workflow.start(only="page.open", resume=resume)

    kinds = ["open", "close"] if has_cleanup else ["open"]
    assert [one for one in ran if one != "urls"] == [f"{kind} {url}" for url in "ab"[: 1 + nested] for kind in kinds]
    assert [str(task.decision) == "skip" for task in plan.tasks[1:]] == [False, True, False][: len(plan.tasks) - 1]


def test_a_cleanup_that_did_not_complete_is_still_known_after_it() -> None:
    """Another run of other tasks forgets nothing of it, and notes none that it left out."""
    storage = StorageDefault()

    @action
    def clean(rates: int) -> None:
        ran.append("clean")
        if state.get("fails"):
            raise ValueError

    def start(**options: Any) -> Any:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add([urls, rates]).add(clean, name="clean", always=True, needs=[rates])
        return workflow.start(**options)

    state["fails"] = True
    assert start().status is FAILED
    assert list(Journal(storage, "w").fact("cleanups")) == ["clean"]
    start(only=urls)
    assert list(Journal(storage, "w").fact("cleanups")) == ["clean"]
    state.clear()
    ran.clear()
    assert start(resume="unfinished").status is COMPLETED
    assert ran == ["clean"]
    assert Journal(storage, "w").fact("cleanups") == {}


def test_a_failure_stops_before_what_is_left() -> None:
    """What the run did not reach is Not started, as in a run of all."""
    broken = DotFlow(Config(log=LogDefault(output="none")))
    broken.task.add(action(lambda: 1 / 0), name="urls").add(page, each="urls").add([summary, rates])
    run = broken.start(only="summary")

    assert [task.status for task in run.tasks] == [FAILED, NOT_STARTED, NOT_STARTED, NOT_STARTED]


# The plan, and what is refused


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_the_plan_says_what_is_left_out(mode: str) -> None:
    """Before and after a run, with and without a resume."""
    storage = StorageDefault()

    def decisions(**options: Any) -> list[str]:
        return [f"{task.decision} {task.reason}".strip() for task in build(storage).plan(mode, **options).tasks]

    out = "skip not asked for"
    assert decisions(only="summary") == ["run", "run after urls", "run after page", out, out]
    build(storage).start()
    assert decisions(only=["summary"]) == ["run asked for", "run after urls", "run after page", out, out]
    restored = [text.partition(" ")[0] for text in decisions(only=rates, resume=True)]
    assert restored == ["skip", "skip", "skip", "restore", "skip"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"only": "sumary"}, UnknownTask, "Did you mean 'summary'?"),
        ({"only": []}, InvalidArgument, "a task, several tasks, or None for all"),
        ({"only": "urls", "resume": "unfinished"}, InvalidArgument, "with only"),
        ({"only": "urls", "rerun": "report"}, InvalidArgument, "rerun='report'"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """By start and by plan."""
    for function in (build().start, build().plan):
        with pytest.raises(error, match=message.replace("?", r"\?")):
            function(**arguments)
    assert ran == []


def test_it_is_for_one_run(tmp_path: Path) -> None:
    """A schedule and a server run whole workflows."""
    workflow = build()
    workflow.config.scheduler = SchedulerCron("@daily")
    workflow.config.history = HistorySQLite(tmp_path / "history.db")

    with pytest.raises(InvalidArgument, match="start"):
        workflow.schedule(only="urls")
    with pytest.raises(InvalidArgument, match="start"):
        Server([workflow], options={"only": "urls"})


def test_astart_and_launch_take_it() -> None:
    """As start does."""
    assert asyncio.run(build().astart(only=rates)).value(rates) == 3
    run = build().launch(only="rates", mode="parallel")
    run.wait()

    assert ran == ["rates", "rates"]


def test_the_command_takes_it(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dotflow start --only`, `dotflow plan --only`; `dotflow schedule` refuses it."""
    (tmp_path / "only_jobs.py").write_text(
        "from dotflow import DotFlow, action\n"
        "@action\ndef one():\n    return 1\n"
        "@action\ndef two():\n    return 2\n"
        "@action\ndef three(two):\n    return 3\n"
        "jobs = DotFlow(workflow_id='jobs')\njobs.task.add([one, two, three])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    path = ("--workflow", "only_jobs:jobs")

    planned = command("plan", *path, "--only", "three", "--json")
    started = command("start", *path, "--only", "two", "--only", "one", "--storage", "file", "--no-history")
    resumed = command("start", *path, "--only", "three", "--resume", "--storage", "file", "--no-history")

    decisions = [task["decision"] for task in json.loads(planned.out)["tasks"]]
    assert decisions == ["skip", "run", "run"]
    assert (started.code, resumed.code) == (0, 0)
    assert "not asked for" in started.out + started.err
    assert command("start", *path, "--only", "thre").code == 2
    assert command("schedule", *path, "--only", "one", "--cron", "@daily").code == 2
