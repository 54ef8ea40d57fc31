"""The diagram of a workflow, in Mermaid and DOT."""

import re
from typing import Any

import pytest

from dotflow import DotFlow, action
from dotflow.errors import InvalidArgument


@action
def urls() -> list[str]:
    return []


@action
def fetch(url: str) -> str:
    return url


@action
def summary(fetch: list[str], day: str = "") -> bool:
    return True


@action
def plain() -> None:
    pass


@action
def follow(previous_context: Any) -> None:
    pass


def lines(workflow: DotFlow, format: str = "mermaid") -> list[str]:
    return [line.strip() for line in workflow.task.graph(format).splitlines()]


def test_values_items_and_waiting_have_arrows_of_their_own() -> None:
    """Solid for a value, thick for items, dashed for a task that must have completed, with `after` for any end."""
    workflow = DotFlow(params={"day": "today"})
    workflow.task.add(urls).add(fetch, each=urls).add(summary).add(plain, needs=[summary], after=[fetch])

    assert lines(workflow) == [
        "flowchart TD",
        'p_day[/"day"/]',
        't0["urls"]',
        't1[["fetch<br/>× each urls"]]',
        't2["summary"]',
        't3["plain"]',
        't0 ==>|"each"| t1',
        "t1 --> t2",
        "p_day --> t2",
        "t2 -.-> t3",
        't1 -.->|"after"| t3',
    ]


def test_a_value_that_may_be_missing_has_a_circle() -> None:
    """A parameter with a default takes it, in both formats; one without a default beside it makes it an arrow."""

    @action
    def join(urls: list[str] | None = None, plain_context: Any = None) -> None: ...

    @action
    def both(urls: list[str], urls_context: Any = None) -> None: ...

    workflow = DotFlow(params={"day": "today"})
    workflow.task.add(urls).add(plain).add(join).add(both)
    workflow.task.add(summary, needs={"fetch": urls})  # a run parameter is never missing
    drawn, dot = lines(workflow), lines(workflow, "dot")

    assert drawn[-5:] == ["t0 --o t2", "t1 --o t2", "t0 --> t3", "t0 --> t4", "p_day --> t4"]
    assert 't0 -> t2 [style="solid", arrowhead="odot"];' in dot
    assert 't0 -> t3 [style="solid"];' in dot


def test_branches_have_their_condition_as_label() -> None:
    """On the arrow, also on that from a run parameter."""
    workflow = DotFlow(params={"fast": ["a"], "word": ""})
    workflow.task.add(summary, name="good", needs={"fetch": "fast"})
    workflow.task.add(plain, name="one", when="good").add(plain, name="two", unless={"word": 'a"b'})
    workflow.task.add(plain, name="three", when="fast", fallback=follow)
    drawn = lines(workflow)

    assert 't0 -.->|"when"| t1' in drawn
    assert "p_word -.->|\"unless 'a#34;b'\"| t2" in drawn
    assert 't3["three<br/>fallback follow"]' in drawn
    assert 'p_fast -.->|"when"| t3' in drawn


def test_a_run_parameter_is_a_node_where_a_task_takes_it() -> None:
    """Once for all tasks, that of a fallback too; all of them together are `params`; one that no task takes is none."""

    @action
    def again(day: str) -> None: ...

    @action
    def everything(params: Any) -> None: ...

    workflow = DotFlow(params={"day": "today", "limit": 3, "unused": None})
    workflow.task.add(plain, fallback=again).add(again).add(everything, when={"limit": 3})
    drawn, dot = lines(workflow), lines(workflow, "dot")

    assert drawn[1:4] == ['p_day[/"day"/]', 'p_params[/"params"/]', 'p_limit[/"limit"/]']
    assert drawn[7:] == ["p_day --> t0", "p_day --> t1", "p_params --> t2", 'p_limit -.->|"when 3"| t2']
    assert dot[1] == 'p_day [label="day", shape=parallelogram];'
    assert 'p_limit -> t2 [style="dashed", label="when 3"];' in dot


def test_a_parameter_of_an_added_workflow_is_no_node() -> None:
    """It is settled when the workflow is added: a condition on it stands in the task."""
    inner = DotFlow(params={"day": "today", "fast": ["a"]})
    inner.task.add(summary, needs={"fetch": "fast"}).add(plain, when="fast")
    workflow = DotFlow()
    workflow.task.add(inner.task, name="inner")

    assert [line for line in lines(workflow) if line.startswith("p_")] == []
    assert 't1["plain<br/>when fast"]' in lines(workflow)


def test_a_limit_of_a_map_stands_in_its_task() -> None:
    """Once, also for lists in step, and for a list that is written down."""

    @action
    def pair(url: str, name: str) -> None: ...

    workflow = DotFlow()
    workflow.task.add(urls).add(fetch, each=urls, max_parallel=20)
    workflow.task.add(pair, each={"url": urls, "name": ["a", "b"]}, max_parallel=2)
    drawn = lines(workflow)

    assert 't1[["fetch<br/>× each urls, 20 at once"]]' in drawn
    assert 't2[["pair<br/>× each urls<br/>× each 2 of name, 2 at once"]]' in drawn


