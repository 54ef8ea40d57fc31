from dotflow import DotFlow, action


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
def convert(
    orders: list[tuple[str, int]], countries: dict[str, str], rates: dict[str, float]
) -> list[tuple[str, float]]:
    return [(countries[customer], amount * rates[countries[customer]]) for customer, amount in orders]


@action
def load(convert: list[tuple[str, float]]) -> int:
    return len(convert)  # stands for a database


workflow = DotFlow(name="sales")
workflow.task.add([orders, countries, rates, convert, load])
run = workflow.start(mode="parallel")

print(run.status, *(run.value(name) for name in ("convert", "load")))
