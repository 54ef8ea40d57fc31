"""Secrets for type checkers: the default of a parameter of any type. mypy and Pyright read this file."""

import os
from typing import assert_type

from dotflow import Config, DotFlow, Secret, action


@action
def sync(token: str = Secret("API_TOKEN")) -> str:
    return token


@action
class Report:
    def __init__(self, password: str = Secret("DB_PASSWORD", default="")) -> None:
        self.password = password


assert_type(sync(), str)
assert_type(sync("mine"), str)
assert_type(Report().password, str)

Config(secrets={"API_TOKEN": "abc"}, mask=("OTHER",))
Config(secrets=lambda name: None)

sync(3)  # type: ignore[arg-type]
Secret(3)  # type: ignore[arg-type]
Secret("A", default=3)  # type: ignore[arg-type]
Config(secrets=3)  # type: ignore[arg-type]

workflow = DotFlow(Config(secrets=os.environ.get))
workflow.task.add(sync).add(Report)
