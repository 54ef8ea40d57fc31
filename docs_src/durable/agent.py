"""A durable step is ordinary Python. Each call of an action in it is kept when it has returned."""

from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

paid: list[str] = []  # what cost something


@action(retry=3, timeout="60s")
def ask_model(messages: list[str]) -> str:
    paid.append(f"answer {len(messages)}")
    return "DONE: 3 sources" if len(messages) > 3 else f"look for part {len(messages)}"


@action
def search(query: str) -> list[str]:
    paid.append(f"search for {query[9:]}")
    if len(paid) == 4:
        raise ConnectionError("the search engine is down")
    return [f"found {query[9:]}"]


@action(durable=True)
def agent(goal: str) -> str:
    messages = [goal]
    for _ in range(20):
        answer = ask_model(messages)
        if answer.startswith("DONE"):
            return answer
        messages = [*messages, answer, *search(answer)]
    raise RuntimeError("no answer after 20 rounds")


workflow = DotFlow(Config(storage=StorageFile(path=".agent")), workflow_id="agent")
workflow.task.add(agent, params={"goal": "3 sources on storks"})

print(workflow.start().status, paid)
# Failed ['answer 1', 'search for part 1', 'answer 3', 'search for part 3']
paid.clear()
run = workflow.start(resume=True)
print(run.value("agent"), paid)
# DONE: 3 sources ['search for part 3', 'answer 5']
