"""Scores a model for each of 12 settings, and trains each of them once."""

from itertools import product

from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

SETTINGS = [*product([0.1, 1.0, 10.0, 100.0], [0.01, 0.1, 1.0])]


@action(cache=True)
def train(setting: tuple[float, float]) -> float:
    penalty, gamma = setting
    flowers, kinds = load_iris(return_X_y=True)
    return float(cross_val_score(SVC(C=penalty, gamma=gamma), flowers, kinds).mean())


@action
def best(train: list[float]) -> str:
    score, setting = max(zip(train, SETTINGS, strict=True))
    return f"{setting}: {score:.3f}"


workflow = DotFlow(Config(storage=StorageFile()), workflow_id="grid")
workflow.task.add(train, each=SETTINGS).add(best)


def main() -> None:
    print(workflow.plan(resume="changed"))
    run = workflow.start(resume="changed")
    trained = [item for item in run.task("train").items if item.restored_from is None]
    print(f"{len(trained)} trained. {run.value('best')}")


if __name__ == "__main__":
    main()