def test_every_combination_has_a_word_of_its_own() -> None:
    """In the task and on its arrows, of which one comes from a run parameter that has the list."""

    @action
    def cell(city: Any, day: int) -> None: ...

    workflow = DotFlow(params={"days": [1, 2]})
    workflow.task.add(urls).add(cell, cross={"city": urls, "day": "days"}, max_parallel=20)
    workflow.task.add(cell, each={"day": "days"}, needs={"city": urls})
    drawn = lines(workflow)

    assert drawn[1] == 'p_days[/"days"/]'
    assert 't1[["cell<br/>× cross urls<br/>× cross days, 20 at once"]]' in drawn
    assert drawn[-4:-1] == ['t0 ==>|"cross"| t1', 'p_days ==>|"cross"| t1', 'p_days ==>|"each"| t2']


def test_an_arrow_has_the_name_of_the_part_that_a_task_takes() -> None:
    """A value, a list, a part that decides, and a part under the name of another parameter."""

    @action
    def split() -> dict[str, Any]:
        return {}

    @action
    def fit(train: list[int]) -> None: ...

    @action
    def both(left: list[int], right: list[int]) -> None: ...

    workflow = DotFlow()
    workflow.task.add(split, outputs=["train", "test"]).add(fit, when={"test": 3})
    workflow.task.add(both, needs={"left": "train", "right": "test"}).add(fetch, each="train")
    drawn = lines(workflow)

    assert 't3[["fetch<br/>× each train"]]' in drawn
    assert drawn[-5:] == [
        't0 -->|"train"| t1', 't0 -.->|"when test 3"| t1', 't0 -->|"train"| t2', 't0 -->|"test"| t2',
        't0 ==>|"each train"| t3',
    ]  # fmt: skip
    assert 't0 -> t1 [style="solid", label="train"];' in lines(workflow, "dot")


def test_a_workflow_for_each_item_is_a_box_that_says_so() -> None:
    """Its tasks don't repeat the list, whose arrow leads to the first of them that takes the item."""

    @action
    def judge(fetch: str) -> bool:
        return True

    @action
    def total(page: list[bool]) -> None: ...

    page = DotFlow(params={"url": ...})
    page.task.add(plain).add(fetch).add(judge, when="url").add(plain, name="clean", always=True)
    workflow = DotFlow()
    workflow.task.add(urls).add(page, name="page", each=urls, max_parallel=20).add(total)
    workflow.task.add(page, name="again", each=["a", "b"])
    drawn, dot = lines(workflow), lines(workflow, "dot")

    assert drawn[1:8] == [
        't0["urls"]',
        'subgraph b1["page<br/>× each urls, 20 at once"]',
        't1["plain"]',
        't2["fetch"]',
        't3["judge<br/>when url"]',
        't4(["clean<br/>always"])',
        "end",
    ]
    assert 'subgraph b2["again<br/>× each 2 of url"]' in drawn
    assert [line for line in drawn if "each" in line and "==" in line] == ['t0 ==>|"each"| t2']
    assert 'subgraph cluster_1 { label="page\\n× each urls, 20 at once";' in dot


def test_rounds_are_a_box_and_what_is_carried_goes_back() -> None:
    """With its part; the arrow of a cleanup outside still comes from the end of the rounds."""

    @action
    def refine(draft: str, notes: str) -> dict[str, str]:
        return {}

    @action
    def good(text: str) -> bool:
        return True

    again = DotFlow(params={"draft": ..., "notes": ""})
    again.task.add(refine, outputs=["text", "remarks"]).add(good)
    workflow = DotFlow()
    workflow.task.add(plain).add(
        again, name="round", params={"draft": ""}, repeat=8, until="good", carry={"draft": "text", "notes": "remarks"}
    )
    workflow.task.add(plain, name="clean", always=True).add(
        again, name="twice", params={"draft": ""}, repeat=2, carry={}
    )
    drawn = lines(workflow)

    assert 'subgraph b1["round<br/>≤ 8 rounds until good"]' in drawn
    assert 'subgraph b2["twice<br/>2 rounds"]' in drawn
    assert drawn[drawn.index('t1 -->|"next round text"| t1') :][:4] == [
        't1 -->|"next round text"| t1', 't1 -->|"next round remarks"| t1', 't1 -->|"text"| t2', "t0 -.-> t3",
    ]  # fmt: skip


def test_a_map_in_rounds_is_drawn_as_a_map() -> None:
    """In a workflow that is repeated as in one for each item."""
    again = DotFlow(params={"day": ""})
    again.task.add(urls).add(fetch, each=urls, max_parallel=2)
    workflow = DotFlow()
    workflow.task.add(again, name="round", repeat=2, carry={})
    workflow.task.add(again, name="page", each=["a", "b"])

    assert [line for line in lines(workflow) if "fetch" in line] == [
        't1[["fetch<br/>× each urls, 2 at once"]]', 't3[["fetch<br/>× each urls, 2 at once"]]',
    ]  # fmt: skip


