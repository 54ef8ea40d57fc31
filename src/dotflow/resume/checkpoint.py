"""Checkpoints: saves and restores the values of one run through a Storage, and voids those of earlier runs."""

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from dotflow.abc.storage import Storage
from dotflow.abc.workflow import Superseded
from dotflow.core.call import Call
from dotflow.core.calls import CallFollower
from dotflow.core.context import NO_ORIGIN, NOTHING, Context, Origin, token_of_run
from dotflow.core.files import NO_FILES, FileWatch
from dotflow.core.item_counts import rounds_of
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import (
    LeaseLost,
    StorageError,
    ValueNotStorable,
)
from dotflow.graph.linked_task import Item, LinkedTask
from dotflow.graph.params import NO_PARAMS, Params
from dotflow.resume.changed_code import ChangedCode
from dotflow.resume.checkpoint_keys import CheckpointKeys
from dotflow.resume.choice import NO_CALLS, NONE_CHOSEN, ChosenTasks, Resume
from dotflow.resume.earlier_runs import NO_ITEMS, EarlierRuns, Restoration, RestoredItems
from dotflow.resume.files import RunFiles, SavedFiles, inputs_of
from dotflow.resume.journal import Journal, is_noted
from dotflow.resume.judge import Cause, Void
from dotflow.resume.saved_values import leaves_checkpoint, reason_of, usable
from dotflow.resume.step_ids import QUESTION, StepIds
from dotflow.resume.tokens import NO_INITIAL, Tokens
from dotflow.resume.turns import Turn

if TYPE_CHECKING:
    from dotflow.core.approval import Question
    from dotflow.resume.cache import Cache
    from dotflow.resume.calls import Kept

COMPLETED, SKIPPED = TypeStatus.COMPLETED, TypeStatus.SKIPPED


class Chain(NamedTuple):
    """The chain of a run that was taken from a queue: a first run, and those that continue it.

    Attributes:
        origin: The id of the first one.
        continues: Whether the run continues another one.
        has_begun: Whether a run of the chain has begun: the values of its name were those of the chain.
        supersede: Called before the run goes on with its values, or begins anew. It ends the other chains, and raises
            Superseded where a newer run goes on with this one.
    """

    origin: str
    continues: bool
    has_begun: bool
    supersede: Callable[[], object]


