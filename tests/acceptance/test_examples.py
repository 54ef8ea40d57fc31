"""The programs of docs_src/ run and print the output in their comments; their commands run, too."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.clouds.settings import set_up_gcs, set_up_s3
from tests.clusters.dask import DaskProcesses
from tests.clusters.ray import RayProcesses
from tests.examples_table import (
    EXAMPLES,
    PYTHON,
    ROOT,
    SECONDS,
    as_module,
    as_script,
    commands_of,
    copy_to,
    run,
    source_of,
)
from tests.loopback import TOKEN, serving

#: The programs that links from elsewhere lead to, by folder.
PROMISED = {
    "async": "async_action",
    "backoff": "backoff",
    "basic": "simple_class_workflow simple_cli simple_function_workflow simple_function_workflow_with_error",
    "callback": "task_callback workflow_callback_failure workflow_callback_success",
    "checkpoint": "checkpoint",
    "clusters": "dask_cluster ray_cluster",
    "cli": "cli_with_callback cli_with_initial_context cli_with_mode cli_with_output_context cli_with_params"
    " cli_with_path",
    "config": "config log_provider notify_provider storage_provider",
    "context": "context many_contexts",
    "errors": "errors",
    "first_steps": "first_steps",
    "graph": "branches cleanup each_item lists_in_step needs nested optional_input order route several_inputs",
    "group": "step_with_groups",
    "initial_context": "initial_context",
    "isolate": "isolate",
    "notify": "notify_apprise notify_telegram",
    "observability": "tracer_opentelemetry",
    "output": "step_class_result_context step_class_result_storage step_class_result_task"
    " step_function_result_context step_function_result_storage step_function_result_task",
    "previous_context": "previous_context",
    "process_mode": "background parallel parallel_group sequential",
    "retry": "retry retry_delay",
    "schedule": "schedule_cron",
    "storage": "storage_file storage_gcs storage_postgres storage_s3 storage_sqlite",
    "testing": "crash_test virtual_clock",
    "timeout": "timeout",
    "workflow": "keep_going_true sequential_group_mode",
}

#: The commands of the programs, and the output of each.
COMMANDS = {
    "dotflow start --step docs_src.basic.simple_cli.simple_step": "3 orders were read",
    "dotflow start --step docs_src.cli.cli_with_callback.simple_step"
    " --callback docs_src.cli.cli_with_callback.callback": "callback: simple_step is Completed",
    "dotflow start --step docs_src.cli.cli_with_initial_context.simple_step --initial-context abc": "context: abc",
    "dotflow start --step docs_src.cli.cli_with_mode.simple_step --mode sequential": "running",
    "dotflow start --step docs_src.cli.cli_with_params.orders --step docs_src.cli.cli_with_params.show"
    " --param day=2026-11-25": "25 November: order 2",
    "dotflow start --step docs_src.cli.cli_with_output_context.simple_step --storage file": "Completed",
    "dotflow start --step docs_src.cli.cli_with_path.simple_step --path .storage --storage file": "Completed",
}

#: Programs that need a service -> the variable with its address.
NEEDED = {
    "notify/notify_apprise": "APPRISE_URLS",
    "notify/notify_telegram": "TELEGRAM_TOKEN",
    "storage/storage_gcs": "STORAGE_EMULATOR_HOST",
    "storage/storage_postgres": "DOTFLOW_POSTGRES_DSN",
    "storage/storage_s3": "AWS_ENDPOINT_URL",
}

#: Programs that need an extra -> its package, its requirement, and the settings that lead to the message.
EXTRAS = {
    "clusters/dask_cluster": ("distributed", "dotflow[dask]", {}),
    "clusters/ray_cluster": ("ray", "dotflow[ray]", {}),
    "notify/notify_apprise": ("apprise", "dotflow[notify]", {"APPRISE_URLS": "json://127.0.0.1"}),
    "observability/tracer_opentelemetry": ("opentelemetry", "dotflow[otel]", {}),
    "schedule/schedule_cron": ("cronsim", "dotflow[scheduler]", {}),
    "storage/storage_gcs": ("google.cloud.storage", "dotflow[gcp]", {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}),
    "storage/storage_postgres": ("psycopg", "dotflow[postgres]", {"DOTFLOW_POSTGRES_DSN": "host=127.0.0.1"}),
    "storage/storage_s3": ("boto3", "dotflow[aws]", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}),
}

#: Program, wrong settings, and a part of the message.
WRONG = {
    "dask": ("clusters/dask_cluster", {"DASK_SCHEDULER_ADDRESS": "nonsense://127.0.0.1:9"}, "can't be reached"),
    "ray": ("clusters/ray_cluster", {"RAY_ADDRESS": "127.0.0.1:9"}, "can't be used"),
    "apprise": ("notify/notify_apprise", {"APPRISE_URLS": "nonsense"}, "Apprise URL"),
    "postgres": ("storage/storage_postgres", {"DOTFLOW_POSTGRES_DSN": "nonsense"}, "postgresql://"),
    "postgres-down": ("storage/storage_postgres", {"DOTFLOW_POSTGRES_DSN": "host=127.0.0.1 port=9"}, "port 9"),
    "s3": ("storage/storage_s3", {"AWS_ENDPOINT_URL": "nonsense"}, "endpoint"),
    "telegram": ("notify/notify_telegram", {"TELEGRAM_TOKEN": "123:abc", "TELEGRAM_CHAT_ID": "ops"}, "@name"),
}

#: Their clients take seconds to give up.
CLUSTERS = ("dask", "ray")

#: The comment behind a print, or the lines of comment after one, with the output until then.
OUTPUT = re.compile(r"^ *print\(.*\)(?:  # (.*)|\n((?: *# .*\n)+))", re.MULTILINE)

#: Folders of which each program shows something of its own; of the others, the first one runs in each run of the tests.
VARIED = ("graph", "process_mode")

#: The first programs of their folders.
FIRST = {example.partition("/")[0]: example for example in reversed(EXAMPLES)}

#: The program that runs as a module, too, since its workers must not import `__main__` again.
AS_MODULE = "process_mode/parallel"

WITHOUT = "import runpy, sys; sys.modules[sys.argv[2]] = None; runpy.run_path(sys.argv[1], run_name='__main__')"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each program as a script; AS_MODULE, or all of them with --exhaustive, as a module, too."""
    if "way" in metafunc.fixturenames:
        modules = EXAMPLES if metafunc.config.getoption("--exhaustive") else [AS_MODULE]
        runs = [*((example, as_script) for example in EXAMPLES), *((example, as_module) for example in modules)]
        metafunc.parametrize(
            ("example", "way"),
            [
                pytest.param(
                    example,
                    way,
                    id=f"{example}-{way.__name__.removeprefix('as_')}",
                    marks=[
                        pytest.mark.timeout(SECONDS.get(example, 55) + 2),
                        *([] if is_typical(example) else [pytest.mark.exhaustive]),
                    ],
                )
                for example, way in runs
            ],
        )


