"""A workflow of two functions: the first is told where to begin, the second goes on with what it found."""

from dotflow import Context, DotFlow, action

TEMPERATURES = {"Lisbon": [19.5, 21.0, 24.5], "Oslo": [3.0, 4.5, 1.5]}


@action
def read_temperatures(initial_context: Context) -> list[float]:
    return TEMPERATURES[initial_context.storage]


@action
def find_warmest(previous_context: Context) -> float:
    temperatures: list[float] = previous_context.storage
    return max(temperatures)


workflow = DotFlow(name="weather")
workflow.task.add(step=read_temperatures, initial_context="Lisbon")
workflow.task.add(step=find_warmest)
workflow.start()

for task in workflow.result_task():
    print(f"{task.name}: {task.status}, {task.value}")
# read_temperatures: Completed, [19.5, 21.0, 24.5]
# find_warmest: Completed, 24.5
