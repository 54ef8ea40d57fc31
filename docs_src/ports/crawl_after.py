from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

LINKS = {"/": ["/a", "/b"], "/a": ["/", "/c"], "/b": ["/c", "/d"], "/c": ["/e"]}


@action(retry=3)
def fetch(url: str) -> list[str]:
    return LINKS.get(url, [])  # stands for a request


@action
def seen(known: list[str], urls: list[str]) -> list[str]:
    return known + urls


@action
def linked(fetch: list[list[str]], seen: list[str]) -> list[str]:
    return sorted({link for links in fetch for link in links}.difference(seen))


@action
def is_last(linked: list[str]) -> bool:
    return not linked


level = DotFlow(params={"urls": ..., "known": []})
level.task.add(fetch, each="urls", max_parallel=20).add([seen, linked, is_last])

workflow = DotFlow(Config(storage=StorageFile()), workflow_id="crawl", params={"start": ["/"]})
workflow.task.add(
    level, name="level", needs={"urls": "start"}, repeat=5, until="is_last", carry={"urls": "linked", "known": "seen"}
)

if __name__ == "__main__":
    print(workflow.start("parallel", resume=True).value("level.seen"))
