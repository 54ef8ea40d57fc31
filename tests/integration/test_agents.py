"""Agents of Pydantic AI in durable steps: each model request and each tool is made once."""

import asyncio
import contextlib
import os
import signal
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, ApprovalRequired, FunctionToolset, ModelRetry, RunContext
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel

from dotflow import Config, Control, DotFlow, action
from dotflow.abc.log import Log
from dotflow.agents import DotFlowDurability, idempotency_key
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine.run import Run
from dotflow.providers import ExecutorAsync, ExecutorProcess, HistorySQLite, LogDefault, StorageFile

COMPLETED, FAILED = TypeStatus.COMPLETED, TypeStatus.FAILED
QUIET = LogDefault(output="none")


class World:
    """What agents have done, in whichever process, and what the test lets them do.

    Args:
        folder: Where it is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, text: str) -> None:
        """Notes an effect. The one of which `kill_before` has the number kills the process before it happens."""
        if os.environ.get("KILL_BEFORE") == str(len(self.done)):
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / "done").open("a") as file:
            file.write(f"{text}\n")

    @property
    def done(self) -> list[str]:
        """The effects, in order."""
        file = self.folder / "done"
        return file.read_text().splitlines() if file.exists() else []

    def forget(self) -> None:
        (self.folder / "done").unlink(missing_ok=True)

    def let(self, name: str) -> None:
        (self.folder / name).touch()

    def lets(self, name: str) -> bool:
        return (self.folder / name).exists()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class Lines(Log):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, **kwargs: Any) -> None: ...

    def error(self, **kwargs: Any) -> None: ...


def flow(world: World, body: Callable[..., Any], **config: Any) -> DotFlow:
    """A workflow with this body as its only step."""
    config.setdefault("log", QUIET)
    workflow = DotFlow(Config(storage=StorageFile(world.folder / "values"), **config), workflow_id="agent")
    workflow.task.add(action(durable=True)(body), name="agent")
    return workflow


def value(run: Run) -> Any:
    (task,) = run.tasks
    assert task.status is COMPLETED, task.errors
    return task.current_context.storage


def model_of(world: World, *answers: ModelResponse) -> FunctionModel:
    """A model that gives these answers, one to each further request of a conversation."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        number = len(messages) // 2
        world.note(f"request {number}")
        return answers[number]

    return FunctionModel(answer)


def calls(*parts: tuple[str, dict[str, Any]]) -> ModelResponse:
    return ModelResponse(parts=[ToolCallPart(name, arguments) for name, arguments in parts])


def says(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(text)])


REFUND = {"order": "A-7", "amount": 20}


def refund_agent(world: World, **options: Any) -> Agent[None, str]:
    """An agent that looks an order up, and pays its money back."""
    model = model_of(world, calls(("look_up", {"order": "A-7"})), calls(("refund", REFUND)), says("refunded"))
    agent = Agent(model, name="support", capabilities=[DotFlowDurability()], **options)

    @agent.tool_plain
    async def look_up(order: str) -> dict[str, Any]:
        world.note(f"look up {order}")
        return {"order": order, "paid": 20}

    @agent.tool_plain
    def refund(order: str, amount: int) -> str:
        world.note(f"refund {amount}")
        return "done"

    return agent


STORY = ["request 0", "look up A-7", "request 1", "refund 20", "request 2"]


def coroutine(world: World) -> DotFlow:
    agent = refund_agent(world)

    async def body() -> str:
        return (await agent.run("Refund order A-7")).output

    return flow(world, body)


def function(world: World) -> DotFlow:
    agent = refund_agent(world)
    return flow(world, lambda: agent.run_sync("Refund order A-7").output)


def worker(world: World) -> DotFlow:
    async def body() -> str:
        return (await refund_agent(world).run("Refund order A-7")).output

    return flow(world, body, executor=ExecutorProcess(max_workers=1))


