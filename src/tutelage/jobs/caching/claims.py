"""Who writes which shard, where several processes write one cache: each locks a byte of one file, and the system unlocks those of the dead.

The locks only save work: shards are written beside their place and renamed, and have the same bytes whoever writes them. On a file system
without locks, or a system without `fcntl`, every process writes all that it finds missing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

NAME = ".writing"
LEFT = ".tmp"
"""How the names of files end that a writer has not renamed."""
_TAKEN = (errno.EACCES, errno.EAGAIN)


class Claims:
    """Locks on the parts of a cache.

    Args:
        folder: of the cache.

    Raises:
        OSError: the file of the locks cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / NAME
        self._number = os.open(self.file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)

    def take(self, part: int) -> bool:
        """Claim a part; whether it is ours now. Part 0 is the description, part n + 1 shard n."""
        return self._lock(part, taking=True)

    def give(self, part: int) -> None:
        """Give a part back."""
        self._lock(part, taking=False)

    @contextlib.contextmanager
    def held(self, part: int) -> Iterator[bool]:
        """Claim a part for a while."""
        ours = self.take(part)
        try:
            yield ours
        finally:
            if ours:
                self.give(part)

    def _lock(self, part: int, taking: bool) -> bool:
        try:
            import fcntl
        except ImportError:
            return True
        try:
            fcntl.lockf(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB if taking else fcntl.LOCK_UN, 1, part)
        except OSError as error:
            return error.errno not in _TAKEN
        return True

    def finish(self) -> None:
        """Delete the file of the locks: nothing is left to write, so whoever still holds it open does no harm."""
        self.file.unlink(missing_ok=True)

    def __enter__(self) -> Claims:
        """Nothing is claimed yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give all back."""
        os.close(self._number)


def left_over(folder: Path) -> list[Path]:
    """What writers have left in a folder, or are writing right now."""
    return [file for file in folder.glob(f".*{LEFT}") if file.is_file() or file.is_symlink()] if folder.is_dir() else []
