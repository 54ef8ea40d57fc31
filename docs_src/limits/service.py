"""A limit over all runs and processes: ten a second and five at once, and the service may ask for a pause."""

from dotflow import DotFlow, Throttled, action

busy = {7: "0.2s"}  # what a service that is busy would send as Retry-After, once


@action
def pages() -> list[int]:
    return list(range(20))


@action(limit="shop.example: 10/s, 5 at once")
def fetch(page: int) -> str:
    if page in busy:
        raise Throttled(busy.pop(page))
    return f"page {page}"


workflow = DotFlow()
workflow.task.add(pages).add(fetch, each=pages)
run = workflow.start(mode="parallel")

print(run.status, len(run.value("fetch")))  # Completed 20
print({item.attempt for item in run.task("fetch").items})  # {1}