class Checkpoints:
    """The checkpoints of one workflow, for one run.

    Args:
        storage: Where they are saved.
        workflow_id: The workflow.
        exclusive: Whether the workflow is locked against other processes during the run.
        log_line: Writes a line into the log.
        run_id: The run. Its values have the beginning of it.
        has_queue: Whether a run that is taken from a queue may go on with the values.
        digest_limit: The size up to which files are read for a digest; None to record nothing of files.

    Attributes:
        watch: What an attempt without paths among its arguments records of files; None for nothing.
        files: The files of the run; None as long as no value has a path.
        turn: Whether its values count, and when it may save them.
        ids: What tells its steps apart, whichever run makes them. Set by `open`.
        found: What it restores of earlier runs, as decided before it began.
        origin: The first run of the chain whose values it goes on with; "" where that is unknown.
        outdated: The keys of checkpoints that don't count, and are deleted as soon as their task or item begins.
        has_durable: Whether a step is durable, or a fallback.
        follower: The loop of the run, which follows the calls of durable steps.
        cache: The cached values of the run; None where no task uses them.
    """

    ids: StepIds
    _tasks: Sequence[Task]
    _keys: CheckpointKeys
    _journal: Journal
    _tokens: Tokens
    _changes: ChangedCode
    _origins: list[Origin]
    _takers: Sequence[Task]  # that take the idempotency key, ask for an approval, or are durable

    def __init__(
        self,
        storage: Storage,
        workflow_id: str,
        *,
        exclusive: bool,
        log_line: Callable[..., None],
        run_id: str = "",
        has_queue: bool = False,
        digest_limit: int | None = None,
    ) -> None:
        self._storage = storage
        self._workflow_id = workflow_id
        self._has_queue = has_queue
        self._log_line = log_line
        self._run_id = run_id or str(uuid.uuid4())
        self.turn = Turn(storage, workflow_id, exclusive=exclusive, run_id=self._run_id, log_line=log_line)
        self._earlier: EarlierRuns | None = None  # that the run goes on with
        self.found = Restoration()
        self.origin = ""
        self._left_out: Collection[int] = ()
        self.outdated: set[str] = set()
        self.watch = None if digest_limit is None else FileWatch(digest_limit)
        self.files: RunFiles | None = None
        self.has_durable = False
        self.follower: CallFollower | None = None
        self.cache: Cache | None = None
        self._voids_changed = False
        self._from_calls = NO_CALLS  # the first call of durable steps that does not count

    def open(
        self,
        tasks: Sequence[Task],
        *,
        resume: Resume,
        sources: Sequence[int | None] = (),
        params: Params = NO_PARAMS,
        chosen: ChosenTasks = NONE_CHOSEN,
        chain: Chain | None = None,
    ) -> None:
        """Finds the valid checkpoints of earlier runs, and deletes the others. Without *resume* all go.

        Args:
            tasks: The run's tasks.
            resume: Whether earlier runs count, and which.
            sources: For each task, the task whose value is its `previous_context`.
            params: The run parameters.
            chosen: The tasks that the options of the run name.
            chain: That of a run that was taken from a queue. Whether earlier runs count is read from the storage then.

        Raises:
            Superseded: The values are those of a newer chain, or a newer run goes on with this one.
            WorkflowBusy: Another process is running the workflow, or this one is, for a queue.
            CheckpointMismatch: Another step made one of the checkpoints.
            CheckpointUnreadable: A checkpoint can't be read.
            StorageError: The storage can't be used. After any of these errors, the lock is released.
        """
        try:
            self._tasks, self._left_out, self._from_calls = tasks, chosen.left_out, chosen.calls
            self._journal = self.turn.begin(tasks, is_claimed=chain is not None)
            self._voids_changed = resume == "changed"
            self._keys = CheckpointKeys(self._storage, tasks)
            self._tokens = tokens = Tokens(tasks, sources, params)
            self.ids = StepIds(self._journal, tasks, tokens, self.watch)
            linked = tasks if tokens.has_links else ()
            self._takers = [
                task for task in linked if task.links and (task.links.takes_key or task.step.approve is not None)
            ]
            self._changes = changes = ChangedCode(tokens, resume, chosen)
            self.has_durable = any(map(is_durable, self._takers))
            resume = resume or bool(chosen.anew)
            # Tasks without an initial context share the origin of their code.
            run = f"{token_of_run(self._run_id)}/{len(tasks)}"
            by_code = {code: Origin(NO_INITIAL, run, code) for code in set(changes.codes)}
            self._origins = list(map(by_code.__getitem__, changes.codes))
            for task in tasks:
                if self.watch is None or not task.step.files:  # an empty record: nothing was
                    self._origins[task.task_id] = self._origins[task.task_id]._replace(files=NO_FILES)
            for task_id, initial in tokens.initials.items():
                self._origins[task_id] = self._origins[task_id]._replace(initial=initial)
            restoration = None
            if chain is not None:
                resume = self._is_own(chain)
            if resume:
                # New records take the decisions, not those of the run.
                tokens.use([task._new_record(self._workflow_id, self._run_id) for task in tasks])
                earlier = EarlierRuns(
                    self._storage,
                    self._journal,
                    tokens,
                    changes,
                    self._log_line,
                    resume=resume,
                    digest_limit=None if self.watch is None else self.watch.limit,
                    asks=True,
                    left_out=chosen.left_out,
                )
                # What another run of this process has not finished yet is its own work.
                if resume != "unfinished" or self.turn.is_alone:
                    restoration = earlier.decide()
            if self._may_save(restoration):
                with usable(self._storage):
                    self._storage.check_writable(self._workflow_id)
            if restoration is not None:
                self._go_on(earlier, restoration)
                if (files := earlier.saved.files) is not None:
                    self.files = RunFiles(files.saved, files.limit)
                    done = {*restoration.restored, *restoration.whole_maps, *restoration.not_needed}
                    with usable(self._storage), self.turn.lock:
                        self.files.go_on(files, inputs_of(tokens), runs=not done.issuperset(range(len(tasks))))
                return
            if resume:
                tokens.use(tasks)
            self._begin_anew(chain)
            if tokens.has_outer and self.watch is not None and (inputs := inputs_of(tokens)):
                with usable(self._storage), self.turn.lock:
                    self._files_from_now(self.watch).begin(inputs)
        except BaseException:  # Ctrl-C too
            self.close()
            raise

    @property
    def goes_on(self) -> bool:
        """Whether the run goes on with an earlier one, or would if there were any value."""
        return self._earlier is not None

    def _is_own(self, chain: Chain) -> bool:
        """Returns whether the saved values are those of a chain.

        Raises:
            Superseded: A newer chain has replaced them, or a newer run goes on with this one.
        """
        if not chain.continues or not self._tasks:
            return False
        with usable(self._storage):
            saved = self._journal.origin
        if saved == chain.origin:
            chain.supersede()
            return True
        if saved and chain.has_begun:
            raise Superseded(saved)
        return False

    def _begin_anew(self, chain: Chain | None) -> None:
        """Voids the values of earlier runs, and saves whose the values are from now on, where that counts.

        After a kill between two of the steps the values belong to no chain, or to this one.
        """
        if chain is not None:
            chain.supersede()
        if not self._tasks or not (self.turn.is_exclusive or self._takers):
            self._void_all()
            return
        with usable(self._storage), self.turn.lock:  # as one step for other runs of this process
            journal = self._journal
            is_noted = self._has_queue or chain is not None or self._takers or journal.is_of_chain()
            if is_noted:
                journal.leave_chain()
            self._void_all()
            if is_noted:
                journal.put(origin=self._run_id if chain is None else chain.origin)
                if self._takers:
                    journal.read()  # shows whether the storage keeps inputs

    def _may_save(self, restoration: Restoration | None) -> bool:
        """Returns whether the run may have values to save."""
        if restoration is not None and not (
            restoration.missing or restoration.void or restoration.left_open or restoration.undecided
        ):
            return False
        restored: Collection[int] = () if restoration is None else restoration.restored
        return any(task.step.checkpoint and task.task_id not in restored for task in self._tasks)

    def _go_on(self, earlier: EarlierRuns, restoration: Restoration) -> None:
        """Goes on with earlier runs: deletes the checkpoints that are void, and reports why."""
        self._earlier, self.found = earlier, restoration
        self._tokens.use(self._tasks)
        self._find_origin(restoration)
        self._note_left_out(earlier, restoration)
        earlier.saved.gone = self.outdated
        self._void(restoration.void, from_calls=self._from_calls)
        self._report_again(restoration.void)
        for note in restoration.notes:
            self._log_line(note)

    def _note_left_out(self, earlier: EarlierRuns, restoration: Restoration) -> None:
        """Saves which tasks leave nothing unfinished, though they have no value: a run was not asked for them.

        They had one, which this run outdates, or none of the tasks had one. A run of all tasks forgets them.
        """
        tasks, left_out = self._tasks, [self._tasks[task_id] for task_id in self._left_out]
        with usable(self._storage), self.turn.lock:
            names = {task.key_name for task in left_out}
            if left_out and (earlier.saved.has_values or any(map(earlier.saved.records_of, left_out))):
                void = {tasks[task.task_id].key_name for task, _ in restoration.void}
                names &= {*self._journal.fact("left_out"), *void}
            self._journal.put(left_out=sorted(names))

    def _find_origin(self, restoration: Restoration) -> None:
        """Reads whose values the run goes on with; where they are of no chain, and a task takes its key, they are its.

        A task without checkpoints that `rerun` names has finished, as far as anything shows.
        """
        if not self._tasks or not (self.turn.is_exclusive or self._takers):
            return
        done = {*restoration.restored, *restoration.whole_maps}
        with usable(self._storage), self.turn.lock:
            self.origin = self._journal.origin
            if not self.origin and any(task.task_id not in done for task in self._takers):
                self._journal.put(origin=self._run_id, voided={})
                self._journal.read()  # shows whether the storage keeps inputs
        again = [task for task in self._takers if self._changes.is_rerun(task)]
        void = {task.task_id for task, _ in restoration.void if task.item is None}
        # A durable step that has not completed has calls, which don't count any more.
        unsaved = [
            task for task in again if not leaves_checkpoint(task) or (is_durable(task) and task.task_id not in void)
        ]
        self._void([], again=unsaved, ask=[task for task in again if _asks(task) and task.task_id not in void])

    @cached_property
    def calls(self) -> "Kept":
        """The calls of durable steps."""
        from dotflow.resume.calls import Kept  # here: few steps are durable

        assert self.follower is not None, "it has begun"
        assert self.cache is not None, "a durable step may use it"
        return Kept(
            self._storage,
            self._journal,
            self.turn,
            self.follower,
            self.cache,
            goes_on=self.goes_on,
            voids_changed=self._voids_changed,
            run=f"{token_of_run(self._run_id)}/{len(self._tasks)}",
            codes=self._changes.calls,
            log_line=self._log_line,
        )

    def with_calls(self, call: Call, task: Task) -> Call:
        """Returns the call of an attempt of a durable step, whose calls are kept and given back."""
        whole = self._tasks[task.task_id]
        return self.calls.attach(call, task, self._keys.of(task), whole.key_name, always=whole.is_cleanup)

    def questions_of(self, task: Task, calls: Iterable[str]) -> "list[Question]":
        """Returns the questions of calls of a durable step that wait for their answers."""
        return self.calls.questions_of(self._keys.of(task), calls)

    def end_calls(self, task: Task, *, is_over: bool = True) -> None:
        """Counts the calls of an attempt of a durable step that has ended, or has stopped between two of them."""
        self.calls.end_attempt(self._keys.of(task), is_over=is_over)

    def complete_calls(self, task: Task) -> None:
        """Reports what a durable step that has completed did not ask for any more. An error is logged."""
        what = f"The calls of step '{task.name}' can't be compared"
        self._save_beside(what, lambda: self.calls.complete(self._keys.of(task)))

    def note_cleanups(self) -> None:
        """Saves which cleanups of the run did not complete, so that a resume runs them again."""
        noted = [task for task in self._tasks if is_noted(task) and task.task_id not in self._left_out]
        if noted:
            self._save_beside("Whether the cleanups have completed can't be saved", lambda: self._put_cleanups(noted))

    def _put_cleanups(self, tasks: Sequence[Task]) -> None:
        cleanups = {**self._journal.fact("cleanups")}
        for task in tasks:
            cleanups[task.key_name] = "" if task.status in (COMPLETED, SKIPPED) else self._run_id
        self._journal.put(cleanups={name: run_id for name, run_id in cleanups.items() if run_id})

    def _save_beside(self, what: str, save: Callable[[], object], advice: str = "") -> None:
        """Saves or deletes what nothing waits for, unless it is that of a newer run or of another process."""
        try:
            with self.turn.lock:
                if not self.turn.is_void:
                    save()
        except Exception as error:  # the storage may be the user's
            self._log_line(f"{what}: {reason_of(error)}.{advice}")

    def _files_from_now(self, watch: FileWatch) -> RunFiles:
        """Returns the files of the run, of which a value is the first one with a path."""
        if self.files is None:
            self.files = RunFiles(SavedFiles(self._journal), watch.limit)
        return self.files

    def close_files(self) -> None:
        """Saves the states of the files that the run has worked on, once nothing runs any more."""
        if self.files is not None:
            self._save_beside(
                "The states of files can't be saved", self.files.close, " A resume judges files as after a kill."
            )

    def close(self) -> None:
        """Releases the lock on the workflow, or logs that it can't be released. May be called again."""
        self.turn.close()

    def save(self, task: Task, context: Context, previous: Context | None = None) -> None:
        """Saves a task's value with a record of its inputs.

        Args:
            task: The task or the item.
            context: The value.
            previous: Its previous context, if the record does not have it yet.

        Raises:
            ValueNotStorable: The storage can't keep such a value.
            StorageError: Saving failed.
        """
        task_id, tokens, is_checkpoint = task.task_id, None, True
        origin, of_value = self._origins[task_id], context._origin
        if self._tokens.has_links:
            tokens, is_checkpoint = self._tokens.of(task, context), task.step.checkpoint
            if not is_checkpoint or self._changes.others:
                run = origin.run if is_checkpoint else self._tokens.stable_run(task)
                origin = Origin(origin.initial, run, self._changes.code_of(task, context), origin.files)
            links = self._tasks[task_id].links  # an item has none
            is_checkpoint = is_checkpoint and not (links is not None and links.always)
        if previous is None:
            previous = task._previous
            if previous is None:
                previous = NOTHING
        files, record = None, None if of_value is NO_ORIGIN else of_value.files
        if record is not None and self.watch is not None and record != NO_FILES:
            files, origin = self._files_from_now(self.watch), origin._replace(files=record)
        context._set_inputs(origin, previous, tokens)
        if not is_checkpoint:
            if files is not None and record is not None:
                files.note(context, record, is_saved=False)
            return
        key = "?"
        with self.turn.lock:
            if self.turn.is_void:
                self.turn.report_void()
                return
            try:
                key = self._storage.key(task) if type(task) is not Item else self._keys.of(task)
                if files is None or record is None:
                    self._storage.post(key, context)
                else:
                    files.note(context, record, is_saved=True)
                    self._storage.post(key, context)
                    files.keep(record)
                self.outdated.discard(key)
            except ValueNotStorable as error:
                raise error.by(task.name) from error.__cause__
            except LeaseLost:  # ends the run, not only this task
                raise
            except Exception as error:  # the storage may be the user's
                what = f"Step '{task.name}' finished, but its value could not be saved as '{key}'"
                raise StorageError(what, reason_of(error)) from error

    def _report_again(self, void: Sequence[tuple[Task, Void]]) -> None:
        """Reports the tasks that run again and why, the items of a map together."""
        reported = [(task, why) for task, why in void if why.cause is not Cause.ASKED_FOR]
        counts = Counter((task.task_id, task.item is not None, why.text) for task, why in reported)
        for (task_id, is_item, reason), count in counts.items():
            noun = "round" if rounds_of(self._tasks[task_id]) else "item"
            items = f" for {count} {noun}{'s' * (count > 1)}" if is_item else ""
            what = "loses its checkpoint" if task_id in self._left_out else "runs again"
            self._log_line(f"Task {task_id} {self._tasks[task_id].name} {what}{items}: {reason}.")

    def restore_items(self, tasks: Sequence[LinkedTask]) -> RestoredItems:
        """Returns what is restored of the items of open maps, and deletes their other checkpoints.

        Args:
            tasks: A mapped task, or those of a workflow for each item, in the order of `add`.

        Raises the errors of `open`.
        """
        try:
            with usable(self._storage), self.turn.lock:
                if self.turn.is_void:  # the items there are those of the newer run
                    return NO_ITEMS
                for task in tasks:
                    self._keys.add_items(task)
            if self._earlier is None:
                return NO_ITEMS
            restored = self._earlier.restore_items(tasks)
            self._void(restored.void)
            if self.files is not None and any(task.task_id not in self.found.whole_maps for task in tasks):
                with usable(self._storage), self.turn.lock:
                    self.files.join()
        except LeaseLost:  # ends the run, not only this task
            raise
        except StorageError as error:
            what = f"The checkpoints of the items of '{tasks[0].name}' can't be used"
            raise StorageError(what, error.reason) from error
        self._report_again(restored.void)
        for note in self._changes.notes([task_id for task_id, values in restored.values.items() if values]):
            self._log_line(note)
        return restored

    def restored_with_other_code(self) -> list[str]:
        """Returns the names of restored tasks whose code has changed since their values were made."""
        return [self._tasks[task_id].name for task_id in sorted(self._changes.restored)]

    def restore_task(self, task: Task) -> Context | None:
        """Returns the context of an undecided task; None if it is void, which deletes its checkpoint.

        Raises the errors of `open`.
        """
        assert self._earlier is not None
        context, why = self._earlier.restore_task(task)
        with self.turn.lock:
            if self.turn.is_void:  # the checkpoint there is that of the newer run
                return None
        if why is not None:
            self._void([(task, why)])
            self._report_again([(task, why)])
        return context

    def _void_all(self) -> None:
        """Voids all checkpoints: those of earlier runs, and those that other runs of this process would still save."""
        with usable(self._storage), self.turn.lock:
            self.turn.void_others()
            if self._storage.clear(self._workflow_id):
                self._journal.begin()
                return
            # From the last: after a crash in between, the rest is the beginning of one run.
            for key in reversed(self._keys.all()):
                self._storage.delete(key)
            self._journal.delete()

    def _void(
        self,
        void: Sequence[tuple[Task, Void]],
        again: Sequence[Task] = (),
        ask: Sequence[Task] = (),
        from_calls: Mapping[int, int] = NO_CALLS,
    ) -> None:
        """Voids checkpoints. What later runs find void, too, is deleted as soon as its task or item begins.

        What only this run says is in the journal before it is deleted, so that a kill in between leaves nothing of it.
        So is all where the storage does not show what a value was made from. Their tasks get new idempotency keys
        before, and those that run *again* without a checkpoint. They ask anew for their approval, and so do those to
        *ask*. Of tasks in *from_calls* the calls from this number on are voided, and new ones get new keys.
        """
        with usable(self._storage), self.turn.lock:
            tasks = [task for task, _ in void]
            edited = {id(task) for task, why in void if why.cause is Cause.CODE}
            takers = (task for task in (*tasks, *again) if _takes_key(self._tasks[task.task_id]))
            # The calls of a durable step count after an edit of it.
            taking = [one for one in takers if id(one) not in edited or not is_durable(self._tasks[one.task_id])]
            new = [self.ids.names_of(task)[-1] for task in taking]
            asking = [task for task in (*tasks, *ask) if _asks(self._tasks[task.task_id], task.item)]
            new += [f"{QUESTION}{self.ids.names_of(task)[-1]}" for task in asking]
            is_blind = self._earlier is not None and self._earlier.saved.lacks_inputs
            now = {
                self._keys.of(task): None
                for task, why in reversed(void)
                if is_blind or why.cause.is_intent or task.task_id in self._left_out
            }
            for task_id, number in from_calls.items():
                from dotflow.resume.calls import AGAIN, list_calls_from  # here: few steps are durable

                task = self._tasks[task_id]
                now.update(dict.fromkeys(list_calls_from(self._storage, self._keys.of(task), number)))
                new.append(f"{AGAIN}{task.key_name}")
            self.outdated.update(self._keys.of(task) for task in tasks)
            left = [key for key in self._journal.fact("void") if key not in now] if self._earlier is not None else []
            if (new or len(now) > 1) and not self.turn.is_void:
                self._journal.void(new, now)
            for key in (*left, *now):
                self._storage.delete(key)
            if left or new or len(now) > 1:
                self._journal.put(void=[])
            self.outdated.difference_update(now)

    def drop(self, task: Task) -> None:
        """Deletes the outdated checkpoint of a task or an item that begins now. Raises StorageError."""
        key = self._keys.of(task)
        if key not in self.outdated:
            return
        try:
            with self.turn.lock:
                if not self.turn.is_void:
                    self._storage.delete(key)
        except LeaseLost:  # ends the run, not only this task
            raise
        except Exception as error:  # the storage may be the user's
            what = f"Step '{task.name}' can't begin, since its old value '{key}' could not be deleted"
            raise StorageError(what, reason_of(error)) from error
        self.outdated.discard(key)

    def drop_skipped(self, task: Task) -> None:
        """Deletes the outdated checkpoint of a task or an item that is skipped, or logs that it can't."""
        if (key := self._keys.of(task)) in self.outdated:
            self._save_beside(f"The old value '{key}' can't be deleted", lambda: self._storage.delete(key))
            self.outdated.discard(key)

    def give_up(self) -> None:
        """Saves nothing more: the values are another process's."""
        self.turn.give_up()


def _takes_key(task: Task) -> bool:
    return task.links is not None and task.links.takes_key


def is_durable(task: Task) -> bool:
    """Returns whether its step keeps its calls, or a fallback does."""
    return any(step.durable for step in task._steps)


def _asks(task: Task, item: int | None = None) -> bool:
    """Returns whether a task asks for an approval, once; or an item of it does, or a round."""
    if task.step.approve is None or task.links is None:
        return False
    return item is None or task.links.nest is not None
