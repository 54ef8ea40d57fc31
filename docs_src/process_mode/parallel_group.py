"""Groups in parallel: each group has a process of its own, and its tasks run in it one after the other."""

import os

from dotflow import Context, DotFlow, action


@action
def extract(initial_context: Context) -> tuple[str, int]:
    return f"orders of {initial_context.storage}", os.getpid()


@action
def load(previous_context: Context) -> tuple[str, int]:
    orders, _ = previous_context.storage
    return f"{orders}, loaded", os.getpid()


workflow = DotFlow()
for country in ("Chile", "Japan"):
    workflow.task.add(step=[extract, load], initial_context=country, group_name=country)
workflow.start()

(_, chile), (orders_of_chile, also_chile), (_, japan), (orders_of_japan, also_japan) = workflow.result_storage()
print(orders_of_chile, "|", orders_of_japan)  # orders of Chile, loaded | orders of Japan, loaded
print(chile == also_chile, japan == also_japan)  # True True
print(os.getpid() in (chile, japan))  # False
