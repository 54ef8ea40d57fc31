"""Whole runs under TracerOpenTelemetry: the parents of a step's own spans, with every executor."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.trace import NoOpTracerProvider, StatusCode

from dotflow import Context, DotFlow, action
from dotflow.abc.executor import Executor
from dotflow.abc.tracer import Tracer
from dotflow.core.call import Carrier
from dotflow.core.events import Event
from dotflow.core.types import TypeRunState, TypeStatus
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    TracerOpenTelemetry,
)
from tests.histories import double, load, numbers
from tests.integration.children import Scripts
from tests.spans import Telemetry, exceptions, facts, place, place_of_parent

COMPLETED, FAILED = TypeStatus.COMPLETED, TypeStatus.FAILED

#: What a worker is sent is the same however it starts; test_workers_export_by_themselves has a fork server.
PROCESSES = [
    pytest.param(lambda: ExecutorProcess(2, "fork"), id="fork", marks=pytest.mark.processes),
    pytest.param(
        lambda: ExecutorProcess(2, "forkserver"),
        id="forkserver",
        marks=[pytest.mark.processes, pytest.mark.exhaustive],
    ),
]
EVERY = [
    *PROCESSES,
    pytest.param(ExecutorInline, id="inline"),
    pytest.param(lambda: ExecutorThread(2), id="thread"),
    pytest.param(lambda: ExecutorAsync(2), id="async"),
]

MakeWorkflow = Callable[..., DotFlow]


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture(params=EVERY)
def executor(request: pytest.FixtureRequest) -> Executor:
    return request.param()


@pytest.fixture
def workflow(make_workflow: MakeWorkflow, executor: Executor, telemetry: Telemetry) -> DotFlow:
    """Returns an empty traced workflow on the executor."""
    return make_workflow(executor=executor, tracer=telemetry.tracer, name="books")


def own_span() -> tuple[int, int]:
    """Makes a span, as a step does; returns its trace and the id of its parent."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider(resource=Resource({}), shutdown_on_exit=False).get_tracer("the step's own")
    with tracer.start_as_current_span("own") as span:
        return span.context.trace_id, span.parent.span_id if span.parent else 0


async def own_span_in_a_coroutine() -> tuple[int, int]:
    await asyncio.sleep(0)
    return own_span()


class Steps:
    @action
    def first(self) -> Any:
        return own_span()

    @action
    async def second(self) -> Any:
        return await own_span_in_a_coroutine()


