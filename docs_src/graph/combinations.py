"""Runs a step for every city and day, and takes the mean of each city from what came."""

from dotflow import DotFlow, MapContext, action


@action
def cities() -> list[str]:
    return ["Lima", "Oslo"]


@action
def temperature(city: str, day: int) -> float:
    measured = {"Lima": [18.0, 20.0, 19.0], "Oslo": [-3.0, 1.0]}
    return measured[city][day - 1]


@action
def means(temperature_context: MapContext) -> dict[str, float]:
    by_city: dict[str, list[float]] = {}
    for entry, value in zip(temperature_context.entries, temperature_context.storage, strict=True):
        if value is not None:  # None: this one failed
            by_city.setdefault(entry["city"], []).append(value)
    return {city: sum(values) / len(values) for city, values in by_city.items()}


workflow = DotFlow(params={"days": [1, 2, 3]})
workflow.task.add(cities)
workflow.task.add(temperature, cross={"city": cities, "day": "days"}, max_parallel=20, keep_going=True)
workflow.task.add(means)
run = workflow.start(mode="parallel")

print(len(run["temperature"].items), run.value("means"))
# 6 {'Lima': 19.0, 'Oslo': -1.0}
