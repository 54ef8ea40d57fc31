"""A grid of models of tomorrow's temperature. The best is deployed if it is good enough."""

import csv
from pathlib import Path

from dotflow import DotFlow, action


@action
def highs() -> list[float]:
    lines = Path(__file__).parent.joinpath("weather/seattle-weather.csv").read_text().splitlines()
    return [float(day["temp_max"]) for day in csv.DictReader(lines)]


@action
def train(share: float, days: int, highs: list[float]) -> tuple[float, float, int]:
    guesses = [share * highs[n - 1] + (1 - share) * sum(highs[n - days : n]) / days for n in range(days, len(highs))]
    return sum(abs(a - b) for a, b in zip(guesses, highs[days:], strict=True)) / len(guesses), share, days


@action
def best(train: list[tuple[float, float, int]], limit: float) -> tuple[float, float, int] | None:
    return min(train) if min(train)[0] < limit else None


@action
def deploy(best: tuple[float, float, int]) -> None:
    print("deployed: share {1}, {2} days, error {0:.2f} degrees".format(*best))


@action
def tell(train: list[tuple[float, float, int]]) -> None:
    print(f"not good enough: the best of {len(train)} models errs by {min(train)[0]:.2f} degrees")


shares, days = zip(*((share, days) for share in (0.4, 0.6, 0.8, 1.0) for days in (3, 7, 14, 28)), strict=True)
workflow = DotFlow(name="models", params={"limit": 2.2})
workflow.task.add(highs).add(train, each={"share": shares, "days": days}).add(best)
workflow.task.add(deploy, when=best).add(tell, unless=best)