class TestOwnSpans:
    @pytest.mark.parametrize("timeout", [0, 10])
    @pytest.mark.parametrize("step", [own_span, own_span_in_a_coroutine], ids=["function", "coroutine"])
    def test_they_belong_to_the_attempt(
        self, workflow: DotFlow, telemetry: Telemetry, step: Callable[..., Any], timeout: float
    ) -> None:
        """A span that a step makes is a child of its attempt's span, step by step, in one lane and the same worker."""
        workflow.task.add([action(timeout=timeout)(step)] * 3)

        run = workflow.start()

        assert run.status is COMPLETED
        assert workflow.result_storage() == [place(span) for span in telemetry.attempts()]
        assert len({place_of_parent(span) for span in telemetry.attempts()} | {place(telemetry.run())}) == 1

    @pytest.mark.parametrize("timeout", [0, 10])
    def test_actions_of_a_class(self, workflow: DotFlow, telemetry: Telemetry, timeout: float) -> None:
        """They are inside the one attempt of their class."""

        @action(timeout=timeout)
        class Timed(Steps): ...

        workflow.task.add(Timed)

        workflow.start()

        found = [context.storage for context in workflow.result_storage()[0]]
        assert found == [place(telemetry.attempt())] * 2

    def test_each_attempt_has_its_own(self, workflow: DotFlow, telemetry: Telemetry) -> None:
        """A retry has a span of its own."""

        @action(retry=3, retry_delay=0)
        def fails() -> None:
            raise ValueError(own_span())

        workflow.task.add(fails)

        workflow.start()

        attempts = telemetry.attempts()
        assert [exceptions(span)[0]["exception.message"] for span in attempts] == [
            str(place(span)) for span in attempts
        ]
        assert [facts(span)["dotflow.status"] for span in attempts] == ["Retry", "Retry", "Failed"]
        assert [place(attempts[0]), place(attempts[1])] == [
            (link.context.trace_id, link.context.span_id) for span in attempts for link in span.links
        ]

    def test_after_a_timeout(self, workflow: DotFlow, telemetry: Telemetry) -> None:
        """The context of a stopped step does not stay for the next one."""

        @action(timeout=0.05)
        def hangs() -> None:
            while True:
                threading.Event().wait(0.01)

        workflow.task.add([hangs, action(own_span), action(own_span_in_a_coroutine)])

        workflow.start(keep_going=True)

        late, second, third = telemetry.attempts()
        assert (facts(late)["error.type"], late.status.status_code) == ("TimeoutError", StatusCode.ERROR)
        assert workflow.result_storage()[1:] == [place(second), place(third)]

    def test_baggage(self, workflow: DotFlow) -> None:
        """The step has the caller's baggage."""
        workflow.task.add(action(lambda: dict(baggage.get_all())))

        token = context.attach(baggage.set_baggage("tenant", "acme"))
        try:
            workflow.start()
        finally:
            context.detach(token)

        assert workflow.result_storage() == [{"tenant": "acme"}]

    @pytest.mark.exhaustive(keep_every=4)
    @pytest.mark.processes
    def test_an_isolated_step(self, workflow: DotFlow, telemetry: Telemetry) -> None:
        """The step's own process has the same context."""
        workflow.task.add(action(isolate=True)(own_span))

        workflow.start()

        assert workflow.result_storage() == [place(telemetry.attempt())]


def test_calls_of_a_durable_step(workflow: DotFlow, telemetry: Telemetry) -> None:
    """Each that is made is a child of its attempt, with every executor; what is given back is an event of it."""

    @action
    def search(query: str) -> str:
        return query

    @action
    def charge(tries: int) -> None:
        raise PermissionError("declined")

    @action(durable=True, retry=2, retry_delay=0)
    def agent() -> str:
        found = search("a") + search("b")
        charge(3)
        return found

    workflow.task.add(agent)

    workflow.start()

    first, second = telemetry.attempts()
    calls = [(span.name, facts(span)["dotflow.call"], place_of_parent(span)) for span in telemetry.calls()]
    assert calls == [
        ("search", 1, place(first)),
        ("search", 2, place(first)),
        ("charge", 3, place(first)),
        ("charge", 4, place(second)),
    ]
    assert [exceptions(span)[0]["exception.message"] for span in telemetry.calls()[2:]] == ["declined"] * 2
    given = [[event.attributes for event in span.events if "calls" in event.name] for span in (first, second)]
    assert given == [[], [{"dotflow.calls.given_back": 2}]]


@pytest.mark.parametrize("mode", ["sequential", "background", pytest.param("parallel", marks=pytest.mark.processes)])
@pytest.mark.parametrize(
    "groups", [("default", "default"), pytest.param(("left", "right"), marks=pytest.mark.processes)], ids="-".join
)
def test_every_mode(make_workflow: MakeWorkflow, telemetry: Telemetry, mode: str, groups: tuple[str, str]) -> None:
    """The run is a child of its caller's span, even if that ends first; attempts are children of the run."""
    workflow = make_workflow(tracer=telemetry.tracer)
    go_on = threading.Event()
    for group in groups:
        workflow.task.add(action(own_span), group_name=group, callback=lambda task: go_on.wait(60))

    with telemetry.tracer_provider.get_tracer("caller").start_as_current_span("caller") as caller:
        if mode != "background":
            go_on.set()
        run = workflow.start(mode)
    go_on.set()
    run.wait()

    attempts = telemetry.attempts()
    assert place_of_parent(telemetry.run()) == (caller.get_span_context().trace_id, caller.get_span_context().span_id)
    assert {place_of_parent(span) for span in attempts} == {place(telemetry.run())}
    assert set(workflow.result_storage()) == {place(span) for span in attempts}
    assert {facts(span)["dotflow.group"] for span in attempts} == set(groups)


