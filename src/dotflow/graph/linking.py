"""Linking: checks the options of `add`, and resolves them to Links."""

import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import EllipsisType
from typing import Any, Final, NamedTuple

from dotflow.core.action import CONTEXTS, AnyAction, parts_of
from dotflow.core.callables import fixed_by_partials
from dotflow.core.failure import describe, identity_of
from dotflow.core.links import (
    KEEP_GOING,
    KEEP_GOING_HINT,
    MAX_PARALLEL,
    NO_LINKS,
    PARAM,
    PARAMS,
    VALUE,
    Bind,
    Carried,
    Condition,
    Constant,
    Each,
    Entry,
    Group,
    Handler,
    Links,
    Nest,
    Tolerance,
    is_setting,
    is_tolerance,
    tolerance_of,
)
from dotflow.core.outputs import Part
from dotflow.core.secret import SecretRef, SecretUse, check_no_secret
from dotflow.core.steps import as_actions
from dotflow.core.task import Task, TaskDefinition
from dotflow.errors import InvalidArgument, InvalidLink, MissingParam, close_match
from dotflow.graph.names import Refs, Scope, listed, name_of
from dotflow.graph.params import OWN_NAMES, Params, is_name, settings_of
from dotflow.graph.plan import DEFAULT_GROUP
from dotflow.graph.run_secrets import keep_secret, secret_params
from dotflow.graph.wiring import (
    PREVIOUS,
    as_list,
    check_is_saved,
    check_list,
    check_names,
    check_type,
    make_conditions,
    refuse_parameter,
    refuse_several,
    secrets_of,
    target_of_each,
    wire,
)

MAX_ROUNDS: Final = 10_000
GO_ON: Final = "go on"  # of `at_limit`
AT_LIMIT: Final = (None, "fail", GO_ON)

#: What goes from one round to the next: the task that has the value, and the part of it, by parameter.
Carry = Mapping[str, tuple[int, Part | None]]

ERROR: Final = "error"  # the parameter of a fallback that receives the last error


class LinkOptions(NamedTuple):
    """The options of `add` that link a task to others, as passed by users."""

    name: str | None = None
    needs: Any = None
    after: Any = None
    each: Any = None
    cross: Any = None
    max_parallel: int | None = None
    when: Any = None
    unless: Any = None
    fallback: Any = None
    always: bool = False
    keep_going: bool | Tolerance | None = None
    params: Any = None
    outputs: Any = None
    repeat: Any = None
    until: Any = None
    carry: Any = None
    at_limit: Any = None

    @property
    def wired(self) -> Refs:
        """The tasks of `needs` by the parameter that they fill."""
        return {name: ref for part in listed(self.needs) if isinstance(part, Mapping) for name, ref in part.items()}

    @property
    def cure_of_carry(self) -> str:
        """What to do about a carried value, if `carry` was left out; "" if the user has named it."""
        return "write carry={} to carry nothing" if self.carry is None else ""

    @property
    def lists(self) -> tuple[str, Any]:
        """`each` or `cross`: the name of the option, and its value."""
        return ("each", self.each) if self.cross is None else ("cross", self.cross)

    def are_used(self) -> bool:
        """Returns whether any of them was passed. It compares no value of the user."""
        return not all(map(operator.is_, self, NO_OPTIONS))


NO_OPTIONS: Final = LinkOptions()


def check_options(options: LinkOptions, scope: Scope) -> None:
    """Raises InvalidArgument or InvalidLink for options that are invalid, or that exclude each other."""
    name, limit = options.name, options.max_parallel
    if name is not None and (not isinstance(name, str) or not is_name(name)):
        raise InvalidArgument("name", name, f"a text of a letter, then letters, digits and _, other than {OWN_NAMES}")
    if name is not None and scope.is_taken(name):
        raise InvalidArgument("name", name, "one that no other task and no run parameter has")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise InvalidArgument("max_parallel", limit, "a whole number from 1")
    if not isinstance(options.always, bool):
        raise InvalidArgument("always", options.always, "True or False")
    keep_going = options.keep_going
    if keep_going is not None and not isinstance(keep_going, bool) and not is_tolerance(keep_going):
        raise InvalidArgument("keep_going", keep_going, KEEP_GOING, KEEP_GOING_HINT)
    if options.params is not None and not _is_by_name(options.params):
        raise InvalidArgument("params", options.params, 'a dict of values by parameter, such as {"depth": 3}')
    if options.outputs is not None:
        _check_outputs(options.outputs, scope)
    if options.each is not None and options.cross is not None:
        raise InvalidLink(
            "each excludes cross: lists go in step, or each entry goes with every other. Remove one of them."
        )
    if limit is not None and options.each is None and options.cross is None:
        raise InvalidLink("max_parallel limits the items of each=..., which is missing. Add each=task, or remove it.")
    option, given = options.lists
    if option == "cross" and not isinstance(given, Mapping):
        raise InvalidLink("cross=... names no parameters. Name one for each list: cross={'city': cities, 'day': days}.")
    if isinstance(given, Mapping) and not given:
        raise InvalidLink(f"{option}={{}} names no list.")
    _check_rounds(options)
    if options.always and (options.when is not None or options.unless is not None):
        raise InvalidLink("always=True excludes when and unless: a cleanup has no condition. Remove one of them.")


