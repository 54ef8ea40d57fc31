from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

FACTS = ["who", "what", "when", "where"]


@action
def write(topic: str) -> str:
    return f"{topic}:"


@action
def refine(draft: str, missing: list[str]) -> str:
    return " ".join([draft, *missing[:1]])  # stands for a model


@action
def judge(refine: str) -> list[str]:
    return [fact for fact in FACTS if fact not in refine]


@action
def good(judge: list[str]) -> bool:
    return not judge


@action
def publish(draft: str) -> str:
    return f"published {draft}"


again = DotFlow(params={"draft": ..., "missing": []})
again.task.add([refine, judge, good])

workflow = DotFlow(Config(storage=StorageFile()), workflow_id="essay", params={"topic": "the fire"})
workflow.task.add(write)
workflow.task.add(
    again, name="round", needs={"draft": write}, repeat=8, until="good", carry={"draft": "refine", "missing": "judge"}
)
workflow.task.add(publish, needs={"draft": "round.refine"})

if __name__ == "__main__":
    print(workflow.start(resume=True).value("publish"))
