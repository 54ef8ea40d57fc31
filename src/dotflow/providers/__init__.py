"""The providers: each is one implementation of one contract of `dotflow.abc`, loaded when it is first used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dotflow.providers.executor_async import ExecutorAsync
    from dotflow.providers.executor_dask import ExecutorDask
    from dotflow.providers.executor_inline import ExecutorInline
    from dotflow.providers.executor_process import ExecutorProcess
    from dotflow.providers.executor_ray import ExecutorRay
    from dotflow.providers.executor_thread import ExecutorThread
    from dotflow.providers.log_default import LogDefault
    from dotflow.providers.notify_apprise import NotifyApprise
    from dotflow.providers.notify_default import NotifyDefault
    from dotflow.providers.notify_telegram import NotifyTelegram
    from dotflow.providers.scheduler_cron import SchedulerCron
    from dotflow.providers.scheduler_default import SchedulerDefault
    from dotflow.providers.storage_default import StorageDefault
    from dotflow.providers.storage_file import StorageFile
    from dotflow.providers.storage_gcs import StorageGCS
    from dotflow.providers.storage_postgres import StoragePostgres
    from dotflow.providers.storage_s3 import StorageS3
    from dotflow.providers.storage_sqlite import StorageSQLite
    from dotflow.providers.tracer_opentelemetry import TracerOpenTelemetry

__all__ = [
    "ExecutorAsync",
    "ExecutorDask",
    "ExecutorInline",
    "ExecutorProcess",
    "ExecutorRay",
    "ExecutorThread",
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
    "ExecutorAsync": "executor_async",
    "ExecutorDask": "executor_dask",
    "ExecutorInline": "executor_inline",
    "ExecutorProcess": "executor_process",
    "ExecutorRay": "executor_ray",
    "ExecutorThread": "executor_thread",
    "LogDefault": "log_default",
    "NotifyApprise": "notify_apprise",
    "NotifyDefault": "notify_default",
    "NotifyTelegram": "notify_telegram",
    "SchedulerCron": "scheduler_cron",
    "SchedulerDefault": "scheduler_default",
    "StorageDefault": "storage_default",
    "StorageFile": "storage_file",
    "StorageGCS": "storage_gcs",
    "StoragePostgres": "storage_postgres",
    "StorageS3": "storage_s3",
    "StorageSQLite": "storage_sqlite",
    "TracerOpenTelemetry": "tracer_opentelemetry",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        if name[:1].isupper() and (hint := _hint(name)):
            # No AttributeError: `from dotflow.providers import ...` would keep what it says to itself.
            raise ImportError(f"there is no provider {name}. {hint}", name=__name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def _hint(name: str) -> str:
    """Says what to import instead; "" where nothing comes near."""
    if near := _near(name):
        return f"Did you mean {near}?"
    if name.startswith("Notify") and name != "Notify":
        return (
            "NotifyApprise sends to Slack, Discord, Teams, e-mail and a hundred more, each by a URL. It needs "
            "the extra 'notify': pip install 'dotflow[notify]'."
        )
    return ""


def _near(name: str) -> str:
    """The provider that may be meant; "" where none is like it."""
    from difflib import get_close_matches

    known = {provider.lower(): provider for provider in __all__}
    return "".join(known[found] for found in get_close_matches(name.lower(), known, n=1, cutoff=0.85))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