def test_astart(make_workflow: MakeWorkflow, telemetry: Telemetry) -> None:
    """Each of two concurrent runs is a child of the span of the coroutine that awaits it."""
    tracer = telemetry.tracer_provider.get_tracer("caller")

    async def caller(name: str) -> tuple[Any, Any]:
        workflow = make_workflow(tracer=telemetry.tracer, name=name)
        workflow.task.add([action(own_span), action(own_span_in_a_coroutine)])
        with tracer.start_as_current_span(name) as span:
            await workflow.astart()
            return span.get_span_context().span_id, workflow.result_storage()

    async def both() -> list[tuple[Any, Any]]:
        return list(await asyncio.gather(caller("one"), caller("other")))

    for name, (parent, found) in zip(("one", "other"), asyncio.run(both()), strict=True):
        (run,) = [span for span in telemetry.runs() if span.name == f"dotflow.run {name}"]
        assert run.parent is not None
        assert run.parent.span_id == parent
        assert found == [place(span) for span in telemetry.attempts() if place_of_parent(span) == place(run)]


def test_two_runs_of_a_workflow_at_once(make_workflow: MakeWorkflow, telemetry: Telemetry) -> None:
    """They overlap, and each has its own trace."""
    workflow = make_workflow(tracer=telemetry.tracer)
    met = threading.Barrier(2, timeout=45)

    @action
    def meets() -> Any:
        met.wait()
        return own_span()

    workflow.task.add(meets)

    runs = [workflow.start("background"), workflow.start("background")]
    for run in runs:
        run.wait()

    found = {run.run_id: run.tasks[0].current_context.storage for run in runs}
    assert found == {facts(span)["dotflow.run.id"]: place(span) for span in telemetry.attempts()}
    assert len({trace for trace, _ in found.values()}) == 2


def test_coroutines_side_by_side(make_workflow: MakeWorkflow, telemetry: Telemetry) -> None:
    """Steps that alternate in one loop are each in their own attempt, before and after a switch."""
    workflow = make_workflow(tracer=telemetry.tracer, executor=ExecutorAsync())
    count = 5
    met = asyncio.Barrier(count)

    @action
    async def meets() -> Any:
        before = own_span()
        await met.wait()
        return [before, own_span()]

    workflow.task.add([meets] * count)

    workflow.start("parallel")

    assert workflow.result_storage() == [
        [place(span)] * 2 for span in sorted(telemetry.attempts(), key=lambda span: facts(span)["dotflow.task.id"])
    ]


def test_a_run_inside_a_step(make_workflow: MakeWorkflow, telemetry: Telemetry) -> None:
    """The inner run is a child of the step's attempt."""

    @action
    def inner() -> Any:
        workflow = make_workflow(tracer=telemetry.tracer, name="inner")
        workflow.task.add(action(own_span))
        workflow.start()
        return workflow.result_storage()[0]

    outer = make_workflow(tracer=telemetry.tracer, name="outer")
    outer.task.add(inner)

    outer.start()

    (run,) = [span for span in telemetry.runs() if span.name == "dotflow.run inner"]
    assert place_of_parent(run) == place(telemetry.attempt("inner"))
    assert outer.result_storage() == [place(telemetry.attempt("own_span"))]


def test_context_variables_of_a_step_reach_the_next_one(make_workflow: MakeWorkflow, telemetry: Telemetry) -> None:
    """A tracer changes nothing in the run: the next step in the thread sees a variable that a step sets."""
    mine: ContextVar[int] = ContextVar("mine", default=0)

    def count() -> int:
        mine.set(mine.get() + 1)
        return mine.get()

    async def count_in_a_coroutine() -> int:
        return count()

    found = []
    for tracer in (None, telemetry.tracer):
        workflow = make_workflow(tracer=tracer)
        workflow.task.add([action(count), action(count), action(count_in_a_coroutine), action(count_in_a_coroutine)])
        ran = threading.Thread(target=workflow.start)  # whose context variables are new
        ran.start()
        ran.join()
        found.append(workflow.result_storage())

    assert found[0] == found[1] == [1, 2, 3, 4]


