"""What `dotflow show` prints, by its options."""

from dotflow.abc.archive import Archive
from dotflow.cli.history import parts
from dotflow.cli.history.as_json import attempt_line, print_json
from dotflow.report.document import document, load_newest


def show_record(
    archive: Archive,
    run: str,
    step: str | None,
    attempt: int | None,
    history: str | None,
    *,
    is_exact: bool,
    as_json: bool,
) -> None:
    """Prints a run or a step; as JSON, the run as an object, or each attempt of the step.

    Without a step, the id of a run stands for the newest one of its chain, unless *is_exact*.
    """
    record = archive.load(run) if is_exact or step is not None else load_newest(archive, run)
    if step is not None:
        for task, item in record.find_all(step):
            if as_json:
                attempts = task.attempts_of(item, attempt) if item is not None or attempt else task.all_attempts
                print_json(attempt_line(record, task, one) for one in attempts)
            else:
                from dotflow.cli.history.step_page import print_step

                print_step(archive, record, task, item, attempt, history)
    elif as_json:
        print_json([document(record, archive=archive, history=history)])
    else:
        from dotflow.cli.history.run_page import print_run

        print_run(archive, record, history)


def show_part(
    archive: Archive, run: str, step: str | None, attempt: int | None, part: str, *, follow: bool, as_json: bool
) -> None:
    """Prints the output, the error, the inputs or the value of a step, and nothing else."""
    if part == "output":
        parts.print_output(archive, run, step, attempt, follow=follow, as_json=as_json)
        return
    assert step is not None
    record = archive.load(run)
    task, item = record.find(step)
    if part == "error":
        is_round = bool(task.round_name) and attempt is None
        attempts = task.all_attempts if is_round else task.attempts_of(item, attempt)
        parts.print_error(task, item, attempts, as_json=as_json)
        return
    copies = archive.copies(record.run_id, step, attempt=attempt)
    is_own = not archive.why_foreign()  # so that its word on where its storage is counts
    if part == "value" and is_own and not any(copy.role == parts.RETURNED and copy.document for copy in copies):
        kept = parts.checkpoint_of(record, task, item, attempt)
        copies = copies if kept is None else [kept]
    parts.print_copies(copies, step, inputs=part == "input", as_json=as_json)
