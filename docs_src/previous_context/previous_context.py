"""A previous context is what the step before returned; the first step's is empty."""

from dotflow import Context, DotFlow, action


@action
def read(previous_context: Context) -> list[str]:
    print(f"the first step is given {previous_context.storage}")
    return ["ada@example.org", "no address", "alan@example.org"]


@action
def keep_valid(previous_context: Context) -> list[str]:
    return [address for address in previous_context.storage if "@" in address]


@action
def count(previous_context: Context) -> int:
    addresses: list[str] = previous_context.storage
    return len(addresses)


workflow = DotFlow()
workflow.task.add(step=read).add(step=keep_valid).add(step=count)
workflow.start()

print(workflow.result_storage()[1])
# the first step is given None
# ['ada@example.org', 'alan@example.org']
print(workflow.result_storage()[2])  # 2