def _check_rounds(options: LinkOptions) -> None:
    """Raises InvalidArgument or InvalidLink for options of rounds that are invalid, or that exclude others."""
    repeat = options.repeat
    if options.at_limit not in AT_LIMIT:
        raise InvalidArgument("at_limit", options.at_limit, '"fail", or "go on" with the value of the last round')
    if repeat is None:
        for option in ("until", "carry", "at_limit"):
            if getattr(options, option) is not None:
                raise InvalidLink(f"{option} is for rounds. Say how many there are at most: repeat=8.")
        return
    if type(repeat) is not int or not 1 <= repeat <= MAX_ROUNDS:
        raise InvalidArgument("repeat", repeat, f"a whole number from 1 to {MAX_ROUNDS}")
    for option in ("each", "cross", "max_parallel", "always"):
        if getattr(options, option) is not getattr(NO_OPTIONS, option):
            raise InvalidLink(f"repeat excludes {option}: rounds follow each other. Remove one of them.")
    if options.at_limit is not None and options.until is None:
        raise InvalidLink("at_limit is for until, which is missing. Add until=step, or remove at_limit.")


def _is_by_name(params: Any) -> bool:
    return isinstance(params, Mapping) and all(isinstance(name, str) for name in params)


def _check_outputs(outputs: Any, scope: Scope) -> None:
    """Raises InvalidArgument unless they are names that no task, no run parameter and no other output has."""
    names = outputs if isinstance(outputs, list | tuple) else ()
    if not names or not all(isinstance(name, str) and is_name(name) for name in names):
        accepted = f'a list of names, such as ["train", "test"], other than {OWN_NAMES}'
        raise InvalidArgument("outputs", outputs, accepted)
    for index, name in enumerate(names):
        if name in names[:index] or scope.is_taken(name):
            raise InvalidArgument("outputs", name, "names that no task, no run parameter and no other output has")


def make_links(step: AnyAction, options: LinkOptions, scope: Scope) -> Links | None:
    """Returns the links of a task; None if it has none.

    Raises UnknownTask, AmbiguousTask, UnknownParameter or InvalidLink.
    """
    if options.always and step.valid is not None:
        raise InvalidLink("always=True excludes valid: a cleanup leaves no checkpoint. Remove one of them.")
    if options.always and step.approve is not None:
        raise InvalidLink("always=True excludes approve: a cleanup waits for no person. Remove one of them.")
    needs, (option, _) = options.wired, options.lists
    check_names(step, "needs", needs)
    required, after = _order(options, scope)
    params: Params = options.params or {}
    lists = _named_lists(step, options, scope)
    fallbacks = _fallbacks_of(options)
    steps = [step, *fallbacks]
    filled = {**dict.fromkeys(needs, "needs"), **dict.fromkeys(lists, option)}
    _check_values(params, filled, [name for own in steps for name in own.secrets])
    for name in params:
        check_names(next((own for own in steps if name in own.named_params), step), "params", (name,))
    binds, left = wire(step, scope, needs, _taken_by(step, params), lists)
    if options.each is not None and not lists:
        source, part = as_list(options.each, scope), scope.part(options.each)
        called = part.name if part else name_of(scope.tasks[source]) if isinstance(source, int) else source
        target = target_of_each(step, left, called if isinstance(called, str) else "")
        lists = {target: Each(target, source, part)}
        left = [name for name in left if name != target]
    if left:
        refuse_parameter(step, left[0], scope)
    if options.outputs is not None:
        _check_parts(steps, options)
    if params:
        from dotflow.graph.type_check import check_argument  # here, since most tasks need no types

        for own in steps:
            for name, value in params.items():
                check_argument(own, name, value, "params")
    if lists:
        _check_lists(step, option, lists.values(), scope)
    handlers = tuple(_handler(*fallback, scope, needs, params, lists) for fallback in fallbacks.items())
    is_cross, each = options.cross is not None, tuple(lists.values())
    tolerance = tolerance_of(options.keep_going)
    if tolerance is not None and not each:
        raise _no_items(tolerance)
    in_step, limit = () if is_cross else each, options.max_parallel or MAX_PARALLEL
    links = Links(
        name=options.name,
        binds=binds,
        # A cleanup runs however the tasks before it ended.
        needs=() if options.always else required,
        after=(*required, *after) if options.always else after,
        levels=(Nest(limit=limit, each=each, is_cross=is_cross, keep_going=tolerance),) if each else (),
        conditions=make_conditions(options.when, options.unless, in_step, options.name or step.short_name, scope),
        fallbacks=handlers,
        outputs=tuple(Part(name, index) for index, name in enumerate(options.outputs or ())),
        always=options.always,
        keep_going=_as_bool(options.keep_going),
        secrets=(
            *_secrets(step, binds, lists),
            *chain.from_iterable(_secrets(handler.step, handler.binds, lists) for handler in handlers),
        ),
        takes_key=any(part.takes_key or part.durable for own in steps for part in parts_of(own)),
    )
    return None if links == NO_LINKS and step.is_ordinary else links


