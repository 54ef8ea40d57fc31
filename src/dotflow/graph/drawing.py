"""Drawing: the tasks of a workflow as a diagram, in Mermaid or DOT."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from dotflow.core.links import MAX_PARALLEL, NO_LINKS, TRUE, Bind, Carried, Condition, Constant, Entry, Links, Nest
from dotflow.core.outputs import Part
from dotflow.core.task import Task
from dotflow.core.text import safe_repr, shorten
from dotflow.core.types.drawing import TypeDrawing
from dotflow.errors import InvalidArgument

MAX_LABEL: Final = 40  # characters of a value in a label
DEFAULT_GROUP: Final = "default"

#: What Mermaid does not show as it stands in a quoted label. It replaces "fa:fa-car" by an icon.
MERMAID_SPECIAL: Final = re.compile(r"[^\w ,=×≤…/!?'(.)+-]")

#: A value · a value that may be missing · what must have completed, a condition · what must be over · items.
SOLID, OPTIONAL, DASHED, DOTTED, THICK = "solid", "optional", "dashed", "dotted", "bold"
MERMAID_ARROWS: Final = {SOLID: "-->", OPTIONAL: "--o", DASHED: "-.->", DOTTED: "-.->", THICK: "==>"}
DOT_ARROWS: Final = {style: f'style="{style}"' for style in (SOLID, DASHED, DOTTED, THICK)} | {
    OPTIONAL: 'style="solid", arrowhead="odot"'
}
MAPPED, CLEANUP, PLAIN, PARAM = "mapped", "cleanup", "plain", "param"
MERMAID_SHAPES: Final = {MAPPED: ("[[", "]]"), CLEANUP: ("([", "])"), PLAIN: ("[", "]"), PARAM: ("[/", "/]")}
DOT_SHAPES: Final = {
    MAPPED: "shape=box, peripheries=2",
    CLEANUP: 'shape=box, style="rounded"',
    PLAIN: "shape=box",
    PARAM: "shape=parallelogram",
}


class Node(NamedTuple):
    """A task, or a run parameter: its lines of text, its kind, and the lines of its boxes, the outermost first."""

    source: int | str
    lines: tuple[str, ...]
    kind: str
    boxes: tuple[tuple[str, ...], ...]


class Arrow(NamedTuple):
    """An arrow to a task, from another one or from a run parameter; its label may be empty."""

    source: int | str
    target: int
    style: str
    label: str = ""


#: The number of a box, and its lines.
Box = tuple[int, tuple[str, ...]]


def draw(tasks: Sequence[Task], format: str) -> str:
    """Returns the diagram of tasks. Raises InvalidArgument for an unknown format."""
    known = list(map(str, TypeDrawing))
    if format not in known:
        raise InvalidArgument("format", format, " or ".join(map(repr, known)))
    arrows = list(_arrows(tasks))
    params = dict.fromkeys(arrow.source for arrow in arrows if isinstance(arrow.source, str))
    nodes = [*(Node(name, (name,), PARAM, ()) for name in params), *_nodes(tasks)]
    return "\n".join((_dot if format == TypeDrawing.DOT else _mermaid)(nodes, arrows))


def _nodes(tasks: Sequence[Task]) -> Iterator[Node]:
    has_groups = len({task.group_name for task in tasks}) > 1
    for task in tasks:
        links = task.links or NO_LINKS
        *names, name = _boxes_and_name(task)
        boxes: list[tuple[str, ...]] = [(box,) for box in names]
        lists = list[str]()
        for nest in links.levels:
            lines = [_rounds(nest, tasks)] if nest.repeat else list(_lists(nest, tasks))
            if nest.tasks:
                depth = nest.name.count(".")  # in added workflows around it
                boxes[depth] = (names[depth], *lines)
            else:
                lists = lines
        kind = MAPPED if lists else CLEANUP if links.always else PLAIN
        if has_groups and task.group_name != DEFAULT_GROUP:
            boxes = [(task.group_name,), *boxes]
        yield Node(task.task_id, (name, *lists, *_notes(links)), kind, tuple(boxes))


def _boxes_and_name(task: Task) -> list[str]:
    return task.links.name.split(".") if task.links is not None and task.links.name else [task.step.name]


def _rounds(nest: Nest, tasks: Sequence[Task]) -> str:
    """Returns how often an added workflow is repeated: `≤ 8 rounds until good`."""
    return nest.rounds if nest.until is None else f"≤ {nest.rounds} until {_boxes_and_name(tasks[nest.until])[-1]}"


def _lists(nest: Nest, tasks: Sequence[Task]) -> Iterator[str]:
    """Yields the lines with the lists of a mapped task, or of a workflow for each item."""
    limited = "" if nest.limit == MAX_PARALLEL else f", {nest.limit} at once"
    word = "cross" if nest.is_cross else "each"
    for parameter, source, part, _ in nest.each:
        of: Any = source
        if isinstance(source, int):
            of = _boxes_and_name(tasks[source])[-1] if part is None else part.name
        elif isinstance(source, Entry):
            of = source.parameter
        elif isinstance(source, tuple):
            of = f"{len(source)} of {parameter}"
        yield f"× {word} {of}{limited if parameter == nest.each[-1].parameter else ''}"


def _notes(links: Links) -> Iterator[str]:
    """Yields the other lines under a task's name: its fallbacks, `always`, and conditions without an arrow."""
    for handler in links.fallbacks:
        names = ", ".join(name.rpartition(".")[2] for name in handler.errors)
        yield f"fallback {handler.step.name}{names and f' on {names}'}"
    if links.always:
        yield "always"
    for condition in links.conditions:
        if isinstance(condition.source, Constant | Entry):
            yield f"{_label(condition)} {condition.name}"