def is_typical(example: str) -> bool:
    """Whether a program is run without --exhaustive."""
    folder = example.partition("/")[0]
    return folder in VARIED or FIRST[folder] == example


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of docs_src/."""
    copy_to(tmp_path)
    return tmp_path


def check_printed(example: str, printed: str) -> None:
    """The output is that in the comments; three dots stand for anything, and any space for any other."""
    message = [behind or lines for behind, lines in OUTPUT.findall(source_of(example))]
    assert message
    pieces = " ".join(" ".join(message).replace("# ", " ").split()).split("...")
    assert re.fullmatch(".*".join(map(re.escape, pieces)), " ".join(printed.split())), printed


def check_left(folder: Path) -> None:
    """Only the files of runs are left, and a folder of Dask's."""
    assert {path.name for path in folder.iterdir()} <= {"docs_src", "tmp", ".output", ".storage"}
    assert {path.name for path in (folder / "tmp").iterdir()} <= {"dask-scratch-space"}


def test_linked_examples_exist() -> None:
    """Links to an example lead to one."""
    promised = {f"{place}/{name}" for place, names in PROMISED.items() for name in names.split()}
    assert promised <= set(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_example_hides_a_module(example: str) -> None:
    """Python searches the folder of a script first: a file named dask.py would hide the package."""
    name = example.rpartition("/")[2]
    assert name not in sys.stdlib_module_names
    assert find_spec(name) is None


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_short_and_has_a_docstring(example: str) -> None:
    """It fits on a screen and begins with a sentence."""
    lines = source_of(example).splitlines()
    assert len(lines) <= 45
    assert re.match(r'"""[^"\n]{20,}', lines[0])


def test_the_table_of_contents_is_whole() -> None:
    """docs_src/README.md has a link to every example, and the commands of COMMANDS."""
    text = (ROOT / "docs_src/README.md").read_text()
    assert sorted(re.findall(r"\]\((\S+)\.py\)", text)) == list(EXAMPLES)
    assert set(commands_of(text)) == set(COMMANDS)


@pytest.mark.exhaustive(keep_every=16)
@pytest.mark.slow
def test_an_example_runs(example: str, way: Callable[[str], list[str]], folder: Path) -> None:
    """Without any settings it ends with 0, and prints its output or the variable that it needs."""
    ended = run(way(example), folder, seconds=SECONDS.get(example, 55))

    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stderr  # one that comes too late to be an error is written there
    if example in NEEDED:
        assert NEEDED[example] in ended.stdout
        assert ended.stdout.count("\n") == 1
        assert ended.stderr == ""
    elif commands := commands_of(source_of(example)):
        assert all(command in ended.stdout for command in commands)
    else:
        check_printed(example, ended.stdout)
    check_left(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=() if "--param" in command or "--path" in command else pytest.mark.exhaustive)
        for command in COMMANDS
    ],
)
def test_a_command_runs(command: str, folder: Path) -> None:
    """The command is in its module, completes, and the step prints its line."""
    module = command.split()[3].rpartition(".")[0].removeprefix("docs_src.")
    assert commands_of(source_of(module.replace(".", "/"))) == [command]

    ended = run(command.split(), folder)

    assert ended.returncode == 0, ended.stderr
    assert COMMANDS[command] in ended.stdout
    stored = [str(path.relative_to(folder).parts[0]) for path in folder.glob(".*/*.checkpoints/0.json")]
    assert stored == ([] if "--storage" not in command else [".storage" if "--path" in command else ".output"])
    check_left(folder)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_example_of_a_test_is_a_test(folder: Path) -> None:
    """Pytest finds it in its file, and it passes."""
    ended = run([*PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "docs_src/testing/crash_test.py"], folder)

    assert ended.returncode == 0, ended.stdout
    assert "1 passed" in ended.stdout


