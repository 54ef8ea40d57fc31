"""A step takes a secret, which no log, message or result shows."""

import os

from dotflow import Config, DotFlow, Secret, action
from dotflow.providers import LogDefault

os.environ["API_TOKEN"] = "tok-5f2c91d0a7"  # your shell, your scheduler or your container sets it


@action
def sync(token: str = Secret("API_TOKEN")) -> None:
    raise ConnectionError(f"401 Unauthorized: GET https://api.example.com/rows?token={token}")


workflow = DotFlow(Config(log=LogDefault(output="none")))
workflow.task.add(sync)
run = workflow.start()

print(run.tasks[0].errors[0].message)
# 401 Unauthorized: GET https://api.example.com/rows?token=***