def _arrows(tasks: Sequence[Task]) -> Iterator[Arrow]:
    is_linked = any(task.links is not None for task in tasks)
    last_of_group: dict[str, int] = {}
    with_arrow: set[int | str] = set()
    for task in tasks:
        before = last_of_group.get(task.group_name)
        last_of_group[task.group_name] = task.task_id
        links = task.links or NO_LINKS
        arrows = list(_arrows_of_links(task, links, tasks))
        takes_previous = "previous_context" in task.step.context_params
        gets_items = any(link.parameter == "previous_context" for link in links.each)
        if before is not None and (takes_previous or not is_linked) and not gets_items:
            arrows.append(Arrow(before, task.task_id, SOLID if takes_previous else DASHED))
        if links.always and not links.after:
            followed = with_arrow | {arrow.source for arrow in arrows}
            ends = [earlier for earlier in range(task.task_id) if earlier not in followed]
            arrows += (Arrow(end, task.task_id, DASHED) for end in ends)
        with_arrow.update(arrow.source for arrow in arrows)
        yield from dict.fromkeys(arrows)


def _arrows_of_links(task: Task, links: Links, tasks: Sequence[Task]) -> Iterator[Arrow]:
    target = task.task_id
    for level, nest in sorted(enumerate(links.levels, 1), key=lambda pair: bool(pair[1].tasks)):  # its own lists first
        for link in nest.each:
            is_first = not nest.tasks or _first_taker(nest, Entry(link.parameter, level), tasks) == target
            if is_first and isinstance(link.source, int | str):
                yield Arrow(link.source, target, THICK, _with_part("cross" if nest.is_cross else "each", link.part))
    binds = (*links.binds, *links.fallback_binds)
    required = {bind.source for bind in binds if bind.required and isinstance(bind.source, int)}
    for bind in binds:
        if isinstance(bind.source, Carried):
            yield Arrow(bind.source.task, target, SOLID, _with_part("next round", bind.part))
        elif not isinstance(bind.source, Constant | Entry):
            is_optional = isinstance(bind.source, int) and bind.source not in required
            yield Arrow(bind.source, target, OPTIONAL if is_optional else SOLID, _with_part("", bind.part))
    for condition in links.conditions:
        if not isinstance(condition.source, Constant | Entry | Carried):
            yield Arrow(condition.source, target, DASHED, _label(condition))
    values = links.value_sources()
    for groups, style, label in ((links.needs, DASHED, ""), (links.after, DOTTED, "after")):
        for *_, source in groups:
            if source not in values:
                yield Arrow(source, target, style, label)