def _as_bool(keep_going: bool | Tolerance | None) -> bool | None:
    """Returns what `keep_going` says of other tasks: a number says nothing."""
    return keep_going if isinstance(keep_going, bool) else None


def _no_items(tolerance: Tolerance) -> InvalidLink:
    return InvalidLink(f"keep_going={tolerance!r} counts the items of a map, and there is none. Pass True or False.")


def make_loop(step: AnyAction, options: LinkOptions, scope: Scope) -> list[tuple[AnyAction, Links]]:
    """Returns the tasks of a step that is repeated, with their links: its own, and that of `until`.

    Raises UnknownTask, AmbiguousTask, UnknownParameter, InvalidArgument or InvalidLink.
    """
    name = options.name or step.short_name
    if not is_name(name) or scope.is_taken(name):
        raise InvalidArgument("name", name, "a name that no other task and no run parameter has")
    first = len(scope.tasks)
    own = options._replace(name=f"{name}.{step.short_name}", repeat=None, until=None, carry=None)
    links = make_links(step, own, scope)
    assert links is not None, "it has a name"
    tasks = [(step, links)]
    if options.until is not None:
        tasks.append(_until_of(step, name, options, links, scope))
    ids = tuple(range(first, first + len(tasks)))
    until = ids[1] if len(ids) > 1 else None
    nest = Nest(name, ids, MAX_PARALLEL, first, options.repeat, until, options.at_limit == GO_ON)
    like_tasks = [bind.parameter for bind in links.binds if bind.kind == VALUE]
    carry = _carry_of(options, [bind.parameter for bind in links.binds], like_tasks)
    parts = {part.name: part for part in links.outputs}
    taken: dict[str, tuple[int, Part | None]] = {}
    for parameter, ref in carry.items():
        if ref is not None and ref != step.short_name and ref != step and ref not in parts:
            hint = close_match(str(ref), (step.short_name, *parts)) or f"Name '{step.short_name}'."
            raise InvalidLink(f"carry={{{parameter!r}: ...}} names no task of the rounds and no output. {hint}")
        taken[parameter] = first, parts.get(ref) if isinstance(ref, str) else None
    copies = []
    for index, (action, one) in enumerate(tasks):
        _check_round(action, one, first + index, nest, taken, options)
        if not index:
            one = one.mapped(lambda link: _with_carried(link, taken.get(getattr(link, "parameter", ""))))
        copies.append((action, one._replace(levels=(nest,))))
    for parameter, (_, part) in taken.items():
        _check_carried(step, parameter, _as_task(step), part, options.cure_of_carry)
    return copies


def _until_of(step: AnyAction, name: str, options: LinkOptions, links: Links, scope: Scope) -> tuple[AnyAction, Links]:
    """Returns the task that decides whether a step was repeated often enough: it takes the step's value."""
    actions = as_actions(options.until)
    if len(actions) > 1:
        raise InvalidLink("until=... is one step.")
    until = actions[0]
    binds, left = wire(until, scope, {}, {}, ())
    if len(left) != 1:
        hint = (
            f"It needs one parameter that no task and no run parameter is called like: def {until.short_name}(value)."
        )
        raise InvalidLink(f"until: step '{until.name}' has no one open parameter for the value of '{name}'. {hint}")
    if until.short_name == step.short_name:
        raise InvalidLink(f"until: step '{until.name}' is called like the one that is repeated. Rename one of them.")
    _check_carried(until, left[0], _as_task(step), None)
    binds = (*binds, Bind(left[0], VALUE, len(scope.tasks), until.named_params[left[0]]))
    return until, Links(
        name=f"{name}.{until.short_name}",
        binds=binds,
        needs=links.needs,
        after=links.after,
        conditions=links.conditions,
        keep_going=links.keep_going,
        secrets=tuple(_secrets(until, binds, ())),
        takes_key=any(part.takes_key or part.durable for part in parts_of(until)),
    )


