"""DotFlowDurability: agents of Pydantic AI in durable steps. Their model requests and tool calls are kept."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import fields, is_dataclass, replace
from hashlib import blake2b
from typing import Any, Final, Literal, TypedDict

from pydantic import BaseModel

from dotflow.calls.waits import aask
from dotflow.code.fingerprint import fingerprint
from dotflow.codec.json import encode_bytes
from dotflow.core.action import Action, AnyAction, action_of
from dotflow.core.approval import Approval, fields_of, rejection
from dotflow.core.calls import INSIDE, SCOPE
from dotflow.core.decorator import action
from dotflow.core.durations import Duration
from dotflow.core.policy import Policy, RetryOn
from dotflow.errors import MissingExtra, ValueNotStorable
from dotflow.worker.files import SCALARS

try:
    from pydantic_ai import FunctionToolset, RunContext, ToolApproved, ToolDenied, ToolsetTool
    from pydantic_ai.durable_exec import (
        JSON_CODEC,
        BaseDurabilityCapability,
        DurabilityEngineSpec,
        DynamicToolsetCallToolParams,
        JournalCallableOperationBackend,
        ModelRequestId,
        ModelRequestParams,
        RoleBasedOperationConfig,
        ToolsetCallToolParams,
        record_durable_unit,
        replay_scope,
    )
    from pydantic_ai.messages import SystemPromptPart
except ImportError as missing:
    raise MissingExtra("dotflow.agents", "pydantic-ai-slim>=2.68", "agents") from missing

_KEY: Final[ContextVar[str]] = ContextVar("dotflow_agents_key")


class CallOptions(TypedDict, total=False):
    """Options of `@action` that count in a call."""

    retry: int
    retry_delay: Duration
    backoff: bool
    retry_on: RetryOn
    max_delay: Duration
    jitter: float
    timeout: Duration


def idempotency_key() -> str:
    """Returns a text that stays the same when the tool call that runs is made again after a crash.

    Raises:
        LookupError: No tool of an agent runs within a durable step.
    """
    try:
        return _KEY.get()
    except LookupError:
        raise LookupError("There is no idempotency key: no tool of an agent runs within a durable step.") from None


class DotFlowDurability(BaseDurabilityCapability[Any]):  # type: ignore[misc]  # a base that mypy skips
    """Keeps each model request and each tool call of an agent which runs in the body of a durable step.

    A later attempt of the step, or a run that resumes it, is given what was kept. Elsewhere it changes nothing.
    Pass it to the agent: `Agent("openai:gpt-5", name="support", capabilities=[DotFlowDurability()])`.

    A model request is known by the messages before it, and a tool call by its tool and arguments; both also by the
    dependencies of the run, and by how many equal ones came before. Instructions, tools, settings and the name of the
    model are the code of model requests, and the function of a tool is that of its calls: an edit counts where the run
    resumes with `"changed"`.

    Args:
        model: Options of `@action` for model requests, such as `{"retry": 3, "timeout": "60s"}`.
        tools: Options for tools. A tool has its own in its metadata: `metadata={"dotflow": {"retry": 3}}`. With
            `metadata={"dotflow": False}` it is no call, and runs again in each attempt.
        key: Called with the dependencies of a run: what of them tells its calls apart. By default that is all of them
            that has a digest: a client counts by its type.
        approve: By the names of tools, the question that a person answers before a call of a tool which requires
            approval: `{"refund": "Refund {amount} for {order}?"}`. The braces name arguments. By default it shows the
            call. A yes with a dictionary as value replaces arguments; the model is told a no, and its comment.
        approve_within: The time for an answer, after which it is a no; None for no limit.
        **options: Those of all durable backends: `models`, `event_stream_handler`, `name`.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="dotflow",
        durable_unit_noun="call",
        durable_container_noun="durable step",
        codec=JSON_CODEC,
        toolset_lifecycles={"function": "enter-always", "mcp": "enter-in-durable-unit", "dynamic": "enter-never"},
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        tool_config_key="dotflow",
    )

    def __init__(
        self,
        *,
        model: CallOptions | None = None,
        tools: CallOptions | None = None,
        key: Callable[[Any], object] | None = None,
        approve: Mapping[str, str] | None = None,
        approve_within: Duration | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._approve = approve or {}
        self._approve_within = approve_within
        self._model = model or CallOptions()
        self._tools = tools or CallOptions()
        self._key = key or _digestible

    @property
    def in_durable_context(self) -> bool:
        """Whether the body of a durable step runs here, and no call in it."""
        return SCOPE.get() not in (None, INSIDE)

    async def wrap_run(self, ctx: Any, *, handler: Any) -> Any:
        """Runs the agent. Spans of what was given back are not exported again."""
        with replay_scope():
            return await super().wrap_run(ctx, handler=handler)

    async def handle_deferred_tool_calls(self, ctx: Any, *, requests: Any) -> Any:
        """Asks people about the calls of tools that require approval, all at once."""
        if not self.in_durable_context or not requests.approvals:
            return None
        calls = {call.tool_call_id: call for call in requests.approvals}
        found = await asyncio.gather(*[self._ask(call.tool_name, call.args_as_dict()) for call in calls.values()])
        answers = dict(zip(calls, found, strict=True))
        return requests.build_results(
            approvals={name: _result_of(answer, calls[name].args_as_dict()) for name, answer in answers.items()},
            answered_by={name: answer.by for name, answer in answers.items() if answer.by},
        )

    async def _ask(self, tool: str, arguments: dict[str, Any]) -> Approval:
        text, values = self._approve.get(tool), arguments
        if text is None:
            if not all(name.isidentifier() and name != "within" for name in arguments):  # a parameter of aask
                values = {"arguments": arguments}
            text = f"Run {tool}({', '.join(f'{name}={{{name}}}' for name in values)})?"
        return await aask(text, within=self._approve_within, **{**dict.fromkeys(fields_of(text)), **values})

    def get_durable_operation_backend(self) -> "_Backend":
        """Returns what makes the operations of an agent calls."""
        options = RoleBasedOperationConfig(
            model=self._model,
            event=CallOptions(),
            capability=CallOptions(),
            tool=self._tools,
            resolve_tool=self._options_of,
        )
        return _Backend(self._key, agent_name=self.name, default_model_id=self.default_model_id, config=options)

    def _options_of(self, _: object, tool: Any, tool_name: str) -> CallOptions | Literal[False]:
        found: CallOptions | Literal[False] = self._build_resolve_tool_config(self._tools)(tool, tool_name)
        return found

    def _toolset_base_config(self, _: object) -> CallOptions:
        return self._tools


class _Backend(JournalCallableOperationBackend[CallOptions]):  # type: ignore[misc]  # as above
    """Makes calls of the operations of one agent."""

    def __init__(self, key: Callable[[Any], object], **options: Any) -> None:
        super().__init__(**options)
        self._key = key

    def bind(self, operation: Any) -> Any:
        """Binds an operation, with what tells its calls apart."""
        return super().bind(replace(operation, cache_identity=_Identity(operation.operation_id, self._key)))

    async def execute(
        self,
        *,
        operation_id: Any,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[Any, ...],
        config: CallOptions | None,
    ) -> object:
        """Makes a call of an operation, or returns what was kept of it."""
        tool, code, counted = cache_key
        is_made = False

        async def made(
            messages: object = None,
            arguments: object = None,
            deps: object = None,
            model: object = None,
            idempotency_key: str = "",
        ) -> object:
            nonlocal is_made
            is_made = True
            token = _KEY.set(idempotency_key)
            try:
                return await body()
            finally:
                _KEY.reset(token)

        if isinstance(operation_id, ModelRequestId):
            name = self._namer.operation_name(replace(operation_id, model_id=None))
        made.__qualname__ = (f"{name.partition(':')[0]}.{tool}" if tool else name).replace("__", ".")
        call = action(key=[*counted], **(config or {}))(made)
        call.name, call.code_fingerprint = made.__qualname__.rpartition(".")[2], code
        value = await call(**counted)
        record_durable_unit(executed=is_made)
        return value


class _Identity:
    """Says what tells the calls of an operation apart."""

    def __init__(self, operation_id: Any, key: Callable[[Any], object]) -> None:
        self._operation_id = operation_id
        self._key = key
        self._actions: dict[str, AnyAction] = {}  # of the functions of tools, by the names of these

    def project(self, params: Any) -> tuple[str, str, dict[str, object]]:
        """Returns the name of the tool or "", the fingerprint of the code, and the arguments that count."""
        found = {field.name: getattr(params, field.name) for field in fields(params)}
        context = next((one for one in found.values() if isinstance(one, RunContext)), None)
        counted: dict[str, object] = {}
        tool, code = "", "version 1"
        if isinstance(params, ModelRequestParams):
            ids: dict[str, str] = {}
            counted["messages"] = [_plain(message.parts, ids) for message in params.messages]
            if self._operation_id.model_id is not None:
                counted["model"] = self._operation_id.model_id
            code = self._code_of_request(params)
        elif isinstance(params, ToolsetCallToolParams | DynamicToolsetCallToolParams):
            tool, counted["arguments"] = params.name, params.tool_args
            definition = self._definition(params)
            if definition is not None:
                code = self._code_of_tool(tool, definition.function)
                context = context if definition.takes_ctx else None
        else:
            counted["arguments"] = _plain({name: one for name, one in found.items() if one is not context}, {})
        if context is not None and context.deps is not None:
            counted["deps"] = self._key(context.deps)
        return tool, code, counted

    def _definition(self, params: Any) -> Any:
        """Returns a tool as its toolset has it, with its function; None for another kind of tool."""
        toolset = getattr(getattr(params, "tool", None), "toolset", None)
        return toolset.tools.get(params.name) if isinstance(toolset, FunctionToolset) else None

    def _code_of_tool(self, name: str, function: Any) -> str:
        step = self._actions.get(name)
        if step is None or step.function is not function:
            step = self._actions[name] = action_of(function) or Action(function, Policy())
        return fingerprint(step)

    def _code_of_request(self, params: Any) -> str:
        """Returns a digest of what the agent is made of: its model, instructions, tools and settings."""
        prompts = [part for message in params.messages for part in message.parts if isinstance(part, SystemPromptPart)]
        parts = [
            self._operation_id.model_name,
            params.model_settings,
            params.model_request_parameters,
            getattr(params.messages[-1], "instructions", None),
            [prompt.content for prompt in prompts],
        ]
        return f"version {blake2b(encode_bytes(_plain(parts, {}), is_sorted=True), digest_size=16).hexdigest()}"


def _result_of(answer: Approval, arguments: dict[str, Any]) -> Any:
    """Returns an answer as Pydantic AI takes it."""
    if not answer.is_approved:
        return ToolDenied(rejection(answer.by, answer.comment) if answer.by else answer.comment)
    changed = {**arguments, **answer.value} if isinstance(answer.value, dict) else None
    return ToolApproved(override_args=changed)


def _plain(value: Any, ids: dict[str, str]) -> Any:
    """Returns a value with dictionaries for what Pydantic AI has made, without what an equal call does not share.

    *ids* takes the ids of the calls of tools, which are replaced by their order.
    """
    if isinstance(value, list | tuple):
        return [_plain(one, ids) for one in value if not isinstance(one, SystemPromptPart)]
    if isinstance(value, dict):
        return {name: _plain(one, ids) for name, one in value.items()}
    if isinstance(value, RunContext | ToolsetTool):
        return None
    if not is_dataclass(value) or isinstance(value, type) or not type(value).__module__.startswith("pydantic_ai."):
        return _digestible(value)
    found: dict[str, Any] = {"class": type(value).__name__}
    for field in fields(value):
        name, one = field.name, getattr(value, field.name)
        is_empty = one is None or one == field.default or (isinstance(one, list | dict | tuple | set) and not one)
        if is_empty or name == "timestamp" or name.startswith("_"):  # a field that is added later changes no key
            continue
        found[name] = ids.setdefault(one, str(len(ids))) if name == "tool_call_id" else _plain(one, ids)
    return found


def _digestible(value: Any) -> Any:
    """Returns a value with the names of their types in place of parts that have no digest, such as clients."""
    if type(value) in SCALARS:
        return value
    try:
        encode_bytes(value)
    except ValueNotStorable:
        if isinstance(value, list | tuple):
            return [_digestible(one) for one in value]
        if isinstance(value, dict):
            return {name: _digestible(one) for name, one in value.items()}
        names = list(type(value).model_fields) if isinstance(value, BaseModel) else []
        if is_dataclass(value):
            names = [field.name for field in fields(value)]
        return {"class": type(value).__qualname__, **{name: _digestible(getattr(value, name)) for name in names}}
    return value