def own_span_for(number: int) -> tuple[int, int]:
    return own_span()


async def own_span_in_a_coroutine_for(number: int) -> tuple[int, int]:
    return await own_span_in_a_coroutine()


class TestMaps:
    @pytest.mark.parametrize("mode", ["sequential", pytest.param("parallel", marks=pytest.mark.processes)])
    @pytest.mark.parametrize("step", [own_span_for, own_span_in_a_coroutine_for], ids=["function", "coroutine"])
    def test_own_spans_belong_to_the_attempt_of_the_item(
        self, workflow: DotFlow, telemetry: Telemetry, mode: str, step: Callable[..., Any]
    ) -> None:
        """The run holds the map, the map its items, an item its attempts, and an attempt the step's own spans."""
        workflow.task.add(action(step), each=list(range(5)))

        run = workflow.start(mode)

        assert run.status is COMPLETED
        attempts = sorted(telemetry.attempts(), key=lambda span: facts(span)["dotflow.item"])
        assert workflow.result_storage() == [[place(span) for span in attempts]]
        assert [place_of_parent(span) for span in attempts] == [place(span) for span in telemetry.items()]
        (mapped,) = telemetry.maps()
        assert {place_of_parent(span) for span in telemetry.items()} == {place(mapped)}
        assert place_of_parent(mapped) == place(telemetry.run())

    @pytest.mark.parametrize("mode", ["sequential", pytest.param("parallel", marks=pytest.mark.processes)])
    def test_a_map_over_a_map_with_retries(self, workflow: DotFlow, telemetry: Telemetry, mode: str) -> None:
        """Each attempt of each item is in the span of its item, whatever runs between."""

        @action(retry=2, retry_delay=0)
        def fails(number: int) -> Any:
            raise ValueError(own_span())

        @action
        def follows(number: int) -> Any:
            return own_span()

        workflow.task.add(action(lambda: [1, 2, 3]), name="numbers").add(follows, each="numbers", keep_going=True)
        workflow.task.add(fails, each="follows", keep_going=True)

        workflow.start(mode, keep_going=True)

        items = {place(span): facts(span)["dotflow.item"] for span in telemetry.items()}
        assert all(items[place_of_parent(span)] == facts(span)["dotflow.item"] for span in telemetry.attempts("fails"))
        failed = {exceptions(span)[0]["exception.message"]: place(span) for span in telemetry.attempts("fails")}
        assert list(failed) == [str(found) for found in failed.values()]
        assert len(failed) == 6
        follows_places = sorted(telemetry.attempts("follows"), key=lambda span: facts(span)["dotflow.item"])
        assert workflow.result_storage()[1] == [place(span) for span in follows_places]

    def test_the_fallback_of_an_item_and_of_a_task(self, workflow: DotFlow, telemetry: Telemetry) -> None:
        """Its attempts have its name, and the task completes."""

        @action
        def fails(number: int = 0) -> Any:
            raise ValueError("no")

        cached = action(lambda number=0: own_span())
        workflow.task.add(fails, name="many", each={"number": [1]}, fallback=cached).add(
            fails, name="once", fallback=cached
        )

        assert workflow.start().status is COMPLETED

        spans = sorted(
            telemetry.attempts(), key=lambda span: (facts(span)["dotflow.task.id"], facts(span)["dotflow.attempt"])
        )
        assert [facts(span).get("dotflow.fallback") for span in spans] == [None, cached.name, None, cached.name]
        assert workflow.result_storage() == [[place(spans[1])], place(spans[3])]


class PerTask(Tracer):
    """A tracer from before there were maps: its carrier knows tasks only, and names the last attempt of one."""

    def __init__(self) -> None:
        self.last: dict[int, str] = {}

    def trace(self, run_id: str, event: Event) -> None:
        if type(event).__name__ == "AttemptStarted":
            task_id = event.task_id  # type: ignore[union-attr]
            self.last[task_id] = f"{task_id} {getattr(event, 'item', None)}"

    def carrier(self, run_id: str, task_id: int) -> Carrier:
        return Carrier(f"{__name__}:enter_request", {"request": self.last[task_id]})


