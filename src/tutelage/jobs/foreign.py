"""What may come from strangers is looked at before it is used: settings that grow when they are read, folders with links that lead out.

Imports nothing heavy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from tutelage.errors import BadInput

MOST = 100_000
"""Values in a text of settings, each counted wherever an alias repeats it."""


def read_yaml(text: str, name: str) -> Any:
    """Read plain values from YAML, but not from one that is small as it stands and endless when its aliases are written out.

    Args:
        text: of a file, or of an option.
        name: how messages call it.

    Raises:
        BadInput: more than 100,000 values.
        YAMLError: no YAML, or tags that name code.
        RecursionError: nested too deep.
    """
    refuse_growth(text, name)
    return yaml.safe_load(text)  # not libyaml's loader: it overruns the stack on deep nesting


def refuse_growth(text: str, name: str) -> None:
    """Refuse lists of aliases of lists of aliases, or of themselves; see `read_yaml`."""
    left, count = [yaml.compose(text, Loader=yaml.SafeLoader)], 0  # here an alias is still the node that it repeats
    while left:
        node = left.pop()
        count += 1
        if isinstance(node, yaml.MappingNode):
            left += [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
        if count + len(left) > MOST:
            raise BadInput(f"{name} holds more than {MOST:,} values when its aliases are written out; expected a mapping of options")


def refuse_links_out(folder: Path) -> None:
    """Refuse a folder that holds a link to a place outside of it: what is written into the folder would be written there.

    Args:
        folder: of a run; it may be reached through a link itself.

    Raises:
        BadInput: names the first such link.
    """
    root, left = folder.resolve(), [folder]
    while left:
        for entry in sorted(os.scandir(left.pop()), key=lambda e: e.name):
            if entry.is_symlink():
                refuse_link_out(Path(entry.path), root)
            elif entry.is_dir(follow_symlinks=False):
                left.append(Path(entry.path))


def refuse_link_out(file: Path, root: Path) -> None:
    """Refuse a path that leads out of a folder by links; whether it exists does not matter.

    Args:
        file: below the folder.
        root: the folder.

    Raises:
        BadInput: names the path.
    """
    try:
        inside = file.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        inside = False
    if not inside:
        raise BadInput(f"{file} is a link that leads out of the run folder {root}; replace it by what it stands for, or delete it")
