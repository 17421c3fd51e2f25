"""Where tuning keeps its attempts: Optuna's journal in the comparison's folder, or a database that several machines share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tutelage.errors import BadInput, in_short
from tutelage.extras import needed
from tutelage.jobs.environment import HIDDEN

JOURNAL = "optuna.journal"


def check(storage: str | None) -> None:
    """Refuse a storage that cannot be opened, and tuning without Optuna.

    Raises:
        BadInput: says which.
    """
    needed("optuna", "tune", "tuning")
    if storage is not None:
        opened(storage, Path())


def hidden(storage: str) -> str:
    """The address of a storage as it may be shown: without who logs in, with what password, and how."""
    return re.sub(r"\?.*", f"?{HIDDEN}", re.sub(r"(?<=://).*@", f"{HIDDEN}@", storage, flags=re.DOTALL), flags=re.DOTALL)


def opened(storage: str | None, folder: Path) -> Any:
    """Open what attempts are kept in: a journal in the folder, or a database that machines share.

    Raises:
        BadInput: it cannot be opened; its password is not said.
    """
    needed("optuna", "tune", "tuning")
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if storage is None:
            return optuna.storages.JournalStorage(JournalFileBackend(str((folder / JOURNAL).resolve())))
        return optuna.storages.RDBStorage(storage)
    except Exception as error:
        raise unusable(storage, folder, error) from None


def unusable(storage: str | None, folder: Path, error: Exception) -> BadInput:
    """The error where a storage cannot be opened or read; its password is not said."""
    name = type(error).__name__
    if storage is None:
        return BadInput(f"{folder / JOURNAL} is damaged ({name}); delete it, and tuning begins anew")
    said = "" if "@" in storage or "?" in storage else f": {in_short(error)}"
    return BadInput(
        f"storage {hidden(storage)} cannot be opened ({name}){said}; expected a database's address, such as sqlite:///tuning.db"
    )
