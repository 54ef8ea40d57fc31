"""Config: the providers of a workflow."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Never

from dotflow import clock
from dotflow.abc.executor import Executor
from dotflow.abc.history import History, Listener
from dotflow.abc.limits import LimitStore, PlaceStore
from dotflow.abc.log import Log
from dotflow.abc.notify import Notify
from dotflow.abc.scheduler import Scheduler
from dotflow.abc.storage import Storage
from dotflow.abc.tracer import Tracer
from dotflow.atomic_file import UMASK, UMASK_VARIABLE, is_umask
from dotflow.core.action import AnyAction, parts_of
from dotflow.core.durations import Duration, as_seconds
from dotflow.core.failure import name_of
from dotflow.core.hints import CONFIG, refuse_unknown
from dotflow.core.limit_rules import RUN
from dotflow.core.resources import VARIABLE as RESOURCES_VARIABLE
from dotflow.core.resources import Offered, as_offer, check_needs, keys_of, parse_offer
from dotflow.core.secret import SecretRef
from dotflow.core.sizes import as_bytes
from dotflow.core.task import Task
from dotflow.engine.run_providers import RunProviders
from dotflow.errors import CallsNotKept, InvalidArgument, InvalidPolicy, InvalidProvider, ResourcesNotOffered
from dotflow.graph.builder import TaskBuilder
from dotflow.graph.run_secrets import NO_GIVEN, RunSecrets, SecretSource, Source, find_secrets
from dotflow.providers.histories.default import history_of
from dotflow.providers.logs.default import LogDefault
from dotflow.providers.notifiers.none import NotifyDefault
from dotflow.providers.schedulers.none import SchedulerDefault
from dotflow.providers.storages.memory import StorageDefault


class Config:
    """The providers of a workflow. All are optional.

    Args:
        storage: Saves the values; by default StorageDefault().
        notify: Sends a notification for every change of a status; by default NotifyDefault().
        log: Logs every change of a status; by default LogDefault().
        scheduler: Runs the workflow on a schedule; by default SchedulerDefault().
        executor: Makes all attempts, in every mode. By default sequential runs make them in the calling thread,
            background runs in a thread, parallel runs and groups in processes.
        history: Records the events; by default none. The environment variable DOTFLOW_HISTORY is the path of a
            HistorySQLite for each Config without a history; with "0", none has one.
        tracer: Traces the events; by default none.
        cache: Saves the values of steps with @action(cache=...); by default the storage.
        notify_grace: The time for the remaining notifications at the end of a run: seconds, or a text such as "10s".
        secrets: The values of `Secret`s by name, or a function that returns the value for a name, or None. The
            environment is next.
        mask: The names of other secrets, whose values are masked in what dotflow writes.
        files: Whether the files that paths name are part of values and arguments. With False a path is only its text.
        resources: What this machine offers to the steps that need some of it, @action(resources=...): ids or amounts by
            name, such as {"gpu": ["0", "1"], "memory": "64GB"}. All processes of the user on this machine share it. By
            default what the environment variable DOTFLOW_RESOURCES has, such as "gpu=0,1 memory=64GB".
        digest_limit: The size up to which such files are read, so that a change of their content is found by a
            digest: bytes, or a text such as "256 MB". Of larger ones size and time are compared.
        unknown: Refused with a hint.

    Raises:
        InvalidProvider: A provider is of the wrong kind.
        InvalidArgument: notify_grace is no duration, mask has something other than names, files is neither True nor
            False, digest_limit is no size, resources are none, or DOTFLOW_UMASK is no umask.
        UnknownArgument: There is no such argument.
    """

    def __init__(
        self,
        storage: Storage | None = None,
        notify: Notify | None = None,
        log: Log | None = None,
        scheduler: Scheduler | None = None,
        executor: Executor | None = None,
        history: History | None = None,
        tracer: Tracer | None = None,
        notify_grace: Duration = 5.0,
        cache: Storage | None = None,
        secrets: Source | None = None,
        mask: str | Iterable[str] = (),
        files: bool = True,
        digest_limit: int | str = "256 MB",
        resources: Mapping[str, Sequence[str] | float | str] | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("Config", unknown, Config, CONFIG)
        umask = os.environ.get(UMASK_VARIABLE) or None
        if not is_umask(umask):
            raise InvalidArgument(UMASK_VARIABLE, umask, UMASK)
        providers: list[tuple[str, object, type]] = [
            ("storage", storage, Storage),
            ("notify", notify, Notify),
            ("log", log, Log),
            ("scheduler", scheduler, Scheduler),
            ("executor", executor, Executor),
            ("history", history, History),
            ("tracer", tracer, Tracer),
            ("cache", cache, Storage),
        ]
        for name, provider, contract in providers:
            _check(name, provider, contract)
        self.storage: Storage = StorageDefault() if storage is None else storage
        self.notify: Notify = NotifyDefault() if notify is None else notify
        self.log: Log = LogDefault() if log is None else log
        self.scheduler: Scheduler = SchedulerDefault() if scheduler is None else scheduler
        self.executor = executor
        self.history = history_of(history)
        self.listeners: list[Listener] = []  # dotflow's own, which receive the events after the history
        self.tracer = tracer
        self.cache = cache
        self.notify_grace: float = as_seconds("notify_grace", notify_grace)
        self._secret_source = SecretSource(secrets)
        self.mask: tuple[str, ...] = (mask,) if isinstance(mask, str) else tuple(mask)
        if not all(isinstance(name, str) for name in self.mask):
            raise InvalidArgument("mask", "...", 'names of environment variables, such as ("DB_PASSWORD",)')

        if not isinstance(files, bool):
            raise InvalidArgument("files", files, "True or False")
        self.files = files
        self.digest_limit: int = as_bytes("digest_limit", digest_limit)
        self.resources: Mapping[str, Offered] | None = None if resources is None else as_offer(resources)

    def find_secrets(
        self, tasks: Iterable[Task], given: Mapping[str, str] = NO_GIVEN, *, are_required: bool = True
    ) -> RunSecrets:
        """Returns the secrets of the tasks. *given* are run parameters. Raises SecretMissing or InvalidProvider."""
        return find_secrets(tasks, self._secret_source, self.mask, given, are_required=are_required)

    def find_secret(self, secret: SecretRef) -> str | None:
        """Returns the value of a secret; None if there is none. Raises InvalidProvider."""
        return self._secret_source.get(secret.name) or os.environ.get(secret.name) or secret.default

    def check_steps(self, tasks: TaskBuilder) -> None:
        """Raises ResourcesNotOffered or InvalidPolicy for steps whose needs can't be met here."""
        steps = dict.fromkeys([task.step for task in tasks])  # there may be a hundred thousand tasks of one step
        links = [task.links for task in tasks if task.links is not None]
        steps.update({handler.step: None for linked in links for handler in linked.fallbacks})
        self._check_resources(steps)
        is_local = self.executor is None or not self.executor.offers_resources
        watched = [step.policy.memory for step in steps if step.policy.memory is not None]
        if watched and is_local and sys.platform != "linux":
            raise InvalidPolicy("memory", watched[0], f"measured on Linux alone, and this is {sys.platform}")
        if limited := [step for step in steps if step.policy.is_limited]:
            self._check_limits(limited)

    def _check_limits(self, steps: Iterable[AnyAction]) -> None:
        """Raises InvalidPolicy for steps whose texts of a name differ, and for budgets that nothing counts."""
        counts_runs = clock.source is not None or self._find_limits().is_shared
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for step in steps:
            of_step = {"limit": step.policy.limits, "budget": step.policy.budgets}
            for option, limit in ((option, limit) for option, limits in of_step.items() for limit in limits):
                if option == "budget" and not counts_runs and any(part.period != RUN for part in limit.parts):
                    accepted = "of '/run' alone without a history: Config(history=...) counts what all runs use"
                    raise InvalidPolicy(option, limit.text, accepted)
                other, text = found.setdefault((option, limit.name or step.identity), (step.name, limit.text))
                if text != limit.text:
                    accepted = f"one text for {limit.name!r}, and {other!r} has {text!r}. Write one, in a constant"
                    raise InvalidPolicy(option, limit.text, accepted)

    def _check_resources(self, steps: Iterable[AnyAction]) -> None:
        """Raises ResourcesNotOffered or InvalidPolicy for what a step needs, and neither a cluster nor this one has."""
        if self.executor is not None and self.executor.offers_resources:
            return
        found = [part for step in steps for part in parts_of(step) if part.resources]
        if not found:
            return
        offer = self._offer()
        if lacking := [part for part in found if not offer.keys() >= keys_of(part.resources)]:
            needs = tuple((part.name, dict(part.resources)) for part in lacking)
            name = "" if self.executor is None else type(self.executor).__name__
            is_ours = self.executor is None or type(self.executor).__module__.startswith("dotflow.")
            raise ResourcesNotOffered(needs, ", ".join(offer), "" if is_ours else name)
        for part in found:
            check_needs(part.name, part.resources, offer)
        self._find_places()

    def _offer(self) -> Mapping[str, Offered]:
        """Returns what this machine offers."""
        if self.resources is not None:
            return self.resources
        return parse_offer(os.environ.get(RESOURCES_VARIABLE, ""))

    def _find_places(self) -> PlaceStore:
        """Returns what counts what attempts have of this machine. Raises HistoryError."""
        from dotflow.providers.histories.sqlite.places import find_places  # here: few steps need resources

        return find_places(self._offer())

    def check_calls(self, tasks: TaskBuilder) -> None:
        """Raises CallsNotKept if a step is durable, and the executor has no way to the coordinator."""
        executor = self.executor
        if executor is None or executor.keeps_calls:
            return
        for task in tasks:
            for step in task._steps:
                if step.durable:
                    raise CallsNotKept(step.name, type(executor).__name__)

    def run_providers(self, secrets: RunSecrets, *, is_apart: bool, in_thread: bool) -> RunProviders:
        """Returns the providers of one run.

        Args:
            secrets: The secrets of the tasks.
            is_apart: Whether the tasks have workers of their own.
            in_thread: Whether the run has a thread of its own.
        """
        executor = self.executor
        if executor is None:
            from dotflow import providers  # here: the default executor is imported on first use

            if is_apart:
                executor = providers.ExecutorProcess()
            else:
                executor = providers.ExecutorThread(max_workers=1) if in_thread else providers.ExecutorInline()
        return RunProviders(
            executor=executor,
            storage=self.storage,
            saves_at_once=type(self.storage) is StorageDefault,  # a subclass may do more
            cache=self.storage if self.cache is None else self.cache,
            log=self.log,
            notify=self.notify,
            notify_grace=self.notify_grace,
            history=self.history,
            listeners=tuple(self.listeners),
            tracer=self.tracer,
            secrets=secrets,
            digest_limit=self.digest_limit if self.files else None,
            find_limits=self._find_limits,
            find_places=self._find_places,
        )

    def _find_limits(self) -> LimitStore:
        """Returns where the grants of limits are counted: in memory without a history, and on a virtual clock."""
        store = None if self.history is None or clock.source is not None else self.history.limits()
        if store is None:
            from dotflow.providers.histories.sql.limits import memory_limits  # here: few runs have limits

            store = memory_limits(clock.source)  # type: ignore[arg-type]  # it has a hash, as any object
        return store


def _check(name: str, provider: Any, contract: type) -> None:
    if provider is None or isinstance(provider, contract):
        return
    what = f"of type {name_of(type(provider))}"
    hint = f"Use one of dotflow.providers, or a subclass of {contract.__module__}.{contract.__name__}."
    if isinstance(provider, type) and issubclass(provider, contract):
        what, hint = f"the class {provider.__name__} itself", f"Write {provider.__name__}(...)."
    raise InvalidProvider(f"Config({name}=...)", what, contract.__name__, hint)
