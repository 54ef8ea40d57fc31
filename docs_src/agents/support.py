"""An agent of Pydantic AI in a durable step: each of its answers and each of its tool calls is paid for once."""

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from dotflow import Config, DotFlow, action
from dotflow.agents import DotFlowDurability, idempotency_key
from dotflow.providers import StorageFile

paid: list[str] = []  # what cost something


def scripted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Stands for a model, so that this needs no network."""
    paid.append(f"answer {len(messages)}")
    if len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("refund", {"order": "A-7", "amount": 20})])
    return ModelResponse(parts=[TextPart("20 were paid back.")])


def refund(order: str, amount: int) -> str:
    """Pays money back."""
    paid.append(f"refund {amount} for {order}, {len(idempotency_key())} characters tell it apart")
    return "done"


durability = DotFlowDurability(model={"retry": 3, "timeout": "60s"})
support = Agent(FunctionModel(scripted), name="support", tools=[refund], capabilities=[durability])


@action(durable=True)
async def answer(question: str) -> str:
    output: str = (await support.run(question)).output
    if "the bug is fixed" not in paid:
        raise ValueError("a bug of ours, after the agent is done")
    return output


workflow = DotFlow(Config(storage=StorageFile(path=".storage")), workflow_id="support")
workflow.task.add(answer, params={"question": "I want my money for A-7 back."})

print(workflow.start().status, paid)  # Failed ['answer 1', 'refund 20 for A-7, ...', 'answer 3']
paid[:] = ["the bug is fixed"]
print(workflow.start(resume=True).value("answer"), paid)  # 20 were paid back. ['the bug is fixed']
