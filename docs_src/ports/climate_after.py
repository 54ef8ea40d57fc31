from dotflow import Config, DotFlow, MapContext, action
from dotflow.providers import StorageFile

MEASURED = {"Lima": [18.0, 20.0, 19.0], "Oslo": [-3.0, 1.0, -1.0]}


@action
def cities() -> list[str]:
    return ["Lima", "Oslo"]


@action(retry=3)
def measure(city: str, day: int) -> float:
    return MEASURED[city][day - 1]  # stands for a request


@action
def means(measure_context: MapContext) -> dict[str, float]:
    by_city: dict[str, list[float]] = {}
    for entry, temperature in zip(measure_context.entries, measure_context.storage, strict=True):
        by_city.setdefault(entry["city"], []).append(temperature)
    return {city: sum(values) / len(values) for city, values in by_city.items()}


workflow = DotFlow(Config(storage=StorageFile()), workflow_id="climate")
workflow.task.add(cities).add(measure, cross={"city": cities, "day": [1, 2, 3]}).add(means)

if __name__ == "__main__":
    print(workflow.start("parallel", resume=True).value("means"))
