"""One step follows one error, and another step any other one."""

from dotflow import DotFlow, TaskError, action


class Declined(Exception):
    """The bank says no."""


@action
def charge(card: str) -> str:
    if card == "blue":
        raise Declined(card)
    if card == "red":
        raise ConnectionError("the bank is away")
    return f"paid by {card}"


@action
def ask_for_another(card: str) -> str:
    return f"asked for another card than {card}"


@action
def charge_tonight(card: str, error: TaskError) -> str:
    return f"{card} is charged tonight: {error.message}"


workflow = DotFlow(params={"card": "gold"})
workflow.task.add(charge, fallback={Declined: ask_for_another, Exception: charge_tonight})

for card in ("gold", "blue", "red"):
    print(workflow.start(params={"card": card}).value("charge"))
# paid by gold
# asked for another card than blue
# red is charged tonight: the bank is away