def _carry_of(options: LinkOptions, known: Collection[str], like_tasks: Collection[str]) -> dict[str, Any]:
    """Returns what each carried parameter gets: a task or an output of the rounds; None for the value of the whole.

    Args:
        options: The options of `add`.
        known: The parameters that may be carried.
        like_tasks: Those that are called like a task whose value they take. They count if no option names any.
    """
    carry = options.carry
    if carry is None:
        given = [*options.wired, *(options.params or {})]
        names = given or like_tasks
        if len(names) > 1:
            texts = " and ".join(f"'{name}'" for name in names)
            which = f"needs and params have {texts}" if given else f"{texts} take values of tasks"
            hint = f"Say which: carry={next(iter(names))!r}, or carry={{}} for none."
            raise InvalidLink(f"One value goes from round to round, and {which}. {hint}")
        return dict.fromkeys(names)
    if isinstance(carry, str):
        carry = {carry: None}
    if not _is_by_name(carry):
        raise InvalidArgument("carry", carry, 'a parameter, or a dict such as {"draft": "refine"}')
    for name in carry:
        if name not in known:
            hint = close_match(name, known) or "Name a parameter that has a value in the first round."
            raise InvalidLink(f"carry: there is no parameter '{name}' to carry a value to. {hint}")
    return dict(carry)


def _with_carried(link: Any, source: tuple[int, Part | None] | None) -> tuple[Any, ...]:
    """Returns a link, which has the source of the first round, with what is carried from the second round on."""
    if source is None or isinstance(link, Condition):
        return (link,)
    is_list = isinstance(link, Each)
    carried = Bind(link.parameter, VALUE, Carried(source[0]), is_list or link.required, source[1])
    return (link._replace(carried=carried),) if is_list else (link, carried)


def _check_round(
    step: AnyAction,
    links: Links,
    task_id: int,
    nest: Nest,
    carry: Carry,
    options: LinkOptions,
    group: str = DEFAULT_GROUP,
) -> None:
    """Raises InvalidLink for a task that can't run in rounds."""
    _check_inside(step, step.name, links, group, "repeat")
    if task_id == nest.until and links.lists:
        raise InvalidLink(
            f"until can't be '{step.name}', which is mapped. Return a bool from a step that takes its list."
        )
    is_carried = any(task_id == source for source, _ in carry.values())
    word = "until" if task_id == nest.until else "carry" if is_carried else ""
    unsaved = "checkpoint=False" if not step.checkpoint else "always=True" if links.always else ""
    if word and unsaved:
        cure = (word == "carry" and options.cure_of_carry) or "return the value from another step"
        raise InvalidLink(
            f"{word} can't use '{step.name}', which has {unsaved}: a resume does not have its value. Remove that, or "
            f"{cure}."
        )


def _as_task(step: AnyAction) -> Task:
    return TaskDefinition(0, step, None, None, DEFAULT_GROUP, "")


def _check_carried(step: AnyAction, parameter: str, source: Task, part: Part | None, cure: str = "") -> None:
    """Raises InvalidLink if the value of a task can't fit the parameter that it is carried to."""
    from dotflow.graph.type_check import check_value, value_type

    check_value(step, parameter, source, value_type(source, part), cure=cure)


def _named_lists(step: AnyAction, options: LinkOptions, scope: Scope) -> dict[str, Each]:
    """Returns the list of each parameter that each={...} or cross={...} names."""
    option, given = options.lists
    if not isinstance(given, Mapping):
        return {}
    check_names(step, option, given)
    if both := options.wired.keys() & given.keys():
        raise InvalidLink(f"Both needs and {option} fill '{min(both)}'. Remove one of them.")
    return _lists_by_name(option, given, scope)


def _lists_by_name(option: str, given: Refs, scope: Scope) -> dict[str, Each]:
    return {name: Each(name, as_list(ref, scope, option), scope.part(ref)) for name, ref in given.items()}


def _secrets(step: AnyAction, binds: Sequence[Bind], lists: Collection[str]) -> Iterator[SecretUse]:
    return secrets_of(step, {*(bind.parameter for bind in binds), *lists})


def _order(options: LinkOptions, scope: Scope) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """Returns the tasks that must have completed, and those that must be over.

    Raises UnknownTask, AmbiguousTask or InvalidLink.
    """
    if isinstance(options.after, Mapping):
        raise InvalidLink("after={...} fills no parameter. Write after=[task, ...], or needs={'parameter': task}.")
    wired = Counter(name for part in listed(options.needs) if isinstance(part, Mapping) for name in part)
    if twice := next((name for name, count in wired.items() if count > 1), None):
        raise InvalidLink(f"needs fills '{twice}' twice. Remove one of them.")
    ordered = [ref for ref in listed(options.needs) if not isinstance(ref, Mapping)]
    valued = [ref for ref in options.wired.values() if not scope.is_param(ref)]
    needs, values, after = (
        tuple(dict.fromkeys(map(scope.group, refs))) for refs in (ordered, valued, listed(options.after))
    )
    for group in after:
        if group in needs or group in values:
            name = scope.tasks[group[-1]].name
            raise InvalidLink(f"Both needs and after have '{name}'. Remove it from after: needs waits for it, too.")
    return needs, after


