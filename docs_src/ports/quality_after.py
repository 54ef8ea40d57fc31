from dotflow import DotFlow, action


@action
def data() -> list[float]:
    return [1.0, 2.1, 2.9, 4.2]


@action
def train(data: list[float]) -> tuple[float, float]:
    slope = (data[-1] - data[0]) / (len(data) - 1)
    return slope, max(abs(value - data[0] - slope * day) for day, value in enumerate(data))


@action
def good_enough(train: tuple[float, float]) -> bool:
    return train[1] < 0.1


@action
def deploy(train: tuple[float, float]) -> str:
    return f"deployed {train[0]:.2f}"


@action
def tell(train: tuple[float, float]) -> str:
    return f"off by {train[1]:.2f}"


workflow = DotFlow(name="train")
workflow.task.add([data, train, good_enough]).add(deploy, when=good_enough).add(tell, unless=good_enough)
run = workflow.start()

chosen = run.task("tell" if run.task("deploy").status == "Skipped" else "deploy")
print(run.status, chosen.name, chosen.value)
