"""A place on this machine: two cards, four trainings, and each has one of the cards for itself."""

import os

from dotflow import Config, DotFlow, Resources, action


@action(resources={"gpu": 1, "memory": "8GB"})
def train(rate: float, resources: Resources) -> str:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == resources.gpu[0]
    return f"rate {rate} on cuda:0, with {resources.memory / 1e9:g} GB"  # CUDA counts from 0 what it is shown


workflow = DotFlow(Config(resources={"gpu": ["0", "1"], "memory": "64GB"}))
workflow.task.add(train, each={"rate": [0.1, 0.2, 0.3, 0.4]})
run = workflow.start(mode="parallel")

print(run.status, run.value("train")[0])  # Completed rate 0.1 on cuda:0, with 8 GB
