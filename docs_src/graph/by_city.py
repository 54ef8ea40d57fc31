"""Runs a step for every city and day, and one for each city with the values of its days."""

from dotflow import DotFlow, action


@action
def cities() -> list[str]:
    return ["Lima", "Oslo"]


@action
def temperature(city: str, day: int) -> float:
    measured = {"Lima": [18.0, 20.0, 19.0], "Oslo": [-3.0, 1.0, -1.0]}
    return measured[city][day - 1]


@action
def mean(city: str, temperature: list[float]) -> str:
    return f"{city} {sum(temperature) / len(temperature)}"


one_city = DotFlow(params={"city": ..., "days": [1, 2, 3]})
one_city.task.add(temperature, each={"day": "days"}).add(mean)

workflow = DotFlow()
workflow.task.add(cities).add(one_city.task, name="climate", each={"city": cities})
run = workflow.start(mode="parallel")

print(run.value("climate.mean"))  # ['Lima 19.0', 'Oslo -1.0']
