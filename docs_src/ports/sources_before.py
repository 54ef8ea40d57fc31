from dotflow import Context, DotFlow, action


@action(retry=3)
def orders() -> list[tuple[str, int]]:
    return [("ada", 120), ("linus", 80), ("ada", 30)]


@action(retry=3)
def countries() -> dict[str, str]:
    return {"ada": "GB", "linus": "FI"}


@action(retry=3)
def rates() -> dict[str, float]:
    return {"GB": 0.84, "FI": 1.0}


@action
def convert(initial_context: Context) -> list[tuple[str, float]]:
    orders, countries, rates = initial_context.storage
    return [(countries[customer], amount * rates[countries[customer]]) for customer, amount in orders]


@action
def load(previous_context: Context) -> int:
    return len(previous_context.storage)  # stands for a database


extract = DotFlow(name="extract")
extract.task.add([orders, countries, rates])
if extract.start(mode="parallel").status != "Completed":
    raise SystemExit("a source is missing")

workflow = DotFlow(name="load")  # another run: another log, other checkpoints, another status
workflow.task.add(convert, initial_context=tuple(extract.result_storage()))
workflow.task.add(load)
run = workflow.start()

print(run.status, *workflow.result_storage())