def test_a_box_of_items_stands_in_others() -> None:
    """Its list is named in its own box, wherever that is."""
    page = DotFlow(params={"url": ...})
    page.task.add(fetch)
    site = DotFlow()
    site.task.add(urls).add(page, name="page", each=urls)
    workflow = DotFlow()
    workflow.task.add(site, name="site")

    assert lines(workflow)[1:5] == [
        'subgraph b1["site"]', 't0["urls"]', 'subgraph b2["page<br/>× each urls"]', 't1["fetch"]',
    ]  # fmt: skip


def test_a_cleanup_waits_for_the_ends() -> None:
    """It waits for all tasks before it, and has arrows from those that nothing else follows."""
    workflow = DotFlow()
    workflow.task.add(urls).add(fetch, each=urls).add(plain).add(plain, name="clean", always=True)
    drawn = lines(workflow)

    assert 't3(["clean<br/>always"])' in drawn
    assert [line for line in drawn if line.endswith("t3")] == ["t1 -.-> t3", "t2 -.-> t3"]


def test_a_chain_of_plain_steps_is_a_chain() -> None:
    """Without named values, the arrows are those of the order."""
    workflow = DotFlow()
    workflow.task.add(plain).add(follow).add(plain)

    assert lines(workflow)[-2:] == ["t0 --> t1", "t1 -.-> t2"]


def test_groups_and_added_workflows_are_boxes() -> None:
    """A box contains those of an added workflow's own added workflows."""
    inner = DotFlow()
    inner.task.add(urls).add(fetch, each=urls)
    outer = DotFlow()
    outer.task.add(inner.task, name="prepare").add(plain, name="end")
    whole = DotFlow()
    whole.task.add(outer.task, name="all").add(plain, group_name='the "second"')
    drawn = lines(whole)

    assert drawn[:12] == [
        "flowchart TD",
        'subgraph b1["all"]',
        'subgraph b2["prepare"]',
        't0["urls"]',
        't1[["fetch<br/>× each urls"]]',
        "end",
        't2["end"]',
        "end",
        'subgraph b3["the #34;second#34;"]',
        't3["plain"]',
        "end",
        't0 ==>|"each"| t1',
    ]


HOSTILE = [
    '"]; click t0 "javascript:alert(1)"', "end", "a\nb", "x --> y", "`md`", "<b>", "#quot;", "&amp;", "\\", "%% c", "é",
    "fa:fa-car",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_is_escaped(name: str) -> None:
    """A group may have any name. It stays within the quotes of its label."""
    workflow = DotFlow()
    workflow.task.add(plain, group_name=name).add(plain)
    mermaid, dot = lines(workflow), lines(workflow, "dot")

    assert re.fullmatch(r'subgraph b1\["[\w #;.,()=×…/+\-!?\']*"\]', mermaid[1])
    assert re.fullmatch(r'subgraph cluster_1 \{ label="([^"\\&]|\\["\\]|&amp;)*";', dot[1])
    assert len(mermaid) == len(dot) - 1 == 5


def test_dot_decodes_no_entity_in_a_name() -> None:
    """Graphviz would show `&lt;` as `<`."""
    workflow = DotFlow()
    workflow.task.add(plain, group_name="&lt;").add(plain)

    assert lines(workflow, "dot")[1] == 'subgraph cluster_1 { label="&amp;lt;";'


def test_dot_has_the_same_parts() -> None:
    """Nodes, arrows and boxes."""
    workflow = DotFlow()
    workflow.task.add(urls).add(fetch, each=urls).add(plain, needs=[fetch], always=True)

    assert lines(workflow, "dot") == [
        "digraph {",
        't0 [label="urls", shape=box];',
        't1 [label="fetch\\n× each urls", shape=box, peripheries=2];',
        't2 [label="plain\\nalways", shape=box, style="rounded"];',
        't0 -> t1 [style="bold", label="each"];',
        't1 -> t2 [style="dotted", label="after"];',  # a cleanup only waits
        "}",
    ]


def test_a_notebook_shows_the_picture() -> None:
    """The workflow has a bundle with Mermaid and plain text."""
    workflow = DotFlow()
    workflow.task.add(plain)

    assert workflow._repr_mimebundle_() == {"text/vnd.mermaid": workflow.task.graph(), "text/plain": repr(workflow)}


def test_an_unknown_format_is_refused() -> None:
    """The error lists the formats."""
    with pytest.raises(InvalidArgument, match="'mermaid' or 'dot'"):
        DotFlow().task.graph("svg")


def test_an_empty_workflow_has_a_diagram() -> None:
    """Without any task."""
    assert str(DotFlow().task.graph()) == "flowchart TD"


def test_many_tasks_are_drawn_quickly() -> None:
    """Wide fans and long chains take time that grows with their number."""
    workflow = DotFlow()
    for number in range(2000):
        workflow.task.add(plain, name=f"t{number}")
    workflow.task.add(plain, name="end", needs=[f"t{number}" for number in range(2000)])
    for number in range(200):
        workflow.task.add(plain, name=f"clean{number}", always=True)

    assert len(workflow.task.graph().splitlines()) == 1 + 2201 + 2000 + 200
