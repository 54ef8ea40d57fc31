"""result_task() of a class: it is one task, whose value is a context for each of its actions."""

from dotflow import Context, DotFlow, action


@action
class Weather:
    @action
    def measure(self) -> float:
        return 21.5

    @action
    def describe(self, previous_context: Context) -> str:
        return "warm" if previous_context.storage > 20 else "cool"


workflow = DotFlow()
workflow.task.add(step=Weather)
workflow.start()

for task in workflow.result_task():
    print(task.task_id, task.name, task.status)  # 0 Weather Completed
    print([context.storage for context in task.value])  # [21.5, 'warm']
