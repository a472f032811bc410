"""One writer at a time: a lock file that dies with its process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path

from .episode import StoreError


class WriterLock:
    """An exclusive lock held through `path` from construction until `release`.

    The operating system drops the lock when its process ends, however it ends, so the lock of a dead process on this
    host is simply taken over. A lock file left by another host cannot be judged from here and is refused.

    Raises StoreError if another writer holds the lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        while True:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = self._owner()
                os.close(self._file)
                raise StoreError(
                    f"{path}: found a writer at work (process {owner.get('pid')} on {owner.get('host')}), wanted none; "
                    "wait for it, or write into a store of your own and merge the two"
                ) from None
            if self._is_current():
                break
            os.close(self._file)  # the previous holder removed the file between our open and our lock
        owner = self._owner()
        if owner.get("host", socket.gethostname()) != socket.gethostname():
            os.close(self._file)
            raise StoreError(
                f"{path}: found the lock of process {owner.get('pid')} on another host, {owner['host']}; "
                "if that process is dead, delete this file and try again"
            )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)

    def release(self) -> None:
        self._path.unlink(missing_ok=True)  # while locked, so that nobody can lock the file that is going away
        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)

    def _is_current(self) -> bool:
        try:
            return os.stat(self._path).st_ino == os.fstat(self._file).st_ino
        except FileNotFoundError:
            return False

    def _owner(self) -> dict:
        try:
            owner = json.loads(os.pread(self._file, 4096, 0))
        except ValueError:  # empty: just created, or its writer died before it had written its name
            return {}
        return owner if isinstance(owner, dict) else {}
