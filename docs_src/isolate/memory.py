"""memory='100 MB': an attempt that uses more is killed, with all that it has started, and the machine stays usable."""

from dotflow import DotFlow, action


@action(memory="100 MB")
def count(rows: int) -> int:
    table = bytearray(b"x") * (rows * 1_000)
    return len(table) // 1_000


workflow = DotFlow()
workflow.task.add(count, each={"rows": [1_000, 900_000, 2_000]}, keep_going=True)
run = workflow.start()

for item in run.task("count").items:
    print(item.status, item.value, [error.exception for error in item.errors])
# Completed 1000 []
# Failed None ['MemoryExceeded']
# Completed 2000 []