def _taken_by(step: AnyAction, values: Params) -> dict[str, Any]:
    """Returns those of the values whose parameter the step has."""
    return {name: value for name, value in values.items() if name in step.named_params or step.takes_any}


def _check_values(params: Params, filled: Mapping[str, str], secrets: Collection[str]) -> None:
    """Raises InvalidArgument or InvalidLink for secrets, and for parameters that another option of `add` fills."""
    for name, value in params.items():
        check_no_secret(f"params[{name!r}]", value)
        if name in secrets:
            raise InvalidLink(f"params can't fill '{name}', which is a secret. Pass it to Config(secrets=...).")
        if name in filled:
            raise InvalidLink(f"Both {filled[name]} and params fill '{name}'. Remove one of them.")


def _check_parts(steps: Sequence[AnyAction], options: LinkOptions) -> None:
    """Raises InvalidLink if the value of a task, or that of a fallback, can't have outputs."""
    from dotflow.graph.type_check import check_outputs

    own = options.name or steps[0].short_name
    if own in options.outputs:
        raise InvalidLink(f"The output '{own}' is called like its task. Rename it, or pass name=... to name the task.")
    for step in steps:
        if isinstance(step.function, type):
            raise InvalidLink(
                f"outputs names parts of what a function returns, and '{step.name}' is a class. Return them from a "
                f"function that takes its value."
            )
    for step in steps:
        check_outputs(step, options.outputs)


def _check_lists(step: AnyAction, option: str, lists: Iterable[Each], scope: Scope) -> None:
    """Raises InvalidLink if the items of lists can't fit the annotations."""
    from dotflow.graph.type_check import check_each

    for each in lists:
        if each.parameter not in CONTEXTS:  # whose items come in a Context
            source = scope.params[each.source] or () if isinstance(each.source, str) else each.source
            if source is not ...:
                source = scope.tasks[source] if isinstance(source, int) else source
                check_each(step, each.parameter, source, each.part, option)


def _fallbacks_of(options: LinkOptions) -> dict[AnyAction, tuple[str, ...]]:
    """Returns the steps of `fallback`, and the names of the exceptions that each is for; none for any."""
    given = options.fallback
    if given is None:
        return {}
    named = given if isinstance(given, Mapping) else {(): given}
    if not named:
        raise InvalidLink("fallback={} names no exception.")
    fallbacks: dict[AnyAction, tuple[str, ...]] = {}
    for errors, one in named.items():
        steps = as_actions(one)
        if len(steps) > 1:
            raise InvalidLink("fallback=... is one step, or one for each exception: {ValueError: recover}.")
        step = steps[0]
        if step.approve is not None:
            why = f"'{step.name}' needs one. Put approve on the step."
            raise InvalidLink(f"fallback=... asks for no approval, and {why}")
        kinds = errors if isinstance(errors, tuple) else (errors,)
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, Exception | SystemExit)):
                what = f"{describe(kind)} is no exception that a step fails with"
                raise InvalidLink(f"{what}. Write fallback={{ValueError: recover}}, and Exception for any other one.")
        fallbacks[step] = (*fallbacks.get(step, ()), *map(identity_of, kinds))
    return fallbacks


def _handler(
    step: AnyAction,
    errors: tuple[str, ...],
    scope: Scope,
    needs: Refs,
    params: Params,
    lists: Collection[str],
) -> Handler:
    """Returns a fallback with the sources of its arguments."""
    own_needs = {name: ref for name, ref in needs.items() if name in step.named_params}
    binds, left = wire(step, scope, own_needs, _taken_by(step, params), lists)
    takes_error = ERROR in step.named_params and ERROR not in fixed_by_partials(step.function)
    takes_error = takes_error and ERROR not in {*lists, *(bind.parameter for bind in binds)}
    left = [name for name in left if name != ERROR]
    if left:
        refuse_parameter(step, left[0], scope)
    return Handler(step, errors, binds, takes_error)


