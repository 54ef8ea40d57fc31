"""The output of a run's attempts in a document, up to 20 MB."""

import codecs
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from dotflow.abc.archive import Archive
from dotflow.records.record import BAD, OutputChunk, OutputKey, RunRecord, RunSummary

MAX_OUTPUT: Final = 20_000_000  # bytes in one document
MAX_ATTEMPTS: Final = 10_000  # with output in a document that can't have all of it


def output_members(archive: Archive, run: RunRecord) -> dict[str, Any]:
    """Returns the members of a document about the output.

    If there is too much, failed attempts have theirs first, and of the others the beginnings are left out.
    """
    sizes = archive.output_sizes(run.run_id)
    shares = sizes if sum(sizes.values()) <= MAX_OUTPUT else share_out(run, sizes)
    chunks = archive.output(run.run_id) if shares is sizes else archive.output_tails(run.run_id, shares)
    return {"output": output_objects(run, chunks, sizes), "output_left_out": left_out(sizes, shares)}


def left_out(sizes: Mapping[OutputKey, int], shares: Collection[OutputKey]) -> dict[str, int]:
    """Returns the number of attempts whose output is not in the document, and the bytes of it."""
    others = [size for key, size in sizes.items() if key not in shares]
    return {"attempts": len(others), "size": sum(others)}


def share_out(run: RunRecord, sizes: Mapping[OutputKey, int], limit: int = MAX_OUTPUT) -> dict[OutputKey, int]:
    """Returns the attempts whose output is in a document with a limit, and the number of bytes of each."""
    failed = {
        OutputKey(task.task_id, attempt.item, attempt.attempt)
        for task in run.steps
        for attempt in task.all_attempts
        if attempt.state in BAD
    }
    chosen = sorted(sizes, key=lambda key: key not in failed)[:MAX_ATTEMPTS]
    shares: dict[OutputKey, int] = {}
    for group in (failed.intersection(chosen), set(chosen) - failed):
        # The smallest first: what they don't need is for the others.
        for index, key in enumerate(sorted(group, key=lambda key: (sizes[key], _order(key)))):
            shares[key] = min(sizes[key], limit // (len(group) - index))
            limit -= shares[key]
    return shares


def output_objects(
    run: RunSummary, chunks: Iterable[OutputChunk], sizes: Mapping[OutputKey, int] | None = None
) -> list[dict[str, Any]]:
    """Returns the output of each attempt, by task, item and attempt, with its bytes as text.

    Args:
        run: The run. A part was written so many seconds after its beginning.
        chunks: The output, in the order of each attempt.
        sizes: The bytes of the whole output of each attempt; by default those of the chunks.
    """
    attempts: dict[OutputKey, list[OutputChunk]] = defaultdict(list)
    for chunk in chunks:
        attempts[chunk.key].append(chunk)
    entries = []
    for key in sorted(attempts, key=_order):
        parts = attempts[key]
        there = sum(len(chunk.data) for chunk in parts if chunk.stream)
        size = there if sizes is None else sizes.get(key, there)
        entries.append(key._asdict() | {"size": size, "left_out": size - there, "parts": _parts(run, parts)})
    return entries


def _order(key: OutputKey) -> tuple[int, int, int]:
    return key.task_id, -1 if key.item is None else key.item, key.attempt


def _parts(run: RunSummary, chunks: list[OutputChunk]) -> list[dict[str, Any]]:
    """Returns the parts of an output. The bytes of a character may be in two chunks of a stream."""
    decoders: dict[int, codecs.IncrementalDecoder] = {}
    last = {chunk.stream: chunk for chunk in chunks}
    parts = []
    for chunk in chunks:
        decoder = decoders.setdefault(chunk.stream, codecs.getincrementaldecoder("utf-8")("backslashreplace"))
        text = decoder.decode(chunk.data, final=chunk is last[chunk.stream])
        at = round((chunk.at - run.began).total_seconds(), 3)
        parts.append({"seq": chunk.seq, "stream": chunk.stream, "at": at, "text": text, "skipped": chunk.skipped})
    return parts
