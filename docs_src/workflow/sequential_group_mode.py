"""Two groups in sequential mode: order is kept, and values are handed on, inside each group only."""

from dotflow import Context, DotFlow, action


@action
def read(initial_context: Context) -> list[int]:
    stock: list[int] = initial_context.storage
    return stock


@action
def add_up(previous_context: Context) -> int:
    stock: list[int] = previous_context.storage
    return sum(stock)


workflow = DotFlow()
workflow.task.add(step=read, initial_context=[4, 6], group_name="books")
workflow.task.add(step=read, initial_context=[10, 20, 30], group_name="games")
workflow.task.add(step=add_up, group_name="books")
workflow.task.add(step=add_up, group_name="games")
workflow.start(mode="sequential")

for task in workflow.result_task():
    print(f"{task.group_name}: {task.name} -> {task.value}")
# books: read -> [4, 6]
# games: read -> [10, 20, 30]
# books: add_up -> 10
# games: add_up -> 60
