"""RunProviders: the providers of one run."""

from collections.abc import Callable
from dataclasses import dataclass

from dotflow.abc.executor import Executor
from dotflow.abc.history import History, Listener
from dotflow.abc.limits import LimitStore, PlaceStore
from dotflow.abc.log import Log
from dotflow.abc.notify import Notify
from dotflow.abc.storage import Storage
from dotflow.abc.tracer import Tracer
from dotflow.graph.run_secrets import RunSecrets


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProviders:
    """The providers of a run.

    Attributes:
        executor: Runs the steps.
        storage: Saves the values.
        saves_at_once: Whether it only puts a value into memory: no code of users runs, and nothing takes long.
        cache: Saves the values of cached steps.
        log: Logs the changes of a status.
        notify: Sends notifications.
        notify_grace: Seconds for the remaining notifications at the end of the run.
        history: Records the events; None for none.
        tracer: Traces the events; None for none.
        listeners: Receive the events after the history.
        secrets: The secrets of the steps, and what is masked.
        digest_limit: The size up to which files are read for a digest; None to record nothing of files.
        find_limits: Returns where the grants of limits are counted.
        find_places: Returns what counts what attempts have of this machine.
    """

    executor: Executor
    storage: Storage
    saves_at_once: bool
    cache: Storage
    log: Log
    notify: Notify
    notify_grace: float
    history: History | None
    tracer: Tracer | None
    listeners: tuple[Listener, ...]
    secrets: RunSecrets
    digest_limit: int | None
    find_limits: Callable[[], LimitStore]
    find_places: Callable[[], PlaceStore]
