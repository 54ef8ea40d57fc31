from dotflow import Context, DotFlow, action


@action
def train(initial_context: Context) -> str:
    return f"a model, made on {initial_context.storage}"


@action
def evaluate(previous_context: Context) -> str:
    raise ValueError("no test data")


@action
def on_a_cluster() -> list[str]:
    print("cluster is up")
    try:
        inner = DotFlow(name="inner")  # hidden from the outer run: its tasks, its log, its checkpoints
        inner.task.add(train, initial_context="cluster-1").add(evaluate)
        inner.start().raise_for_failure()
        return inner.result_storage()
    finally:
        print("cluster is down")


workflow = DotFlow(name="nightly")
workflow.task.add(on_a_cluster)
run = workflow.start()

print(run.status, [task.name for task in run.tasks if task.error])
