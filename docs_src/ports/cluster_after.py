from dotflow import DotFlow, action


@action(checkpoint=False)
def cluster() -> str:
    print("cluster is up")
    return "cluster-1"


@action
def train(cluster: str) -> str:
    return f"a model, made on {cluster}"


@action
def evaluate(train: str) -> str:
    raise ValueError("no test data")


@action
def teardown(cluster: str) -> None:
    print("cluster is down")


workflow = DotFlow(name="nightly")
workflow.task.add([cluster, train, evaluate]).add(teardown, always=True)
run = workflow.start()

print(run.status, [task.name for task in run.tasks if task.error])
