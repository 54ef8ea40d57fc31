from dotflow import Context, DotFlow, action


@action
def data() -> list[float]:
    return [1.0, 2.1, 2.9, 4.2]


@action
def train(previous_context: Context) -> tuple[float, float]:
    values = previous_context.storage
    slope = (values[-1] - values[0]) / (len(values) - 1)
    return slope, max(abs(value - values[0] - slope * day) for day, value in enumerate(values))


@action
def deploy(initial_context: Context) -> str:
    return f"deployed {initial_context.storage:.2f}"


@action
def tell(initial_context: Context) -> str:
    return f"off by {initial_context.storage:.2f}"


workflow = DotFlow(name="train")
workflow.task.add([data, train])
if workflow.start().status != "Completed":
    raise SystemExit("no model")
slope, error = workflow.result_storage()[1]

after = DotFlow(name="after")  # the choice is in no log, and a resume can't make it again
if error < 0.1:
    after.task.add(deploy, initial_context=slope)
else:
    after.task.add(tell, initial_context=error)
run = after.start()

print(run.status, run.tasks[0].name, after.result_storage()[0])