def _first_taker(nest: Nest, entry: Entry, tasks: Sequence[Task]) -> int:
    """Returns the id of the task that the arrow of a list leads to: the first one that takes its items."""
    for task_id in nest.tasks:
        links = tasks[task_id].links or NO_LINKS
        taken: Sequence[Bind | Condition] = (*links.binds, *links.fallback_binds, *links.conditions)
        if any(own.source == entry for own in taken):
            return task_id
    return nest.tasks[0]


def _with_part(word: str, part: Part | None) -> str:
    """Returns a label with the output that the task takes."""
    return word if part is None else f"{word} {part.name}".lstrip()


def _label(condition: Condition) -> str:
    word = _with_part(condition.word, condition.part)
    return word if condition.expected is TRUE else f"{word} {shorten(safe_repr(condition.expected), MAX_LABEL)}"


def _mermaid(nodes: Sequence[Node], arrows: Sequence[Arrow]) -> Iterator[str]:
    yield "flowchart TD"
    for depth, item in _in_boxes(nodes):
        indent = "    " * (depth + 1)
        if isinstance(item, Node):
            begin, end = MERMAID_SHAPES[item.kind]
            yield f'{indent}{_id(item.source)}{begin}"{_mermaid_lines(item.lines)}"{end}'
        elif item is None:
            yield f"{indent}end"
        else:
            number, title = item
            yield f'{indent}subgraph b{number}["{_mermaid_lines(title)}"]'
    for source, target, style, label in arrows:
        text = f'|"{_mermaid_text(label)}"|' if label else ""
        yield f"    {_id(source)} {MERMAID_ARROWS[style]}{text} t{target}"


def _mermaid_lines(lines: Sequence[str]) -> str:
    return "<br/>".join(map(_mermaid_text, lines))


def _mermaid_text(text: str) -> str:
    """Returns text for a quoted label: special characters by their number, such as #34; for a quote."""
    return MERMAID_SPECIAL.sub(lambda match: f"#{ord(match[0])};", _printable(text))


def _dot(nodes: Sequence[Node], arrows: Sequence[Arrow]) -> Iterator[str]:
    yield "digraph {"
    for depth, item in _in_boxes(nodes):
        indent = "    " * (depth + 1)
        if isinstance(item, Node):
            yield f'{indent}{_id(item.source)} [label="{_dot_lines(item.lines)}", {DOT_SHAPES[item.kind]}];'
        elif item is None:
            yield f"{indent}}}"
        else:
            number, title = item
            yield f'{indent}subgraph cluster_{number} {{ label="{_dot_lines(title)}";'
    for source, target, style, label in arrows:
        text = f', label="{_dot_text(label)}"' if label else ""
        yield f"    {_id(source)} -> t{target} [{DOT_ARROWS[style]}{text}];"
    yield "}"


def _dot_lines(lines: Sequence[str]) -> str:
    return "\\n".join(map(_dot_text, lines))


def _dot_text(text: str) -> str:
    """Returns text for a quoted label. Graphviz decodes HTML's entities, such as &lt;."""
    return _printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def _id(source: int | str) -> str:
    """Returns the id of a task, or of the run parameter of that name."""
    return f"t{source}" if isinstance(source, int) else f"p_{source}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _in_boxes(nodes: Sequence[Node]) -> Iterator[tuple[int, Node | Box | None]]:
    """Yields the nodes with their depth, the number and lines of each box before its nodes, and None at its end."""
    tree: dict[Any, Any] = {}
    for node in nodes:
        branch = tree
        for box in node.boxes:
            branch = branch.setdefault(box, {})
        branch[node] = node
    count = 0

    def walk(branch: dict[Any, Any], depth: int) -> Iterator[tuple[int, Node | Box | None]]:
        nonlocal count
        for key, value in branch.items():
            if isinstance(value, Node):
                yield depth, value
                continue
            count += 1
            yield depth, (count, key)
            yield from walk(value, depth + 1)
            yield depth, None

    return walk(tree, 0)
