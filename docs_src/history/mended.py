"""Prices every night. An article without a price is left out."""

from typing import Any

from dotflow import DotFlow, action


@action
def articles() -> list[dict[str, Any]]:
    print("reading articles.csv")
    return [{"article": "tea", "cents": 350}, {"article": "milk", "cents": 120}, {"article": "rye", "cents": None}]


@action
def net(articles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    priced = []
    for row in (row for row in articles if row["cents"]):
        print("pricing", row["article"])
        priced.append({**row, "net": round(row["cents"] / 1.07)})
    return priced


@action
def report(net: list[dict[str, Any]]) -> str:
    return f"{len(net)} prices"


def nightly() -> DotFlow:
    workflow = DotFlow(workflow_id="nightly", name="Prices")
    workflow.task.add([articles, net, report])
    return workflow
