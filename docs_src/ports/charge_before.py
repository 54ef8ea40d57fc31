from dotflow import DotFlow, TaskError, action


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
def recover(card: str, error: TaskError) -> str:
    if error.exception in ("Declined", "Expired"):  # by its text: the next subclass is missed
        return f"asked for another card than {card}"
    if error.exception == "ConnectionError":
        return f"{card} is charged tonight"
    raise RuntimeError(error.message)  # it hides where the bug is


workflow = DotFlow(params={"card": "gold"})
workflow.task.add(charge, fallback=recover)

for card in ("gold", "blue", "red"):
    print(workflow.start(params={"card": card}).value("charge"))
