"""Named needs, maps, branches and parameters for type checkers. mypy and Pyright read this file."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_type

from dotflow import Context, DotFlow, MapContext, Run, Task, TaskError, action
from dotflow.core.types import TypeStatus
from dotflow.graph.builder import TaskBuilder


@action
def urls() -> list[str]:
    return ["https://a.example"]


@action(retry=3, timeout=10)
def fetch(url: str) -> bytes:
    return url.encode()


@action
async def parse(page: bytes, day: str, params: Mapping[str, Any]) -> int:
    return len(page) + len(day) + len(params)


@action
def summary(fetch: list[bytes], fetch_context: MapContext) -> dict[int, str]:
    assert_type(fetch_context.errors, Mapping[int, TaskError])
    return {item: error.message for item, error in fetch_context.errors.items()}


@action
def good_enough(summary: dict[int, str], parse_context: Context | None = None) -> bool:
    return not summary and parse_context is not None


@action
def mirror(url: str) -> bytes:
    return url.encode()


@action(checkpoint=False)
def cluster() -> object:
    return object()


@action
class Report:
    def __init__(self, summary: dict[int, str]) -> None:
        self.summary = summary

    @action
    def load(self) -> int:
        return len(self.summary)

    @action
    def write(self, load: int) -> str:
        return str(load)


# add

workflow = DotFlow(workflow_id="nightly", params={"day": ..., "limit": 100})
assert_type(workflow.task.add(urls, name="sources"), TaskBuilder)
workflow.task.add(fetch, each=urls, max_parallel=20, keep_going=True, fallback=mirror)
workflow.task.add(fetch, each="sources", name="again").add(fetch, each=["https://b.example"], name="literal")
workflow.task.add(parse, each={"page": fetch, "day": ("2026-11-25",)})
workflow.task.add(summary).add(Report).add(good_enough, needs=[urls, "parse", Report])
workflow.task.add(parse, needs={"page": fetch, "day": "day"}, when=good_enough, unless=["summary"])
workflow.task.add(parse, when={"good_enough": True}, each={"page": [b""]}, name="branch")
workflow.task.add("pkg.mod.fn", needs=urls, fallback="pkg.mod.other")
workflow.task.add(cluster).add(action(print), always=True, needs=cluster)
workflow.task.add(action(print), needs=[urls], after=["summary", cluster]).add(action(print), after=urls)
workflow.task.add([urls, fetch], needs=["sources"], keep_going=False)
workflow.task.add(parse, needs=[urls, {"page": fetch}], name="both")
workflow.task.add(DotFlow(), name="inner").add(DotFlow().task, name="other", needs={"day": "day"}, when=urls)
workflow.task.add(parse, params={"day": "2026-11-25"}, outputs=["text", "size"], name="parts").add(urls, outputs=("a",))

workflow.task.add(parse, repeat=8, until=good_enough, carry="page", at_limit="go on", name="rounds")
workflow.task.add(parse, repeat=8, until=good_enough, carry={}, at_limit="fail", name="others")
workflow.task.add(urls, repeat=8, until=good_enough, at_limit="stop")  # type: ignore[arg-type]
workflow.task.add(urls, params=5)  # type: ignore[arg-type]
workflow.task.add(urls, outputs=5)  # type: ignore[arg-type]
workflow.task.add(urls, name=5)  # type: ignore[arg-type]
workflow.task.add(urls, needs=5)  # type: ignore[arg-type]
workflow.task.add(urls, after=5)  # type: ignore[arg-type]
workflow.task.add(urls, after={"url": urls})  # type: ignore[arg-type]
workflow.task.add(urls, each=5)  # type: ignore[arg-type]
workflow.task.add(parse, cross={"page": fetch, "day": ["2026-11-25"]}, name="grid")
workflow.task.add(parse, cross=["2026-11-25"])  # type: ignore[arg-type]
workflow.task.add(urls, max_parallel="many")  # type: ignore[arg-type]
workflow.task.add(urls, when=5)  # type: ignore[arg-type]
workflow.task.add(urls, fallback=5)  # type: ignore[arg-type]
workflow.task.add(urls, always="yes")  # type: ignore[arg-type]
workflow.task.add(urls, keep_going="yes")  # type: ignore[arg-type]
workflow.task.add(5, name="five")  # type: ignore[arg-type]
workflow.task.add(urls, depends_on=[fetch])  # type: ignore[arg-type]
workflow.task.add(urls, None, None, "default", "name")  # type: ignore[call-arg]
DotFlow(params=["day"])  # type: ignore[arg-type]
action(checkpoint="no")  # type: ignore[call-overload]

# Runs

assert_type(workflow.start(mode="parallel", params={"day": "2026-11-25"}), Run)
workflow.start(params="day")  # type: ignore[arg-type]


async def starts() -> None:
    assert_type(await workflow.astart(params={"day": "2026-11-25"}), Run)


# Results

task = workflow.result_task()[1]
assert_type(task, Task)
assert_type(task.status, TypeStatus)
assert_type(task.reason, str)
assert_type(task.item, int | None)
assert_type(task.input, Any)
assert_type(task.restored_from, str | None)
assert_type(task.has_value, bool)
assert_type(task.value, Any)
print(task.result)  # type: ignore[attr-defined]
run = workflow.last
assert_type(run, Run)
assert_type(run["summary"], Task)
assert_type(run[summary].value, Any)
assert_type(run.value(summary), dict[int, str])
parsed: int = run.value(parse)
assert_type(run.value("summary"), Any)
assert_type(run.value("text"), Any)
assert_type(run.value(Report), Any)
print(run.result)  # type: ignore[attr-defined]
run[5]  # type: ignore[index]
run.value(5)  # type: ignore[call-overload]
items: Sequence[Task] = task.items
failed = [item.input for item in task.items if item.status is TypeStatus.FAILED]
result = workflow.result().tasks[1]
assert_type(result.reason, str)
if result.items is not None:
    assert_type(result.items.failed, int)
    assert_type(result.items.failures[0].errors[0].message, str)
