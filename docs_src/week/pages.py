"""Many URLs at once: at most four at a time, each tried three times, and one that fails stops no other."""

from pathlib import Path
from urllib.request import urlopen

from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile


@action
def urls() -> list[str]:
    site = Path("site").absolute().as_uri()  # yours is https://...
    return [f"{site}/{number}.html" for number in range(1, 7)]


@action(retry=3, retry_delay="200ms", backoff=True, timeout="10s")
def fetch(url: str) -> int:
    with urlopen(url, timeout=5) as response:
        return len(response.read())


@action
def total(fetch: list[int]) -> str:
    return f"{sum(fetch)} bytes on {len(fetch)} pages"


pages = DotFlow(Config(storage=StorageFile()), workflow_id="pages")
pages.task.add(urls).add(fetch, each=urls, max_parallel=4, keep_going=True).add(total)
