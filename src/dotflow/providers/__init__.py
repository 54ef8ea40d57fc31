"""The providers: implementations of the contracts of `dotflow.abc`, loaded on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dotflow.providers.executors.async_ import ExecutorAsync
    from dotflow.providers.executors.dask.executor import ExecutorDask
    from dotflow.providers.executors.inline import ExecutorInline
    from dotflow.providers.executors.process import ExecutorProcess
    from dotflow.providers.executors.ray.executor import ExecutorRay
    from dotflow.providers.executors.thread import ExecutorThread
    from dotflow.providers.histories.postgres.history import HistoryPostgres
    from dotflow.providers.histories.sqlite.history import HistorySQLite
    from dotflow.providers.logs.default import LogDefault
    from dotflow.providers.notifiers.apprise.notifier import NotifyApprise
    from dotflow.providers.notifiers.none import NotifyDefault
    from dotflow.providers.notifiers.telegram.notifier import NotifyTelegram
    from dotflow.providers.schedulers.cron import SchedulerCron
    from dotflow.providers.schedulers.none import SchedulerDefault
    from dotflow.providers.storages.buckets.gcs import StorageGCS
    from dotflow.providers.storages.buckets.s3 import StorageS3
    from dotflow.providers.storages.file import StorageFile
    from dotflow.providers.storages.memory import StorageDefault
    from dotflow.providers.storages.postgres.storage_postgres import StoragePostgres
    from dotflow.providers.storages.sqlite import StorageSQLite
    from dotflow.providers.tracers.opentelemetry.tracer import TracerOpenTelemetry

__all__ = [
    "ExecutorAsync",
    "ExecutorDask",
    "ExecutorInline",
    "ExecutorProcess",
    "ExecutorRay",
    "ExecutorThread",
    "HistoryPostgres",
    "HistorySQLite",
    "LogDefault",
    "NotifyApprise",
    "NotifyDefault",
    "NotifyTelegram",
    "SchedulerCron",
    "SchedulerDefault",
    "StorageDefault",
    "StorageFile",
    "StorageGCS",
    "StoragePostgres",
    "StorageS3",
    "StorageSQLite",
    "TracerOpenTelemetry",
]

_MODULES = {
    "ExecutorAsync": "executors.async_",
    "ExecutorDask": "executors.dask.executor",
    "ExecutorInline": "executors.inline",
    "ExecutorProcess": "executors.process",
    "ExecutorRay": "executors.ray.executor",
    "ExecutorThread": "executors.thread",
    "HistoryPostgres": "histories.postgres.history",
    "HistorySQLite": "histories.sqlite.history",
    "LogDefault": "logs.default",
    "NotifyApprise": "notifiers.apprise.notifier",
    "NotifyDefault": "notifiers.none",
    "NotifyTelegram": "notifiers.telegram.notifier",
    "SchedulerCron": "schedulers.cron",
    "SchedulerDefault": "schedulers.none",
    "StorageDefault": "storages.memory",
    "StorageFile": "storages.file",
    "StorageGCS": "storages.buckets.gcs",
    "StoragePostgres": "storages.postgres.storage_postgres",
    "StorageS3": "storages.buckets.s3",
    "StorageSQLite": "storages.sqlite",
    "TracerOpenTelemetry": "tracers.opentelemetry.tracer",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _MODULES:
        hint = _hint(name) if name[:1].isupper() else ""
        if hint and import_module("dotflow.cpython").is_from_import():
            raise ImportError(hint, name=__name__)
        raise AttributeError(hint or f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def _hint(name: str) -> str:
    """Returns a hint for a name that is no provider; "" where nothing is similar."""
    import re  # here: only errors need them
    from difflib import get_close_matches

    known = {provider.lower(): provider for provider in __all__}
    *first, last = re.findall("[A-Z][^A-Z]*", name)
    for word in (name, "".join((last, *first))):  # FileStorage: the kind comes first here
        for near in get_close_matches(word.lower(), known, n=1, cutoff=0.85):
            return f"there is no provider {name}. Did you mean {known[near]}?"
    if name.startswith("Notify") and name != "Notify":
        return (
            f"there is no provider {name}. NotifyApprise sends to Slack, Discord, Teams, e-mail and a hundred more, "
            "each by a URL. It needs the extra 'notify': pip install 'dotflow[notify]'."
        )
    return ""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
