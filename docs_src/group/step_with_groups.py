"""Three groups: side by side, each in a process of its own; inside of a group the tasks run in order."""

from dotflow import Context, DotFlow, action


@action
def fetch(initial_context: Context) -> list[float]:
    measured = {"Lima": [18.0, 19.5], "Oslo": [-3.0, 1.0], "Cairo": [30.5, 33.0]}
    return measured[initial_context.storage]


@action
def average(previous_context: Context) -> float:
    temperatures: list[float] = previous_context.storage
    return sum(temperatures) / len(temperatures)


workflow = DotFlow(name="climate")
for city in ("Lima", "Oslo", "Cairo"):
    workflow.task.add(step=[fetch, average], initial_context=city, group_name=city)
run = workflow.start()

print({task.group_name: task.value for task in run.tasks if task.name == "average"})
# {'Lima': 18.75, 'Oslo': -1.0, 'Cairo': 31.75}
