"""A class as a step: its actions run in the order in which they are written, on one instance."""

from dotflow import Context, DotFlow, action


@action
class MonthlyInvoice:
    def __init__(self) -> None:
        self.currency = "EUR"

    @action
    def collect(self) -> list[int]:
        return [120, 80, 45]

    @action
    def add_up(self, previous_context: Context) -> int:
        amounts: list[int] = previous_context.storage
        return sum(amounts)

    @action
    def write(self, previous_context: Context) -> str:
        return f"to pay: {previous_context.storage} {self.currency}"


workflow = DotFlow()
workflow.task.add(step=MonthlyInvoice)
workflow.start()

invoice = workflow.result_storage()[0]  # one context for each of its actions
print([context.storage for context in invoice])  # [[120, 80, 45], 245, 'to pay: 245 EUR']