@pytest.mark.slow
@pytest.mark.parametrize("workflow", [coroutine, function, worker])
def test_an_agent_that_is_killed_before_each_of_its_calls_makes_each_once(
    workflow: Callable[[World], DotFlow], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGKILL, again and again: what was kept is given back."""
    for number in range(len(STORY) + 1):
        monkeypatch.setenv("KILL_BEFORE", str(number))
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # pytest may have threads
            child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                run = workflow(world).start(resume=True)
                os._exit(0 if run.value("agent") == "refunded" else 1)
            os._exit(2)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert world.done == STORY[:number]
        assert code == (0 if number == len(STORY) else 2 if workflow is worker else -signal.SIGKILL)


def test_a_run_of_an_agent_elsewhere_is_a_plain_one(world: World) -> None:
    """Outside of durable steps nothing is kept."""
    agent = refund_agent(world)

    for _ in range(2):
        assert asyncio.run(agent.run("Refund order A-7")).output == "refunded"

    assert world.done == STORY * 2


def test_the_history_lists_requests_and_tools(world: World) -> None:
    """With their names and arguments."""
    history = HistorySQLite(world.folder / "history.db")
    agent = refund_agent(world)

    async def body() -> str:
        return (await agent.run("Refund order A-7")).output

    flow(world, body, history=history).start()

    rows = history.calls("last", "agent").calls
    assert [row.shown.partition("(")[0] for row in rows] == ["request", "look_up", "request", "refund", "request"]
    assert rows[3].shown == "refund({'order': 'A-7', 'amount': 20})"


def stops_at(world: World, name: str) -> None:
    """Fails, until the test lets it pass."""
    if not world.lets(name):
        raise ConnectionError(name)


def test_equal_calls_of_a_tool_are_made_each_with_a_key_of_its_own(world: World) -> None:
    """Two refunds in one answer are two, and a repeated one has its key again."""
    model = model_of(world, calls(("refund", REFUND), ("refund", REFUND)), says("done"))
    agent = Agent(model, name="support", capabilities=[DotFlowDurability()])
    keys: list[str] = []
    both = threading.Barrier(2)

    @agent.tool_plain
    def refund(order: str, amount: int) -> None:
        keys.append(idempotency_key())
        both.wait()
        stops_at(world, "bank")

    async def body() -> str:
        return (await agent.run("Refund twice")).output

    workflow = flow(world, body)
    assert workflow.start().status == "Failed"
    world.let("bank")

    assert value(workflow.start(resume=True)) == "done"
    assert world.done == ["request 0", "request 1"]
    assert len(set(keys[:2])) == 2
    assert sorted(keys[2:]) == sorted(keys[:2])


def test_an_idempotency_key_outside_of_a_tool_is_refused() -> None:
    """Its absence is not taken for a key."""
    with pytest.raises(LookupError, match="no tool of an agent"):
        idempotency_key()


def edited(world: World, edit: str) -> Agent[None, str]:
    """The agent before and after an edit. Its last tool fails until the test lets it pass."""
    model = model_of(world, calls(("look_up", {"order": "A-7"})), calls(("refund", REFUND)), says("refunded"))
    if edit == "model":
        model = FunctionModel(model.function, model_name="other")
    options: dict[str, Any] = {
        "instructions": "Be kind." if edit == "instructions" else "Be quick.",
        "system_prompt": "You are kind." if edit == "system prompt" else "You are quick.",
    }
    if edit == "toolset":
        extra = FunctionToolset[None](id="extra")
        extra.add_function(print, name="show")
        options["toolsets"] = [extra]
    agent = Agent(model, name="support", capabilities=[DotFlowDurability()], **options)

    if edit == "tool":

        @agent.tool_plain
        def look_up(order: str) -> str:
            world.note("look up anew")
            return f"order {order}"
    else:

        @agent.tool_plain
        def look_up(order: str) -> str:
            world.note("look up")
            return f"order {order}"

    @agent.tool_plain
    def refund(order: str, amount: int) -> str:
        world.note("refund")
        stops_at(world, "bank")
        return "done"

    return agent


@pytest.mark.parametrize("edit", ["instructions", "system prompt", "model", "toolset", "tool"])
def test_an_edited_agent_goes_on_where_it_was(edit: str, world: World) -> None:
    """Its answers and tools were paid for, so they count."""

    async def body() -> str:
        return (await edited(world, edit if world.lets("bank") else "").run("Refund order A-7")).output

    workflow = flow(world, body)
    workflow.start()
    world.forget()
    world.let("bank")

    assert value(workflow.start(resume=True)) == "refunded"
    assert world.done == ["refund", "request 2"]


@pytest.mark.parametrize(
    ("edit", "again"),
    [
        ("instructions", ["request 0", "request 1"]),
        ("system prompt", ["request 0", "request 1"]),
        ("model", ["request 0", "request 1"]),
        ("toolset", ["request 0", "request 1"]),
        ("tool", ["look up anew"]),
        ("", []),
    ],
)
def test_what_an_edit_has_changed_is_made_again_where_the_run_asks_for_it(
    edit: str, again: list[str], world: World
) -> None:
    """With resume="changed": the requests of another agent, and the calls of another tool."""

    async def body() -> str:
        return (await edited(world, edit if world.lets("bank") else "").run("Refund order A-7")).output

    workflow = flow(world, body)
    workflow.start()
    world.forget()
    world.let("bank")

    assert value(workflow.start(resume="changed")) == "refunded"
    assert world.done == [*again, "refund", "request 2"]


@dataclass
class Customer:
    """What a run depends on."""

    name: str
    client: object = field(default_factory=object)  # has no digest
    seen: list[str] = field(default_factory=list)


def balance_agent(world: World, **options: Any) -> Agent[Customer, str]:
    model = model_of(world, calls(("balance", {})), says("done"))
    agent = Agent(model, name="bank", deps_type=Customer, capabilities=[DotFlowDurability(**options)])

    @agent.tool
    async def balance(context: RunContext[Customer]) -> str:
        world.note(f"balance of {context.deps.name}")
        if world.lets("change"):
            context.deps.seen.append("balance")
        return context.deps.name

    return agent


@pytest.mark.parametrize("key", [None, lambda customer: customer.name], ids=["fields", "key"])
def test_runs_with_other_dependencies_make_other_calls(key: Any, world: World) -> None:
    """Whatever their order. What has no digest counts by its type."""
    agent = balance_agent(world, key=key)

    async def body() -> list[str]:
        names = ["Ada", "Bob", "Eve"] if world.lets("all") else ["Bob", "Ada"]
        results = [await agent.run("What do I have?", deps=Customer(name)) for name in names]
        stops_at(world, "all")
        return [str(result.all_messages()[2].parts[0].content) for result in results]  # type: ignore[union-attr]

    workflow = flow(world, body)
    workflow.start()
    world.forget()
    world.let("all")

    assert value(workflow.start(resume=True)) == ["Ada", "Bob", "Eve"]
    assert world.done == ["request 0", "balance of Eve", "request 1"]


def test_a_tool_that_takes_no_context_is_known_by_its_arguments(world: World) -> None:
    """Its refund stays paid where the dependencies have a random number."""
    agent = refund_agent(world)

    async def body() -> str:
        output = (await agent.run("Refund order A-7", deps=os.urandom(8))).output  # type: ignore[arg-type]
        stops_at(world, "way")
        return output

    workflow = flow(world, body)
    workflow.start()
    world.forget()
    world.let("way")

    assert value(workflow.start(resume=True)) == "refunded"
    assert world.done == ["request 0", "request 1", "request 2"]


def test_models_and_histories_tell_requests_apart(world: World) -> None:
    """Whatever their order; so does the kind of a message, and not its time or the id of a tool's call."""

    def names(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        world.note("request")
        return says(" ".join(type(part).__name__ for message in messages for part in message.parts))

    other = FunctionModel(lambda messages, info: says("the other model"))
    agent = Agent(FunctionModel(names), name="echo", capabilities=[DotFlowDurability(models={"v1.2": other})])
    asked = ModelRequest(parts=[UserPromptPart("Hello")])
    history = HistorySQLite(world.folder / "history.db")

    async def body() -> list[str]:
        call = ToolCallPart("look_up", {})  # with a new id in each attempt
        found = ToolReturnPart("look_up", "found", tool_call_id=call.tool_call_id)
        options: list[dict[str, Any]] = [
            {"message_history": [asked, ModelResponse(parts=[call]), ModelRequest(parts=[found])]},
            {"message_history": [asked, ModelResponse(parts=[TextPart("hello")])]},
            {"message_history": [asked, ModelResponse(parts=[ThinkingPart("hello")])]},
            {"model": "v1.2"},
            {},
        ]
        if world.lets("way"):
            options.reverse()
        outputs = [(await agent.run("Go", **one)).output for one in options]
        stops_at(world, "way")
        return outputs

    workflow = flow(world, body, history=history)
    workflow.start()
    world.let("way")
    rows = history.calls("last", "agent").calls

    assert value(workflow.start(resume=True)) == [
        "UserPromptPart",
        "the other model",
        "UserPromptPart ThinkingPart UserPromptPart",
        "UserPromptPart TextPart UserPromptPart",
        "UserPromptPart ToolCallPart ToolReturnPart UserPromptPart",
    ]
    assert world.done == ["request"] * 4
    assert [row.shown.partition("(")[0] for row in rows] == ["request"] * 5


def test_an_output_that_was_sent_back_is_kept(world: World) -> None:
    """Though the request to repeat it gets another id in each attempt."""
    agent = Agent(model_of(world, says("bad"), says("good")), name="strict", capabilities=[DotFlowDurability()])

    @agent.output_validator
    def check(output: str) -> str:
        if output == "bad":
            raise ModelRetry("again")
        return output

    async def body() -> str:
        output = (await agent.run("Go")).output
        stops_at(world, "way")
        return output

    workflow = flow(world, body)
    workflow.start()
    world.let("way")

    assert value(workflow.start(resume=True)) == "good"
    assert world.done == ["request 0", "request 1"]


def test_an_agent_in_a_tool_is_part_of_its_call(world: World) -> None:
    """It runs as it does elsewhere, with toolsets of its own, and not again once the tool has returned."""
    inner = Agent(
        model_of(world, calls(("shout", {})), says("inner")), name="inner", capabilities=[DotFlowDurability()]
    )
    outer = Agent(TestModel(), name="outer", capabilities=[DotFlowDurability()])

    def shout() -> None:
        world.note("shout")

    @outer.tool_plain
    async def ask() -> str:
        return (await inner.run("Go", toolsets=[FunctionToolset([shout], id="loud")])).output

    async def body() -> str:
        output = (await outer.run("Go")).output
        stops_at(world, "way")
        return output

    workflow = flow(world, body)
    workflow.start()
    world.let("way")

    assert value(workflow.start(resume=True)) == '{"ask":"inner"}'
    assert world.done == ["request 0", "shout", "request 1"]


def test_a_toolset_that_a_run_brings_is_refused(world: World) -> None:
    """Its calls would not be kept."""
    agent = refund_agent(world)

    async def body() -> str:
        return (await agent.run("Go", toolsets=[FunctionToolset([print], id="loud")])).output

    (task,) = flow(world, body).start().tasks

    assert "cannot be added at runtime with dotflow" in task.errors[-1].message
    assert world.done == []


def test_a_tool_that_changes_the_dependencies_fails(world: World) -> None:
    """A kept call would not repeat the change."""
    agent = balance_agent(world)
    world.let("change")

    async def body() -> str:
        return (await agent.run("What do I have?", deps=Customer("Ada", client=None))).output

    (task,) = flow(world, body).start().tasks

    assert task.status is FAILED
    assert "'balance' changed its argument 'deps' in place" in task.errors[-1].message


def test_a_tool_without_calls_runs_in_each_attempt(world: World) -> None:
    """With dotflow: False in its metadata. What it changes counts again."""
    model = model_of(world, calls(("remember", {"what": "tea"})), calls(("order", {})), says("done"))
    agent = Agent(model, name="waiter", deps_type=list[str], capabilities=[DotFlowDurability()])

    @agent.tool(metadata={"dotflow": False})
    def remember(context: RunContext[list[str]], what: str) -> None:
        context.deps.append(what)

    @agent.tool_plain
    def order() -> None:
        stops_at(world, "kitchen")

    async def body() -> list[str]:
        deps: list[str] = []
        await agent.run("Tea, please", deps=deps)
        return deps

    workflow = flow(world, body)
    workflow.start()
    world.let("kitchen")

    assert value(workflow.start(resume=True)) == ["tea"]


def test_options_of_requests_and_tools_count_in_a_call(world: World) -> None:
    """Retries within one attempt of the step; those of a tool stand in its metadata."""
    made: list[str] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        made.append("request")
        if len(made) == 1:
            raise ConnectionError
        return calls(("fetch", {}), ("save", {})) if len(messages) == 1 else says("done")

    once: dict[str, Any] = {"retry": 2, "retry_delay": 0, "timeout": "30s"}
    durability = DotFlowDurability(model=once, tools=once)
    agent = Agent(FunctionModel(answer), name="options", capabilities=[durability])

    @agent.tool_plain
    def fetch() -> None:
        made.append("fetch")
        if made.count("fetch") == 1:
            raise ConnectionError

    @agent.tool_plain(metadata={"dotflow": {"retry": 3}})
    def save() -> None:
        made.append("save")
        if made.count("save") < 3:
            raise ConnectionError

    async def body() -> str:
        return (await agent.run("Go")).output

    assert value(flow(world, body).start()) == "done"
    assert [made.count(name) for name in ("request", "fetch", "save")] == [3, 2, 3]


def test_what_a_tool_asks_of_the_model_is_kept(world: World) -> None:
    """ModelRetry is an answer, and no failure of the call."""
    model = model_of(world, calls(("guess", {"number": 1})), calls(("guess", {"number": 2})), says("done"))
    agent = Agent(model, name="guess", capabilities=[DotFlowDurability(tools={"retry": 3})])

    @agent.tool_plain
    def guess(number: int) -> str:
        world.note(f"guess {number}")
        if number == 1:
            raise ModelRetry("higher")
        return "right"

    async def body() -> str:
        output = (await agent.run("Guess")).output
        stops_at(world, "way")
        return output

    workflow = flow(world, body)
    workflow.start()
    world.let("way")

    assert value(workflow.start(resume=True)) == "done"
    assert world.done == ["request 0", "guess 1", "request 1", "guess 2", "request 2"]


def asking_agent(world: World, **options: Any) -> Agent[None, str]:
    """An agent whose refunds require approval."""
    model = model_of(world, calls(("refund", REFUND), ("refund", {**REFUND, "amount": 5})), says("done"))
    agent = Agent(model, name="support", capabilities=[DotFlowDurability(**options)])

    @agent.tool_plain(requires_approval=True)
    def refund(order: str, amount: int, reason: str | None = None) -> str:
        world.note(f"refund {amount}")
        return f"{amount} paid"

    return agent


def asking(world: World, **options: Any) -> DotFlow:
    agent = asking_agent(world, **options)

    async def body() -> list[str]:
        messages = (await agent.run("Refund")).all_messages()
        return [str(part.content) for part in messages[2].parts]  # type: ignore[union-attr]

    return flow(world, body, history=HistorySQLite(world.folder / "history.db"))


@pytest.mark.parametrize(
    ("options", "questions"),
    [
        ({}, ["Run refund(order=A-7, amount=20)?", "Run refund(order=A-7, amount=5)?"]),
        ({"approve": {"refund": "Pay {amount}, since {reason}?"}}, ["Pay 20, since None?", "Pay 5, since None?"]),
    ],
    ids=["default", "own"],
)
def test_a_tool_that_requires_approval_asks_a_person(
    options: dict[str, Any], questions: list[str], world: World
) -> None:
    """The run is paused. The model is told a no, and a yes may bring other arguments."""
    workflow = asking(world, **options)
    run = workflow.start()
    assert run.state is TypeRunState.PAUSED
    assert sorted(question.text for question in run.questions) == sorted(questions)
    assert world.done == ["request 0"]

    first, second = sorted(run.questions, key=lambda question: "20" not in question.text)
    control = Control(workflow)
    control.approve(run.run_id, first.step, by="ann", value={"amount": 15})
    control.reject(run.run_id, second.step, by="bob", comment="too little")
    run = workflow.start(resume=True)

    assert value(run) == ["15 paid", "bob rejected it: too little"]
    assert world.done == ["request 0", "refund 15", "request 1"]


def test_a_tool_may_ask_for_approval_itself(world: World) -> None:
    """After it has looked at its arguments. Other tools of the answer run before."""
    model = model_of(world, calls(("refund", REFUND), ("refund", {**REFUND, "amount": 5})), says("done"))
    agent = Agent(model, name="support", capabilities=[DotFlowDurability()])

    @agent.tool
    def refund(context: RunContext[None], order: str, amount: int) -> None:
        if amount > 10 and not context.tool_call_approved:
            raise ApprovalRequired
        world.note(f"refund {amount}")

    async def body() -> str:
        return (await agent.run("Refund")).output

    workflow = flow(world, body, history=HistorySQLite(world.folder / "history.db"))
    run = workflow.start()
    assert [question.text for question in run.questions] == ["Run refund(order=A-7, amount=20)?"]
    assert world.done == ["request 0", "refund 5"]
    Control(workflow).approve(run.run_id)

    assert value(workflow.start(resume=True)) == "done"
    assert world.done == ["request 0", "refund 5", "refund 20", "request 1"]


def test_a_tool_without_an_answer_in_time_is_not_run(world: World) -> None:
    """The model is told so."""
    workflow = asking(world, approve_within=0.05)
    workflow.start()
    time.sleep(0.1)

    assert value(workflow.start(resume=True)) == ["it was not approved within 0.05 s"] * 2
    assert world.done == ["request 0", "request 1"]


def streaming_agent(world: World) -> Agent[None, str]:
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        world.note(f"request {len(messages) // 2}")
        if len(messages) == 1:
            yield {0: DeltaToolCall("look_up", "{}")}
        else:
            yield "do"
            yield "ne"

    async def follow(context: RunContext[None], events: Any) -> None:
        async for event in events:
            world.note(type(event).__name__)

    durability = DotFlowDurability(event_stream_handler=follow)
    agent = Agent(FunctionModel(stream_function=answer), name="stream", capabilities=[durability])

    @agent.tool_plain
    def look_up() -> str:
        stops_at(world, "way")
        return "found"

    return agent


def test_a_streamed_request_and_the_handler_of_its_events_are_kept(world: World) -> None:
    """Neither is repeated."""
    agent = streaming_agent(world)

    async def body() -> str:
        return (await agent.run("Go")).output

    workflow = flow(world, body)
    workflow.start()
    first = world.done
    world.let("way")

    assert value(workflow.start(resume=True)) == "done"
    assert first[0] == "request 0"
    assert "FunctionToolCallEvent" in first
    assert [line for line in world.done[len(first) :] if not line.startswith("Part")] == [
        "FunctionToolResultEvent",
        "request 1",
        "FinalResultEvent",
    ]


def test_an_output_is_streamed_from_what_was_kept(world: World) -> None:
    """By run_stream."""
    agent = streaming_agent(world)
    world.let("way")

    async def body() -> list[str]:
        async with agent.run_stream("Go") as stream:
            found = [text async for text in stream.stream_text()]
        stops_at(world, "end")
        return found

    workflow = flow(world, body)
    workflow.start()
    world.let("end")

    assert value(workflow.start(resume=True))[-1] == "done"
    assert [line for line in world.done if line.startswith("request")] == ["request 0", "request 1"]


def test_a_pause_stops_an_agent_at_its_next_call(world: World) -> None:
    """Tools that run side by side end first, and are kept."""
    model = model_of(world, calls(("wait", {}), ("refund", REFUND)), says("done"))
    agent = Agent(model, name="support", capabilities=[DotFlowDurability()])
    paused = threading.Event()

    @agent.tool_plain
    def wait() -> None:
        world.note("wait")
        paused.wait()

    @agent.tool_plain
    def refund(order: str, amount: int) -> None:
        world.note("refund")
        paused.wait()

    async def body() -> str:
        return (await agent.run("Refund")).output

    workflow = flow(world, body, executor=ExecutorAsync())
    run = workflow.launch()
    while len(world.done) < 3:
        time.sleep(0.01)
    run.pause()
    paused.set()
    run.wait()

    assert run.state is TypeRunState.PAUSED
    assert sorted(world.done) == ["refund", "request 0", "wait"]
    assert value(workflow.start(resume=True)) == "done"
    assert sorted(world.done) == ["refund", "request 0", "request 1", "wait"]


def test_what_is_given_back_is_not_traced_again(world: World) -> None:
    """A span that covers calls of an earlier attempt only is not exported."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    agent = refund_agent(world)
    settings = InstrumentationSettings(tracer_provider=provider)

    async def body() -> str:
        output = (await agent.run("Refund order A-7", capabilities=[Instrumentation(settings)])).output
        stops_at(world, "way")
        return output

    workflow = flow(world, body)
    workflow.start()
    first = sorted(span.name for span in exporter.get_finished_spans())
    exporter.clear()
    world.let("way")
    workflow.start(resume=True)

    assert "execute_tool refund" in first
    assert [span.name for span in exporter.get_finished_spans()] == ["invoke_agent support"]


def test_the_test_model_of_the_library_works(world: World) -> None:
    """It calls each tool with made-up arguments."""
    agent = Agent(TestModel(), name="support", capabilities=[DotFlowDurability()])

    @agent.tool_plain
    def refund(order: str) -> str:
        world.note("refund")
        stops_at(world, "way") if len(world.done) > 1 else None
        return "done"

    async def body() -> str:
        output = (await agent.run("Refund")).output
        stops_at(world, "way")
        return output

    workflow = flow(world, body)
    workflow.start()
    world.let("way")

    assert value(workflow.start(resume=True)) == '{"refund":"done"}'
    assert world.done == ["refund"]


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """No test asks a model of the world."""
    from pydantic_ai import models

    allowed, models.ALLOW_MODEL_REQUESTS = models.ALLOW_MODEL_REQUESTS, False
    yield
    models.ALLOW_MODEL_REQUESTS = allowed