# The page on clouds has the same programs, and test_clouds.py runs them.


@pytest.mark.slow
@pytest.mark.exhaustive
def test_s3(folder: Path, s3_server: str) -> None:
    """With a service it stores its values; the second run restores them."""
    settings: dict[str, str] = {}
    settings["DOTFLOW_BUCKET"] = set_up_s3(s3_server, settings.__setitem__, "example")
    check_twice("storage/storage_s3", folder, settings)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_gcs(folder: Path, gcs_server: str) -> None:
    """The same with Google Cloud Storage."""
    settings: dict[str, str] = {}
    settings["DOTFLOW_BUCKET"] = set_up_gcs(gcs_server, settings.__setitem__, "example")
    check_twice("storage/storage_gcs", folder, settings)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_postgres(folder: Path, postgres: str) -> None:
    """The same with Postgres."""
    check_twice("storage/storage_postgres", folder, {"DOTFLOW_POSTGRES_DSN": postgres})


def check_twice(example: str, folder: Path, settings: dict[str, str]) -> None:
    for started in (4, 0):  # the log of a run, in lines
        ended = run(as_script(example), folder, settings)

        assert ended.returncode == 0, ended.stderr
        check_printed(example, ended.stdout)
        assert ended.stderr.count("In progress") == started / 2
    check_left(folder)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("example", ["storage/storage_s3", "storage/storage_gcs"])
