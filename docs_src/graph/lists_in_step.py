"""Goes through two lists in step, and maps over a map: each item goes on as soon as it can."""

from dotflow import DotFlow, action


@action
def cities() -> list[str]:
    return ["Seattle", "Berlin"]


@action
def forecast(city: str, unit: str) -> str:
    return f"{city}: 21 {unit}"


@action
def shout(text: str) -> str:
    return text.upper()


workflow = DotFlow()
workflow.task.add(cities)
workflow.task.add(forecast, each={"city": cities, "unit": ["F", "C"]})
workflow.task.add(shout, each=forecast)
run = workflow.start(mode="parallel")

print(run.value("forecast"), run.value("shout"))
# ['Seattle: 21 F', 'Berlin: 21 C'] ['SEATTLE: 21 F', 'BERLIN: 21 C']