request_of: ContextVar[str] = ContextVar("request_of", default="-")


def enter_request(headers: Any) -> Callable[[], None]:
    token = request_of.set(headers["request"])
    return lambda: request_of.reset(token)


@pytest.mark.parametrize("mode", ["sequential", pytest.param("parallel", marks=pytest.mark.processes)])
@pytest.mark.parametrize("executor", EVERY, indirect=True)
def test_a_tracer_that_knows_no_items(make_workflow: MakeWorkflow, executor: Executor, mode: str) -> None:
    """Its carrier is asked right after the beginning of each item's attempt, so that what it keeps is that one."""
    workflow = make_workflow(executor=executor, tracer=PerTask())

    @action
    def request(number: int) -> str:
        from tests.integration.test_tracing import request_of

        return f"{number} {request_of.get()}"

    workflow.task.add(request, each=[0, 1, 2, 3])

    workflow.start(mode)

    assert workflow.result_storage() == [[f"{number} 0 {number}" for number in range(4)]]


class TestEnds:
    @pytest.mark.processes
    def test_a_dead_worker(self, make_workflow: MakeWorkflow, telemetry: Telemetry) -> None:
        """The coordinator ends the attempt's span, and the next attempt has its own."""
        workflow = make_workflow(tracer=telemetry.tracer, executor=ExecutorProcess(1))
        workflow.task.add([action(lambda: os.kill(os.getpid(), signal.SIGKILL)), action(own_span)])

        workflow.start(keep_going=True)

        died, after = telemetry.attempts()
        assert facts(died)["error.type"] == "WorkerDied"
        assert workflow.result_storage()[1] == place(after)

    @pytest.mark.parametrize(
        "executor", [*PROCESSES, pytest.param(lambda: ExecutorThread(1), id="thread")], indirect=True
    )
    def test_a_cancelled_run(self, workflow: DotFlow, telemetry: Telemetry, tmp_path: Path) -> None:
        """The spans of the active attempt and of the run are ended, both with the reason."""
        fifo = tmp_path / "running"
        os.mkfifo(fifo)

        def hangs(path: str = str(fifo)) -> None:
            import time

            with open(path, "w"):  # noqa: PTH123
                pass
            while True:
                time.sleep(0.01)

        workflow.task.add([action(hangs), action(own_span)])
        run = workflow.start("background")
        with fifo.open():  # the other end is opened by the step
            run.cancel()
        run.wait()

        attempt = telemetry.attempt()
        assert (facts(attempt)["error.type"], facts(attempt)["dotflow.status"]) == ("RunCancelled", "Failed")
        assert facts(telemetry.run())["error.type"] == "RunCancelled"
        assert telemetry.run().status.status_code is StatusCode.ERROR

    def test_a_run_cancelled_during_a_pause(self, make_workflow: MakeWorkflow, telemetry: Telemetry) -> None:
        """Between two attempts no span is open; the run has an event."""
        workflow = make_workflow(tracer=telemetry.tracer)
        paused = threading.Event()

        @action(retry=2, retry_delay=60)
        def fails() -> None:
            raise ValueError("no")

        class Watching(Tracer):
            def trace(self, run_id: str, event: Event) -> None:
                telemetry.tracer.trace(run_id, event)
                if type(event).__name__ == "AttemptFailed":
                    paused.set()

        workflow.config.tracer = Watching()
        workflow.task.add(fails)
        run = workflow.start("background")
        assert paused.wait(60)
        run.cancel()
        run.wait()

        assert facts(telemetry.attempt())["dotflow.status"] == "Retry"
        assert [event.name for event in telemetry.run().events] == ["dotflow.task.failed"]

    @pytest.mark.parametrize("each", [None, "two"], ids=["task", "items"])
    def test_a_run_paused_between_two_calls_of_an_attempt(
        self, make_workflow: MakeWorkflow, telemetry: Telemetry, each: str | None
    ) -> None:
        """The attempt is not over, but its span ends with the run: one that is open is never exported."""
        workflow = make_workflow(tracer=telemetry.tracer)
        has_asked = threading.Event()

        @action(poll="1h")
        def asks(previous_context: Context) -> None:
            has_asked.set()

        workflow.task.add(action(lambda: [1]), name="two")
        workflow.task.add(asks, each=each)
        run = workflow.start("background")
        assert has_asked.wait(60)
        run.pause()
        run.wait()

        assert run.state is TypeRunState.PAUSED
        assert [span.name for span in telemetry.attempts("asks")] == ["asks"]

    def test_an_interrupted_run(self, workflow: DotFlow, telemetry: Telemetry) -> None:
        """Ctrl-C ends the spans before it reaches the caller."""

        @action
        def interrupted() -> None:
            raise KeyboardInterrupt

        workflow.task.add(interrupted)

        with pytest.raises(KeyboardInterrupt):
            workflow.start()

        assert facts(telemetry.attempt())["error.type"] == "KeyboardInterrupt"
        assert facts(telemetry.run())["error.type"] == "KeyboardInterrupt"


