"""Cache of scores by their content, so that no pair is scored twice by the same weights.

One SQLite file for each way of scoring (weights, tokenizer, budgets, precision, library), with one row for
each pair of texts. Several processes may read and write at once; a killed process loses only its uncommitted
block.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import struct
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..configs.paths import cache_folder

log = logging.getLogger(__name__)
SCORING_VERSION = 1  # raised when Uprank gives other scores for the same weights
WAIT = 60.0  # seconds to wait for another process's commit
_SCORE = struct.Struct("<f?")  # the float32, and whether the pair was cut
_CHECKSUM = struct.Struct("<I")
_TABLE = """CREATE TABLE IF NOT EXISTS scores
    (query BLOB, passage BLOB, value BLOB, PRIMARY KEY (query, passage)) WITHOUT ROWID"""
_Outcome = TypeVar("_Outcome")


class ScoreCache:
    """Scores of pairs by one way of scoring.

    A problem with the file costs a warning and the time to score again, never the evaluation: a damaged file
    is set aside and a new one begun; if nothing can be written, nothing is kept. SQLite's pages have no
    checksum, so each row has one.

    Args:
        file: the database; created with its folder if missing.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._given_up = self._damaged = False
        self._try(lambda connection: None)

    @classmethod
    def of(cls, identity: Mapping[str, object]) -> ScoreCache:
        """Open the cache of one way of scoring.

        Args:
            identity: everything that decides a score besides the two texts.
        """
        text = json.dumps({**identity, "scoring": SCORING_VERSION}, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        return cls(cache_folder() / "scores" / f"{name}.sqlite")

    def read(self, pairs: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Look up N pairs; fastest when the pairs of a query are consecutive.

        Returns:
            scores (N,) float32, whether cut (N,) bool, and whether found (N,) bool; 0 if not found.
        """
        outcome = self._try(lambda connection: _read(connection, pairs))
        return outcome or (np.zeros(len(pairs), np.float32), *np.zeros((2, len(pairs)), dtype=bool))

    def write(self, pairs: Sequence[tuple[str, str]], scores: np.ndarray, cut: np.ndarray) -> None:
        """Keep N scores in one commit; NaN and infinite scores are never kept.

        Args:
            pairs: the texts.
            scores: shape (N,), float32.
            cut: whether each pair was cut to the token budget, shape (N,), bool.
        """
        rows = []
        for i in np.flatnonzero(np.isfinite(scores)).tolist():
            query, passage = map(_digest, pairs[i])
            value = _SCORE.pack(scores[i], cut[i])
            rows.append((query, passage, value + _CHECKSUM.pack(zlib.crc32(query + passage + value))))
        self._try(lambda connection: _write(connection, rows))

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try(self, work: Callable[[sqlite3.Connection], _Outcome]) -> _Outcome | None:
        """Return the outcome of work on the database; None once the cache is given up."""
        while not self._given_up:
            try:
                return work(self._connection or self._open())
            except (OSError, sqlite3.OperationalError) as error:  # no space, no permission, locked…
                self._give_up(f"cannot be used ({error})")
            except sqlite3.DatabaseError as error:
                self._set_aside(error)
        return None

    def _open(self) -> sqlite3.Connection:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self.file, timeout=WAIT)
        self._inode = self.file.stat().st_ino
        self._connection.execute(_TABLE)
        return self._connection

    def _give_up(self, why: str) -> None:
        self.close()
        self._given_up = True
        log.warning("score cache %s %s: scores are not kept", self.file, why)

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Rename the damaged file, unless another process already did."""
        self.close()
        if self._damaged:
            self._give_up(f"is damaged again ({error})")
            return
        self._damaged = True
        aside = self.file.with_name(f"{self.file.stem}.damaged-{time.time_ns()}")
        try:
            if self.file.exists() and self.file.stat().st_ino == self._inode:
                for ending in (
                    "-journal",
                    "-wal",
                    "-shm",
                    "",
                ):  # a log left behind would be replayed
                    if (part := Path(f"{self.file}{ending}")).exists():
                        part.replace(f"{aside}{ending}")
            log.warning("score cache %s is damaged (%s): set aside as %s", self.file, error, aside.name)
        except OSError as problem:
            self._give_up(f"is damaged and cannot be set aside ({problem})")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _write(connection: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes, bytes]]) -> None:
    with connection:  # one transaction
        connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)


def _read(
    connection: sqlite3.Connection, pairs: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read in one transaction, one query text at a time."""
    scores, (cut, found) = np.zeros(len(pairs), np.float32), np.zeros((2, len(pairs)), dtype=bool)
    before, key, rows = None, b"", {}
    with connection:
        connection.execute("BEGIN")
        for place, (query, passage) in enumerate(pairs):
            if query != before:
                before, key = query, _digest(query)
                rows = dict(connection.execute("SELECT passage, value FROM scores WHERE query = ?", (key,)))
            if rows and (value := rows.get(passage_key := _digest(passage))) is not None:
                if not isinstance(value, bytes):  # damage can change the type
                    raise sqlite3.DatabaseError("a row of another form")
                content, checksum = value[: _SCORE.size], value[_SCORE.size :]
                if checksum != _CHECKSUM.pack(zlib.crc32(key + passage_key + content)):
                    raise sqlite3.DatabaseError("a row with a wrong checksum")
                scores[place], cut[place] = _SCORE.unpack(content)
                found[place] = True
    return scores, cut, found