def copy_tasks(
    tasks: Sequence[Task],
    declared: Params,
    options: LinkOptions,
    scope: Scope,
    group_name: str,
) -> list[tuple[Task, Links, str]]:
    """Returns the tasks of another workflow, with their links and groups in this one.

    Args:
        tasks: The other workflow's tasks.
        declared: Its run parameters with their defaults.
        options: The options of `add`.
        scope: The names that it may refer to.
        group_name: The group of `add`.

    Raises InvalidLink, MissingParam, UnknownTask or AmbiguousTask.
    """
    from dotflow.graph.type_check import check_argument, check_each

    one_task = ("fallback", "always", "outputs")
    refused = [name for name in one_task if getattr(options, name) is not getattr(NO_OPTIONS, name)]
    if refused:
        raise InvalidLink(f"{refused[0]} is for one task, and this adds another workflow's.")
    if options.name is None:
        raise InvalidLink("Another workflow's tasks need a name: add(other.task, name='prepare').")
    if not tasks:
        raise InvalidLink("The other workflow has no tasks.")
    needs = options.wired
    params: Params = options.params or {}
    _check_declared("needs", needs, declared)
    _check_declared("params", params, declared)
    _check_values(params, dict.fromkeys(needs, "needs"), secret_params(declared, tasks))
    required, after = _order(options, scope)
    first = len(scope.tasks)
    filled = {**dict.fromkeys(needs, "needs"), **dict.fromkeys(params, "params")}
    lists, is_cross = _lists_of_nest(declared, filled, options, scope), options.cross is not None
    each = tuple(lists.values())
    conditions = make_conditions(options.when, options.unless, () if is_cross else each, options.name, scope)
    nest = None
    ids = tuple(range(first, first + len(tasks)))
    carry: Carry = {}
    tolerance = tolerance_of(options.keep_going)
    if tolerance is not None and not each and not any(task.gives_list for task in tasks):
        raise _no_items(tolerance)
    if each:
        ends = [task.task_id for task in tasks if not task.is_cleanup] or [len(tasks) - 1]
        limit = options.max_parallel or MAX_PARALLEL
        nest = Nest(options.name, ids, limit, first + ends[-1], each=each, is_cross=is_cross)
    elif options.repeat is not None:
        nest, carry = _rounds_of(tasks, declared, options, scope)
    if nest is not None and (each or tolerance is None):
        nest = nest._replace(keep_going=options.keep_going)
    fill = _filler(declared, needs, params, lists, scope, carry, nest)
    has_secrets = any(type(default) is SecretRef for default in declared.values())
    counts = Counter(map(name_of, tasks))
    copies = []
    for task in tasks:
        own_links = task.links or NO_LINKS
        name = f"{options.name}.{name_of(task)}"
        if own_links.name is None and counts[name_of(task)] > 1:  # a checkpoint's key has the name, so it is unique
            name = f"{name}.{task.task_id}"
        if nest is not None:
            if nest.repeat:
                _check_round(task.step, own_links, first + task.task_id, nest, carry, options, task.group_name)
                _check_carried_conditions(own_links, carry, options)
            else:
                _check_inside(task.step, task.name, own_links, task.group_name, "each")
        links = own_links.moved(first, options.name).mapped(fill)
        if nest is not None:
            links = _by_item(links, nest, first + task.task_id)
        takers: tuple[Bind | Each, ...] = (*own_links.binds, *own_links.fallback_binds, *own_links.each)
        by_name = [(taker.parameter, taker.source) for taker in takers if isinstance(taker.source, str)]
        carried = {parameter: carry[source] for parameter, source in by_name if source in carry}
        in_lists = {link.parameter for link in links.innermost}
        for parameter, (source, part) in carried.items():
            if parameter in in_lists:
                check_each(task.step, parameter, tasks[source - first], part, "carry", options.cure_of_carry)
            elif parameter in task.step.named_params:
                _check_carried(task.step, parameter, tasks[source - first], part, options.cure_of_carry)
        links = links._replace(
            name=name,
            conditions=(*links.conditions, *conditions),
            needs=(*links.needs, *required),
            # A cleanup without tasks of its own to wait for waits for all before it, so for these, too.
            after=links.after if links.always and not (links.after and nest is None) else (*links.after, *after),
        )
        if links.keep_going is None and not own_links.is_tolerant:
            links = links._replace(keep_going=_as_bool(options.keep_going))
        if tolerance is not None and not each:  # of the maps that say nothing themselves
            links = links.tolerant(tolerance)
        _check_conditions(links, scope)
        for bind in links.binds:
            if isinstance(bind.source, int) and bind.source < first:
                check_type(task.step, bind, scope)
        items = [
            lists[bind.source.parameter]._replace(parameter=bind.parameter)
            for bind in links.binds
            if isinstance(bind.source, Entry) and bind.source.level == 1 and bind.source.parameter in lists
        ]
        if own_links.innermost:
            filled_lists = zip(own_links.innermost, links.innermost, strict=True)
            items += [new for own, new in filled_lists if isinstance(own.source, str) and type(new.source) is not Entry]
        _check_lists(task.step, "cross" if links.is_cross else "each", items, scope)
        if nest is not None and links.is_map_inside:
            _check_saved(task.step, links, first, tasks, scope)
        for bind in own_links.binds:
            if isinstance(bind.source, str) and bind.source in params:
                check_argument(task.step, bind.parameter, params[bind.source], "params")
        if has_secrets:
            links = keep_secret(task.step, links, {}, {})
        own = task.group_name if task.group_name == "default" else f"{options.name}.{task.group_name}"
        copies.append((task, links, own if group_name == "default" else group_name))
    return copies


