"""An initial context is what a step is told from outside. Each task that one add() makes is given the same."""

from dataclasses import dataclass

from dotflow import Context, DotFlow, action


@dataclass(frozen=True)
class Request:
    city: str
    days: int


@action
def forecast(initial_context: Context) -> str:
    request: Request = initial_context.storage
    return f"{request.days} sunny days in {request.city}"


@action
def count_days(initial_context: Context) -> int:
    request: Request = initial_context.storage
    return request.days


workflow = DotFlow()
workflow.task.add(step=[forecast, count_days], initial_context=Request(city="Porto", days=3))
workflow.start()

print(workflow.result_storage())  # ['3 sunny days in Porto', 3]