def test_a_bucket_is_never_made(example: str, folder: Path, s3_server: str, gcs_server: str) -> None:
    """A message names the missing bucket."""
    settings = {"DOTFLOW_BUCKET": "never-made"}
    set_up_s3(s3_server, settings.__setitem__)
    set_up_gcs(gcs_server, settings.__setitem__)
    for _ in range(2):
        check_line(run(as_script(example), folder, settings), "never-made")


@pytest.mark.slow
def test_telegram(folder: Path) -> None:
    """With a token and a chat there is one message about the failure."""
    with serving() as server:
        settings = {"TELEGRAM_TOKEN": TOKEN, "TELEGRAM_CHAT_ID": "-1001234", "TELEGRAM_API_URL": server.url}
        ended = run(as_script("notify/notify_telegram"), folder, settings)

    assert ended.returncode == 0, ended.stderr
    check_printed("notify/notify_telegram", ended.stdout)
    (text,) = server.texts
    assert "Failed: task 0 load" in text


@pytest.mark.slow
def test_apprise(folder: Path) -> None:
    """With two URLs both get a message."""
    with serving() as server:
        urls = " ".join(f"json://127.0.0.1:{server.port}/{place}" for place in ("ops", "team"))
        ended = run(as_script("notify/notify_apprise"), folder, {"APPRISE_URLS": urls})

    assert ended.returncode == 0, ended.stderr
    check_printed("notify/notify_apprise", ended.stdout)
    assert sorted(received.path for received in server.received) == ["/ops", "/team"]


@pytest.mark.slow
@pytest.mark.clusters
def test_dask(folder: Path, dask_cluster: DaskProcesses) -> None:
    """Dask's own variable names the cluster."""
    settings = {"DASK_SCHEDULER_ADDRESS": dask_cluster.address}
    check_cluster("clusters/dask_cluster", folder, settings)


@pytest.mark.slow
@pytest.mark.clusters
@pytest.mark.timeout(60)
def test_ray(folder: Path, ray_cluster: RayProcesses) -> None:
    """Ray's own variable names the cluster."""
    settings = {"RAY_ADDRESS": ray_cluster.address}
    check_cluster("clusters/ray_cluster", folder, settings)


def check_cluster(example: str, folder: Path, settings: dict[str, str]) -> None:
    ended = run(as_script(example), folder, settings, seconds=50)

    assert ended.returncode == 0, ended.stderr
    check_printed(example, ended.stdout)
    check_left(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "example",
    [
        pytest.param(one, marks=() if "notify" in one else pytest.mark.exhaustive) for one in EXTRAS
    ],  # see test_packaging
)
def test_a_missing_extra_is_one_line(example: str, folder: Path) -> None:
    """It has the command that installs the package; test_packaging.py asks for all of them."""
    package, extra, settings = EXTRAS[example]
    check_line(run([*PYTHON, "-c", WITHOUT, f"docs_src/{example}.py", package], folder, settings), extra)


@pytest.mark.exhaustive(keep_every=6)
@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.exhaustive if case in CLUSTERS else ()) for case in WRONG]
)
def test_a_wrong_setting_is_one_line(case: str, folder: Path) -> None:
    """It names the setting, or the server that does not answer."""
    example, settings, message = WRONG[case]
    check_line(run(as_script(example), folder, settings), message)


def check_line(ended: "subprocess.CompletedProcess[str]", message: str) -> None:
    assert ended.returncode == 0, ended.stderr
    assert message in ended.stdout
    assert ended.stdout.count("\n") == 1
    assert "Traceback" not in ended.stderr
