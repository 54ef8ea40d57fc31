"""result_context() of a class: one context for the task, and in it one for each of its actions."""

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

for context in workflow.result_context():
    print(context.task_id, context.storage)  # 0 [Context(21.5, task_id=0), Context('warm', task_id=0)]
    measured, described = context.storage
    print(measured.storage, described.storage)  # 21.5 warm