SECRET = "s3cr3t-t0k3n"


def test_no_value_is_recorded(workflow: DotFlow, telemetry: Telemetry) -> None:
    """No span and no metric has the arguments, variables or results of steps, also of failed ones."""

    @action
    def gives(initial_context: Context) -> dict[str, Any]:
        return {"password": initial_context.storage}

    @action(retry=2, retry_delay=0)
    def fails(initial_context: Context, previous_context: Context) -> None:
        password = previous_context.storage["password"]
        raise PermissionError(f"refused a password of {len(password)} letters")

    @action(timeout=0.05)
    def hangs(initial_context: Context) -> None:
        password = initial_context.storage
        while password:
            threading.Event().wait(0.01)

    workflow.task.add([gives, fails, hangs], initial_context=SECRET)

    run = workflow.start(keep_going=True)

    assert [task.status for task in run.tasks] == [COMPLETED, FAILED, FAILED]
    recorded = telemetry.text()
    assert "refused a password of 12 letters" in recorded
    assert SECRET not in recorded
    assert SECRET not in repr(telemetry.tracer)


def test_no_item_is_recorded(workflow: DotFlow, telemetry: Telemetry) -> None:
    """Neither of one that completed nor of one that failed, though the error of the map shows them in the log."""

    @action
    def check(password: str) -> str:
        if len(password) > len(SECRET):
            raise PermissionError(f"refused a password of {len(password)} letters")
        return password

    workflow.task.add(check, each=[SECRET, f"{SECRET}!"], keep_going=True)

    run = workflow.start()

    assert run.tasks[0].error is not None
    assert SECRET in run.tasks[0].error.message
    assert exceptions(telemetry.maps()[0])[0]["exception.message"] == "1 of 2 items failed"
    assert "refused a password of 13 letters" in telemetry.text()
    assert SECRET not in telemetry.text()


class Lost(Tracer):
    """A tracer whose carrier names no function."""

    def trace(self, run_id: str, event: Event) -> None:
        raise ValueError("no")

    def carrier(self, run_id: str, task_id: int) -> Carrier:
        return Carrier("no.such.module:enter", {})


