"""Scores kept under the content they came from, so that no pair is scored twice by the same weights.

One SQLite file for each way of scoring (weights, tokenizer, budgets, precision, library); in it
one row for each pair of texts. Write-ahead logging lets several processes read and write at once,
and a killed process loses only what it had not committed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.paths import cache_folder

log = logging.getLogger(__name__)
SCORING_VERSION = 1  # raised when Uprank gives other scores for the same weights
WAIT = 60.0  # seconds that a process waits for another one's commit
PAUSE = 0.02  # seconds between two attempts where SQLite does not wait by itself
_BUSY = 5  # SQLITE_BUSY, which Python names only from 3.11 on
_VALUE = struct.Struct("<f?I")  # the float32, whether the pair was cut, and a checksum of the row
_TABLE = """CREATE TABLE IF NOT EXISTS scores
    (query BLOB, passage BLOB, value BLOB, PRIMARY KEY (query, passage)) WITHOUT ROWID"""


class _Damaged(Exception):
    """The database says what no process wrote."""


class ScoreCache:
    """Scores of pairs by one way of scoring.

    Whatever goes wrong with the file costs a warning and the time to score again, never the
    evaluation: a damaged file is renamed and a new one begun; where nothing can be written,
    nothing is kept. Each row carries a checksum, which SQLite's pages do not.

    Args:
        file: the database; made with its folder when it is not there.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._given_up = False
        self._set_aside = False
        self._safely(lambda connection: None)

    @classmethod
    def of(cls, identity: Mapping[str, object]) -> ScoreCache:
        """The cache of one way of scoring.

        Args:
            identity: everything that decides a score besides the two texts.
        """
        text = json.dumps({**identity, "scoring": SCORING_VERSION}, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        return cls(cache_folder() / "scores" / f"{name}.sqlite")

    def read(self, pairs: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is known of N pairs; fastest when the pairs of a query stand together.

        Returns:
            scores (N,) float32, whether cut (N,) bool, and whether found (N,) bool; 0 where not found.
        """
        found = self._safely(lambda connection: _read(connection, pairs))
        if found is None:
            nothing = np.zeros(len(pairs), dtype=bool)
            return np.zeros(len(pairs), dtype=np.float32), nothing, nothing.copy()
        return found

    def write(self, pairs: Sequence[tuple[str, str]], scores: np.ndarray, cut: np.ndarray) -> None:
        """Keep N scores in one commit; what is NaN or infinite is never kept.

        Args:
            pairs: the texts.
            scores: shape (N,), float32.
            cut: whether each pair was cut to the token budget, shape (N,), bool.
        """
        if self._connection is not None:
            kept = np.flatnonzero(np.isfinite(scores)).tolist()
            rows = [_row(*pairs[i], float(scores[i]), bool(cut[i])) for i in kept]
            self._safely(lambda connection: _write(connection, rows))

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _safely(self, work: Any) -> Any:
        """Do the work on the database; None when that is not possible, now or any more."""
        until = time.monotonic() + WAIT
        while not self._given_up:
            try:
                if self._connection is None:
                    self._open()
                return work(self._connection)
            except (OSError, sqlite3.OperationalError) as error:  # no space, no permission, not a folder…
                if _is_busy(error) and time.monotonic() < until:
                    time.sleep(PAUSE)
                else:
                    self._give_up(f"cannot be used ({error})")
            except (sqlite3.DatabaseError, _Damaged) as error:
                if not self._set_aside:
                    self._set_aside = True
                    return self._start_anew(error, work)
                self._give_up(f"is damaged again ({error})")
        return None

    def _open(self) -> None:
        """Connect and make the table; of processes that start together all but one may be told to wait."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.file, timeout=WAIT, isolation_level=None)
        try:
            self._inode = self.file.stat().st_ino
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last commits
            connection.execute(_TABLE)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _give_up(self, why: str) -> None:
        self.close()
        self._given_up = True
        log.warning("score cache %s %s: scores are not kept", self.file, why)

    def _start_anew(self, error: Exception, work: Any) -> Any:
        """Rename the damaged file, unless another process already has, and go on with a new one."""
        self.close()
        aside = self.file.with_name(f"{self.file.stem}.damaged-{time.time_ns()}")
        try:
            if self.file.exists() and self.file.stat().st_ino == self._inode:
                for ending in ("-wal", "-shm", ""):  # a log left behind would be read into the new file
                    part = Path(f"{self.file}{ending}")
                    if part.exists():
                        part.replace(f"{aside}{ending}")
            log.warning("score cache %s is damaged (%s): set aside as %s", self.file, error, aside.name)
        except OSError as problem:
            self._give_up(f"is damaged and cannot be set aside ({problem})")
            return None
        return self._safely(work)


def _is_busy(error: Exception) -> bool:
    """Whether another process holds the file; changing the journal of a new one does not wait by itself."""
    code = getattr(error, "sqlite_errorcode", _BUSY if "is locked" in str(error) else 0)
    return code & 0xFF == _BUSY


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _row(query: str, passage: str, score: float, cut: bool) -> tuple[bytes, bytes, bytes]:
    key = _digest(query), _digest(passage)
    return *key, _VALUE.pack(score, cut, _checksum(*key, score, cut))


def _checksum(query: bytes, passage: bytes, score: float, cut: bool) -> int:
    return zlib.crc32(query + passage + struct.pack("<f?", score, cut))


def _write(connection: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes, bytes]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has already rolled it back
            connection.execute("ROLLBACK")
        raise


def _read(
    connection: sqlite3.Connection, pairs: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = np.zeros(len(pairs), dtype=np.float32)
    cut, found = np.zeros(len(pairs), dtype=bool), np.zeros(len(pairs), dtype=bool)
    before, key, rows = None, b"", {}
    for place, (query, passage) in enumerate(pairs):
        if query != before:
            before, key = query, _digest(query)
            rows = dict(connection.execute("SELECT passage, value FROM scores WHERE query = ?", (key,)))
        if not rows:
            continue
        passage_key = _digest(passage)
        value = rows.get(passage_key)
        if value is not None:
            scores[place], cut[place] = _checked(key, passage_key, value)
            found[place] = True
    return scores, cut, found


def _checked(query: bytes, passage: bytes, value: bytes) -> tuple[float, bool]:
    """The score and whether the pair was cut, if the row is what was written."""
    if not isinstance(value, bytes) or len(value) != _VALUE.size:
        raise _Damaged("a row of another form")
    score, cut, checksum = _VALUE.unpack(value)
    if checksum != _checksum(query, passage, score, cut):
        raise _Damaged("a row with a wrong checksum")
    return score, cut
