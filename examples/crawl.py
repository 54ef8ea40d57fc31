"""A crawl of 300 pages of a site that is busy now and then. The pages that never come are reported."""

from urllib.error import HTTPError
from urllib.request import urlopen

from dotflow import Context, DotFlow, action


def is_worth_another_attempt(error: BaseException) -> bool:
    return not isinstance(error, HTTPError) or error.code in (429, 503)


@action
def urls(site: str) -> list[str]:
    return [f"{site}/{number}" for number in range(300)]


@action(retry=3, retry_delay="50ms", retry_on=is_worth_another_attempt, timeout="10s")
def fetch(url: str) -> str:
    with urlopen(url) as page:
        return str(page.read(), "utf-8")


@action
def report(urls: list[str], fetch: list[str], fetch_context: Context) -> dict[str, object]:
    words = sum(len(page.split()) for page in fetch)  # of the pages that came
    missing = [urls[index] for index in fetch_context.errors]
    print(f"{words} words on {len(fetch)} pages; missing: {', '.join(missing) or 'none'}")
    return {"words": words, "missing": missing}


workflow = DotFlow(name="crawl", params={"site": ...})
workflow.task.add(urls).add(fetch, each=urls, max_parallel=20, keep_going=True).add(report)
