"""A connection to the SQLite file, used by one thread for as long as the file at its path is the one it has open."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from autopilot.errors import StoreUnavailable
from autopilot.private_files import close_to_others, prepare_folder
from autopilot.storage.sqlite.schema import check_ownership, migrate

T = TypeVar("T")

_OPENING_LOCK_SECONDS = 0.05
"""How long each statement of an opening waits for a lock, before the whole of it is tried again."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_REASONS = {
    sqlite3.SQLITE_BUSY: "it is locked by another process",
    sqlite3.SQLITE_LOCKED: "it is locked by another connection",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
}

log = structlog.get_logger(__name__)

Identity = tuple[int, int] | None
"""Device and inode of a file; None: there is none, or it cannot be looked at."""


class FileReplaced(Exception):
    """The file at the path, or one that SQLite keeps beside it, is no longer the one that is open."""


class CommitUncertain(Exception):
    """A commit may have been made or not, or may be lost."""


class CallDropped(Exception):
    """Nobody wants the change any more; it was not committed."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Parameters for opening the database."""

    store: str
    """Its name in errors."""
    path: str
    on_open: Callable[[sqlite3.Connection], None]

    def connect(self) -> "Connection":
        """An open connection to a database that is ours and up to date.

        Raises:
            sqlite3.Error: for one with :func:`is_busy`, try again: two processes that create a file at once collide
                in ways that SQLite's own waiting for locks does not cover, the switch to WAL among them.
        """
        path = None if self.path == ":memory:" else Path(self.path).absolute()
        before = None if path is None else _made(path)
        raw = sqlite3.connect(path or self.path, isolation_level=None, timeout=_OPENING_LOCK_SECONDS)
        try:
            check_ownership(raw, self.store)  # before the first write, which the switch to WAL is
            raw.execute("PRAGMA journal_mode = WAL")
            raw.execute("PRAGMA synchronous = FULL")
            migrate(raw, self.store)
            self.on_open(raw)
            raw.execute("PRAGMA busy_timeout = 0")  # the thread waits, so that it can do other things meanwhile
            connection = Connection(raw, path)
            if connection.identity != before:
                raise FileReplaced(str(path))
        except BaseException:
            raw.close()
            raise
        return connection

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """The one seam where the errors of SQLite and of the file system become Autopilot's."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnavailable(self.store, doing, _reason_of(error)) from error
        except FileReplaced as error:
            log.warning("store_replaced", path=str(error))
            reason = "the file was removed or replaced while it was open; nothing was changed"
            raise StoreUnavailable(self.store, doing, reason) from error
        except CommitUncertain as error:
            raise StoreUnavailable(self.store, doing, f"{error}; whether it was done is unknown") from error
        except CallDropped as error:
            raise StoreUnavailable(self.store, doing, "given up before its commit; nothing was changed") from error
        except OSError as error:
            raise StoreUnavailable(self.store, doing, f"{error.strerror}: {error.filename}") from error


class Connection:
    """An open connection that never waits for a lock: a call that meets one raises SQLite's error.

    Every call looks whether the files it has open are still those at their paths: the database, and the write-ahead log
    and the shared memory that SQLite keeps beside it. A commit into a file that nobody can open again would be lost
    without a sound::

        BEGIN IMMEDIATE ── look ── change ── COMMIT ── look ── answer
                            │                           │
                            nothing was changed         may be lost: unknown

    So a commit is acknowledged only if the file was in place after it. A file that goes away later takes acknowledged
    commits with it, which no database can help. Files are told apart by device and inode: a file that was moved away and
    back is the same one, and contents that are overwritten in place (``cp other.db runs.db``) are not noticed here.
    """

    def __init__(self, raw: sqlite3.Connection, path: Path | None) -> None:
        self._raw = raw
        self._path = path
        self._files: list[tuple[Path, Identity]] = []
        if path is not None:
            _, _, name = raw.execute("PRAGMA database_list").fetchone()  # links resolved, as for the files beside it
            files = (path, Path(f"{name}-wal"), Path(f"{name}-shm"))
            self._files = [(file, _identity_of(file)) for file in files]

    @property
    def identity(self) -> Identity:
        """Of the file at the path, as it was right after opening it; None: a database in memory."""
        return self._files[0][1] if self._files else None

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of ``query``, without a transaction around it.

        Raises:
            FileReplaced: the file is gone.
        """
        self._check_files()
        return query(self._raw)

    def write(self, change: Callable[[sqlite3.Connection], T], is_wanted: Callable[[], bool]) -> T:
        """Return the result of ``change``, in one transaction that holds the write lock from its beginning.

        Args:
            is_wanted: asked just before the commit.

        Raises:
            FileReplaced, CallDropped: nothing was changed.
            CommitUncertain: the disk failed, or the file went away, during the commit.
        """
        # IMMEDIATE: a transaction that reads first and asks for the write lock later fails when another process has
        # written in between.
        self._raw.execute("BEGIN IMMEDIATE")
        try:
            self._check_files()
            answer = change(self._raw)
            if not is_wanted():
                raise CallDropped
            self._commit()
        finally:
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")
        return answer

    def close(self) -> None:
        """Close the connection.

        The log of a database that was moved away or replaced is written into that database first, and removed with the
        shared memory: SQLite would take them for those of the database that is at the path now, and damage it.
        """
        stale = [] if self._path is None or _identity_of(self._path) == self.identity else self._own_files_beside()
        if stale:
            with suppress(
                sqlite3.Error
            ):  # it may be beyond that; the database that is there now must not suffer for it
                self._raw.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._raw.close()
        for file in stale:
            with suppress(OSError):  # whoever opens the database meets the same reason
                file.unlink(missing_ok=True)

    def _own_files_beside(self) -> list[Path]:
        return [file for file, identity in self._files[1:] if identity is not None and _identity_of(file) == identity]

    def _commit(self) -> None:
        try:
            self._raw.execute("COMMIT")
        except sqlite3.Error as error:
            if _primary_code(error) == sqlite3.SQLITE_IOERR:
                raise CommitUncertain(_reason_of(error)) from error
            raise
        if self._is_replaced():
            log.warning("store_replaced", path=str(self._path))
            raise CommitUncertain("the file was removed or replaced during the commit")

    def _check_files(self) -> None:
        if self._is_replaced():
            raise FileReplaced(str(self._path))

    def _is_replaced(self) -> bool:
        return any(identity is not None and _identity_of(file) != identity for file, identity in self._files)


def _made(path: Path) -> Identity:
    """Make the file and its folder if they are missing, for their owner alone, and return its identity."""
    prepare_folder(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    is_new = not path.exists()
    # By SQLite: if any other code of this process closed the file, the operating system would drop the locks of every
    # connection to it.
    sqlite3.connect(path).close()
    close_to_others(path, is_new=is_new)  # empty so far; SQLite gives its other files the same mode
    return _identity_of(path)


def is_busy(error: BaseException | None) -> bool:
    """Whether SQLite met a lock: the same call can succeed a moment later."""
    return isinstance(error, sqlite3.Error) and _primary_code(error) in _BUSY


def is_broken(error: BaseException | None) -> bool:
    """Whether the connection is to be closed after an error. The file may be repaired: the next call opens it again."""
    return isinstance(error, sqlite3.Error | FileReplaced | CommitUncertain) and not is_busy(error)


def _identity_of(file: Path) -> Identity:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _reason_of(error: sqlite3.Error) -> str:
    reason = _REASONS.get(_primary_code(error))
    return str(error) if reason is None else f"{reason} ({error})"


def _primary_code(error: sqlite3.Error) -> int:
    # Absent from errors of the Python module itself.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
