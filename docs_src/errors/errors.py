"""What went wrong is kept on the task: one error for each failed attempt, with type, message and traceback."""

from dotflow import DotFlow, action

prices = iter(["free", "4.20 EUR"])


@action(retry=2, retry_delay=0)
def read_price() -> float:
    return float(next(prices))


workflow = DotFlow()
workflow.task.add(step=read_price)
workflow.start()

task = workflow.result_task()[0]
print(task.status)  # Failed
for error in task.errors:
    print(f"attempt {error.attempt}: {error.exception}: {error.message}")
# attempt 1: ValueError: could not convert string to float: 'free'
# attempt 2: ValueError: could not convert string to float: '4.20 EUR'

print(task.errors[-1].traceback)
# Traceback (most recent call last):
# ...
# ValueError: could not convert string to float: '4.20 EUR'
