from dotflow import DotFlow, action


class Declined(Exception): ...


class Expired(Declined): ...


@action
def charge(card: str) -> str:
    if card == "blue":
        raise Expired(card)
    if card == "red":
        raise ConnectionError("the bank is away")
    return f"paid by {card}"


@action
def ask_for_another(card: str) -> str:
    return f"asked for another card than {card}"


@action
def charge_tonight(card: str) -> str:
    return f"{card} is charged tonight"


workflow = DotFlow(params={"card": "gold"})
workflow.task.add(charge, fallback={Declined: ask_for_another, ConnectionError: charge_tonight})

for card in ("gold", "blue", "red"):
    print(workflow.start(params={"card": card}).value("charge"))
