"""Runs blocks of draws in several processes, and continues where an interrupted run was."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from cqox_assets.coverage.simulation import Block, Record, run_block

Records = dict[tuple[str, str, int], Record]


@cache
def code_digest() -> str:
    """Return a hash of the package's source: draws of other code are never added to those of this one."""
    root = Path(__file__).resolve().parent.parent
    parts = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        parts.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return parts.hexdigest()[:16]


class Journal:
    """Finished blocks in a file of JSON lines, so that an interrupted run continues where it was.

    Parameters
    ----------
    path : Path, optional
        Nothing is kept without one.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._done: dict[tuple[Any, ...], dict[str, Record]] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            return  # the line that was being written when the run was interrupted
        if row["code"] == code_digest():
            records = {name: Record.from_json(record) for name, record in row["records"].items()}
            self._done.setdefault(tuple(row["block"]), {}).update(records)

    def known(self, block: Block) -> dict[str, Record]:
        """Return the records of a block that are there already."""
        done = self._done.get(block.key, {})
        return {name: done[name] for name in block.names if name in done}

    def add(self, block: Block, records: Mapping[str, Record]) -> None:
        """Keep a finished block."""
        self._done.setdefault(block.key, {}).update(records)
        if self.path is not None:
            row = {"code": code_digest(), "block": block.key, "records": {n: r.to_json() for n, r in records.items()}}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")


def run_blocks(
    work: Iterable[Block], journal: Journal, workers: int = 1, tell: Callable[[str], None] | None = None
) -> Records:
    """Run blocks that the journal does not know yet, in `workers` processes, and return the records of all.

    `tell` hears of every finished block.

    Returns
    -------
    dict
        (estimator, design, rows) to the record of all its draws.
    """
    records: Records = {}
    todo = []
    for block in work:
        known = journal.known(block)
        _collect(records, block, known)
        left = tuple(name for name in block.names if name not in known)
        if left:
            todo.append(replace(block, names=left))
    for done, (block, found) in enumerate(_finished(todo, workers), start=1):
        journal.add(block, found)
        if tell is not None:
            tell(
                f"{done} of {len(todo)} blocks: {block.design}, draws {block.first} to {block.first + block.count - 1}"
            )
        _collect(records, block, found)
    return records


def _collect(records: Records, block: Block, found: Mapping[str, Record]) -> None:
    for name, record in found.items():
        key = (name, block.design, block.rows)
        records[key] = records.get(key, Record()).plus(record)


def _finished(todo: Sequence[Block], workers: int) -> Iterator[tuple[Block, dict[str, Record]]]:
    if workers < 2:
        yield from ((block, run_block(block)) for block in todo)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    # A forked process would inherit the threads of BLAS in an undefined state.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run_block, block): block for block in todo}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def merged(first: Records, second: Records) -> Records:
    """Return the records of both."""
    return {key: first.get(key, Record()).plus(second.get(key, Record())) for key in {**first, **second}}