def _check_declared(option: str, names: Iterable[str], declared: Params) -> None:
    """Raises InvalidLink for a name that is no run parameter of the other workflow."""
    for name in names:
        if name not in declared:
            hint = close_match(name, declared) or f"Declare it there: DotFlow(params={{{name!r}: ...}})."
            raise InvalidLink(f"{option}={{{name!r}: ...}}: the other workflow has no parameter '{name}'. {hint}")


def _lists_of_nest(declared: Params, filled: Mapping[str, str], options: LinkOptions, scope: Scope) -> dict[str, Each]:
    """Returns the lists of `each` or `cross`, by the run parameter of the other workflow that an item fills."""
    option, given = options.lists
    if given is None:
        return {}
    if isinstance(given, Mapping):
        _check_declared(option, given, declared)
        for name in given:
            if type(declared[name]) is SecretRef:
                raise InvalidLink(f"{option} can't fill '{name}': it is a secret. Fill it from the source of secrets.")
            if name in filled:
                raise InvalidLink(f"Both {filled[name]} and {option} fill '{name}'. Remove one of them.")
        return _lists_by_name(option, given, scope)
    left = [name for name in declared if name not in filled and not scope.is_taken(name)]
    left = [name for name in left if type(declared[name]) is not SecretRef]
    left = [name for name in left if isinstance(declared[name], EllipsisType)] or left
    if len(left) == 1:
        return {left[0]: Each(left[0], as_list(given, scope), scope.part(given))}
    if left:
        refuse_several(left, "the other workflow")
    hint = "Declare one there: DotFlow(params={'item': ...}), or name it: each={'parameter': ...}."
    raise InvalidLink(f"each=... has no parameter for its items: the other workflow has none left. {hint}")


def _rounds_of(tasks: Sequence[Task], declared: Params, options: LinkOptions, outer: Scope) -> tuple[Nest, Carry]:
    """Returns the rounds of another workflow, and what goes from one to the next: a task and a part, by parameter.

    Args:
        tasks: The other workflow's tasks.
        declared: Its run parameters.
        options: The options of `add`.
        outer: The names of this workflow.

    Raises UnknownTask, AmbiguousTask or InvalidLink.
    """
    scope, first = Scope(tasks), len(outer.tasks)
    until = None if options.until is None else scope.task(options.until)
    part = scope.part(options.until)
    if part is not None:
        raise InvalidLink(f"until can't be '{part.name}', which is an output. Return a bool from a step that takes it.")
    ends = [task.task_id for task in tasks if not task.is_cleanup and task.task_id != until]
    if not ends:
        raise InvalidLink("repeat=... has no task beside until, so the rounds would have no value. Add one.")
    result = ends[-1]
    ids = tuple(range(first, first + len(tasks)))
    until = None if until is None else first + until
    goes_on = options.at_limit == GO_ON
    nest = Nest(str(options.name), ids, MAX_PARALLEL, first + result, options.repeat, until, goes_on)
    carry = {}
    for name, ref in _carry_of(options, declared, [name for name in declared if name in outer]).items():
        task_id = result if ref is None else scope.task(ref)
        carry[name] = first + task_id, None if ref is None else scope.part(ref)
    return nest, carry


def _check_carried_conditions(links: Links, carry: Collection[str], options: LinkOptions) -> None:
    """Raises InvalidLink for a condition on a parameter that is carried."""
    for condition in links.conditions:
        if isinstance(condition.source, str) and condition.source in carry:
            hint = "Return a bool from a step that takes it, and use that"
            hint = ", or ".join(filter(None, (hint, options.cure_of_carry)))
            raise InvalidLink(f"{condition.word} can't depend on '{condition.name}', which is carried. {hint}.")


def _check_saved(step: AnyAction, links: Links, first: int, tasks: Sequence[Task], scope: Scope) -> None:
    """Raises InvalidLink for a map in an added workflow whose lists, or whose own values, a resume does not have.

    Args:
        step: The step of the map.
        links: Its links.
        first: The id of the first task of the workflow.
        tasks: The tasks of the workflow.
        scope: The names that it may refer to.
    """
    sources = [link.source for nest in links.levels[1:] for link in nest.each if isinstance(link.source, int)]
    steps = [step, *((tasks[one - first] if one >= first else scope.tasks[one]).step for one in sources)]
    unsaved = next((one for one in steps if not one.checkpoint), None)
    if unsaved is not None:
        where = "in rounds" if links.nest is not None and links.nest.repeat else "for each item"
        raise InvalidLink(
            f"each {where} can't use '{unsaved.name}', which has checkpoint=False: a resume does not have its value. "
            f"Remove that, or return the value from another step."
        )


