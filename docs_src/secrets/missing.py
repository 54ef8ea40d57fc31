"""What is missing is known before anything runs."""

from dotflow import Config, DotFlow, Secret, action
from dotflow.errors import SecretMissing


@action
def extract(dsn: str = Secret("WAREHOUSE_DSN")) -> str:
    return dsn


@action
def publish(token: str = Secret("CHAT_TOKEN"), channel: str = Secret("CHAT_CHANNEL", default="#data")) -> str:
    return channel


vault = {"WAREHOUSE_DSN": "postgres://reader:s3cret@warehouse/sales"}  # or a function: secrets=vault.read
workflow = DotFlow(Config(secrets=vault.get))
workflow.task.add([extract, publish])

try:
    workflow.start()
except SecretMissing as error:
    for step, parameter, name in error.missing:
        print(f"step {step} takes {parameter} from {name}")
# step publish takes token from CHAT_TOKEN
