"""result_storage() of a class: a list with one context for each of its actions, in the order of the class."""

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

weather = workflow.result_storage()[0]
print([context.storage for context in weather])  # [21.5, 'warm']