@pytest.mark.parametrize("executor", EVERY, indirect=True)
def test_a_broken_tracer_changes_nothing(
    make_workflow: MakeWorkflow, executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    """A tracer that raises at each event, and whose carrier can't be entered, fails no step."""
    workflow = make_workflow(executor=executor, tracer=Lost())
    workflow.task.add([action(lambda: 1), action(timeout=10)(own_span_in_a_coroutine), action(lambda: 2)])

    run = workflow.start()

    assert run.status is COMPLETED
    assert workflow.result_storage() == [1, (workflow.result_storage()[1][0], 0), 2]


#: A module that configures OpenTelemetry, as in docs/how-to/observability.md: each span is a line in a file.
TELEMETRY = """
import concurrent.futures.thread, json, os
from pathlib import Path
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

class Lines:
    def write(self, text):
        with open(Path(__file__).with_name("spans"), "a") as file:
            file.write(text)
    def flush(self):
        pass

def line(span):
    parent = span.parent and span.parent.span_id
    return json.dumps([span.name, span.context.trace_id, span.context.span_id, parent, os.getpid()]) + "\\n"

provider = TracerProvider(resource=Resource({}))
provider.add_span_processor({processor}(ConsoleSpanExporter(out=Lines(), formatter=line)))
trace.set_tracer_provider(provider)
"""

STEPS = """
import telemetry
from dotflow import action
from opentelemetry import trace

@action
def step():
    with trace.get_tracer(__name__).start_as_current_span("own"):
        return None
"""

PROGRAM = """
from dotflow.providers import TracerOpenTelemetry

tracer = TracerOpenTelemetry()  # before the SDK is there, which is as good as after
import telemetry, steps
workflow = DotFlow(Config(log=LogDefault(output="none"), executor=ExecutorProcess(2, {method!r}), tracer=tracer))
workflow.task.add([steps.step] * 4)
run = workflow.start("parallel")
say(status=str(run.status))
"""


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.processes
@pytest.mark.parametrize(
    ("method", "processor"),
    [("fork", "SimpleSpanProcessor"), ("forkserver", "BatchSpanProcessor")],
)
def test_workers_export_by_themselves(scripts: Scripts, tmp_path: Path, method: str, processor: str) -> None:
    """A step's module that configures the SDK does so in each worker; its batches are exported at its end."""
    (tmp_path / "telemetry.py").write_text(TELEMETRY.replace("{processor}", processor))
    (tmp_path / "steps.py").write_text(STEPS)

    ended = scripts.run(f"import sys; sys.path.insert(0, str(HERE))\n{PROGRAM.format(method=method)}")

    assert ended.facts["status"] == "Completed"
    spans = [json.loads(line) for line in (tmp_path / "spans").read_text().splitlines()]
    attempts = {span_id for name, _, span_id, _, _ in spans if name == "step"}
    assert {parent for name, _, _, parent, _ in spans if name == "own"} == attempts
    assert len(attempts) == 4
    assert len({trace for _, trace, _, _, _ in spans}) == 1
    assert {pid for name, *_, pid in spans if name == "own"}.isdisjoint(
        {pid for name, *_, pid in spans if name == "step"}
    )


def test_a_history_has_the_ids(make_workflow: MakeWorkflow, telemetry: Telemetry, tmp_path: Path) -> None:
    """Of the run's trace, and of the span of each attempt and each item."""
    history = HistorySQLite(tmp_path / "history.db")
    workflow = make_workflow(tracer=telemetry.tracer, history=history)
    workflow.task.add(numbers)
    workflow.task.add(double, each=numbers)
    workflow.task.add(load)
    workflow.start(keep_going=True)

    run = history.load()
    history.close()

    spans = {span_of(span): facts(span) for span in telemetry.attempts()}
    context = telemetry.run().context
    assert context is not None
    assert run.trace == f"{context.trace_id:032x}"
    recorded = {
        attempt.span: (task.task_id, attempt.item, attempt.attempt)
        for task in run.steps
        for attempt in task.all_attempts
        if attempt.item is not None or task.count is None
    }
    assert recorded == {
        span: (attributes["dotflow.task.id"], attributes.get("dotflow.item"), attributes["dotflow.attempt"])
        for span, attributes in spans.items()
    }
    assert len(recorded) == 1 + 3 + 2


def span_of(span: Any) -> str:
    return f"{span.context.span_id:016x}"


def test_without_an_sdk_there_are_no_ids(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """OpenTelemetry's API alone makes no spans."""
    history = HistorySQLite(tmp_path / "history.db")
    workflow = make_workflow(tracer=TracerOpenTelemetry(NoOpTracerProvider()), history=history)
    workflow.task.add(numbers)
    workflow.start()

    run = history.load()
    history.close()

    assert (run.trace, run.steps[0].attempts[0].span) == ("", "")
