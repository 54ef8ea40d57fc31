"""Tokens and money: a limit that waits by what a model will take, and a budget that refuses when it is used up."""

from dotflow import DotFlow, action, used

PRICE = 0.01  # dollars for a token, of a model that is dear


@action
def texts() -> list[str]:
    return ["a short one", "a longer one, with more words in it", "and one that nothing is left for"]


@action(
    limit="model: 200000 tokens/min, 20 at once",
    budget="model: $0.20/run",
    uses=lambda text: {"tokens": len(text) // 3, "usd": len(text) // 3 * PRICE},
)
def ask(text: str) -> str:
    tokens = len(text.split())  # what the answer of a model says
    used(tokens=tokens, usd=tokens * PRICE)
    return text.upper()


workflow = DotFlow()
workflow.task.add(texts).add(ask, each=texts, keep_going=True)
run = workflow.start()

print(run.status)  # Failed
for item in run.task("ask").items:
    print(item.status, *(error.message for error in item.errors))
# Completed
# Completed
# Failed model has used $0.11 of $0.20/run, and 'ask[2]' needs $0.10. Raise budget= and resume: what is finished stays.