def _check_conditions(links: Links, scope: Scope) -> None:
    """Raises InvalidLink for a condition on a run parameter that gets a value without a checkpoint."""
    outermost = links.levels[0] if links.levels else Nest()
    lists = {} if outermost.is_cross else {link.parameter: link.source for link in outermost.each}
    for condition in links.conditions:
        source = condition.source
        over = lists.get(source.parameter) if isinstance(source, Entry) and source.level == 1 else source
        if not isinstance(over, int) or over >= len(scope.tasks):
            continue
        if over is source or scope.tasks[over].gives_list:  # an unsaved list is made anew before its items
            check_is_saved(scope.tasks[over], scope.tasks[over].name)


def _check_inside(step: AnyAction, name: str, links: Links, group: str, option: str) -> None:
    """Raises InvalidLink for a task that can't run for each item, or in rounds."""
    steps = [step, *(handler.step for handler in links.fallbacks)]
    is_mapped = bool(links.levels)
    where = "" if links.nest is None else "a step of the workflow around it"
    if any(nest.repeat for nest in links.levels):
        what, hint = "repeat", "Use one of them, and go through the other one in a step"
    elif is_mapped and links.always:
        what, hint = "each and always", f"Clean up in {where or 'one step that takes the list'}"
    elif is_mapped and step.approve is not None:
        what, hint = "each and approve", f"Ask in {where or 'a step that takes the list'}"
    elif links.nest is None and links.each and any(condition.by_item for condition in links.conditions):
        what, hint = "a condition for each item", "Decide in the step, or in one that takes the list"
    elif any(PREVIOUS in step.context_params for step in steps):
        what, hint = PREVIOUS, "Name a parameter like the task whose value it takes"
    elif group != DEFAULT_GROUP:
        what, hint = "group_name", "Remove it: its tasks take the group of add"
    else:
        return
    how = "each=..." if option == "each" else "repeat=..."
    raise InvalidLink(f"Task '{name}' has {what}, and its workflow is added with {how}. {hint}.")


def _by_item(links: Links, nest: Nest, task_id: int) -> Links:
    """Returns the links of a task of another workflow that runs for each item of lists."""
    after = links.after
    if links.always:  # after all tasks before it, beside those that it names: what has run of the item is known then
        after = tuple(dict.fromkeys((*after, *((other,) for other in nest.tasks if other < task_id))))
    return links._replace(levels=(nest, *links.levels), after=after)


def _filler(
    declared: Params,
    needs: Refs,
    params: Params,
    lists: Collection[str],
    scope: Scope,
    carry: Carry,
    nest: Nest | None,
) -> Callable[[Any], tuple[Any, ...]]:
    """Returns a function that gives the links of the other workflow their sources in this one."""
    first, deeper = len(scope.tasks), int(nest is not None)

    def source_of(name: str) -> tuple[int | str | Constant, str]:
        if name in params:
            return Constant(params[name]), PARAM
        ref = needs.get(name, name)
        is_param = scope.is_param(ref)
        if name in needs or (isinstance(ref, str) and ref in scope):
            return (scope.param(ref), PARAM) if is_param else (scope.task(ref), VALUE)
        if is_param:
            return scope.param(name), PARAM
        if isinstance(declared[name], EllipsisType):
            raise MissingParam((name,), "added workflow")
        return Constant(declared[name], name in settings_of(declared)), PARAM

    def filled(link: Any) -> Any:
        source, kind = source_of(link.source)
        part = scope.part(needs.get(link.source, link.source)) if kind == VALUE else None
        if isinstance(link, Each):
            if isinstance(source, int):
                return link._replace(source=source, part=part)
            value = source.value if isinstance(source, Constant) else scope.params[source]
            if is_setting(source):
                raise InvalidLink(f"'{source}' is a Setting, which is no input. Declare a parameter without it.")
            check_list(str(link.source), value, is_open=isinstance(source, str))
            return link._replace(source=source if isinstance(source, str) else tuple(value))
        link = link._replace(source=source, part=part)
        return link._replace(kind=kind) if isinstance(link, Bind) else link

    def fill(link: Any) -> tuple[Any, ...]:
        source = link.source
        if getattr(link, "kind", None) == PARAMS:
            raise InvalidLink("A step of an added workflow can't take 'params'. Take each parameter by its name.")
        if nest is not None and isinstance(link, Condition) and (isinstance(source, int) or source in lists):
            link = link._replace(by_item=True)
        if isinstance(link, Each) and link.carried is not None:
            link = link._replace(carried=fill(link.carried)[0])
        if isinstance(source, str):
            link = link._replace(source=Entry(source)) if source in lists else filled(link)
            return _with_carried(link, carry.get(source))
        if isinstance(source, int):
            source = first + source
        elif type(source) is Carried:
            source = Carried(first + source.task, source.level + deeper)
        elif type(source) is Entry:
            source = Entry(source.parameter, source.level + deeper)
        return (link._replace(source=source),)

    return fill
