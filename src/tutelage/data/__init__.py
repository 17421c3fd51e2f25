"""What is studied: sources of samples with stable ids, their augmentation and splits, and the order in which a run meets them."""

from collections.abc import Callable

from tutelage.data.augment import Augmented
from tutelage.data.condensation import SyntheticSet, condensed, representatives
from tutelage.data.digits import digits
from tutelage.data.fashion_mnist import fashion_mnist
from tutelage.data.files import csv, jsonl, parquet
from tutelage.data.folder import folder
from tutelage.data.hub import from_datasets, hf, is_hf
from tutelage.data.joined import Joined
from tutelage.data.order import Order
from tutelage.data.source import Data, Images, Indexed, Source, Table, kind_of
from tutelage.data.split import completed, stratified
from tutelage.data.stdlib_bytes import stdlib_bytes

BUILT_IN: dict[str, Callable[..., Data]] = {"digits": digits, "fashion-mnist": fashion_mnist, "stdlib-bytes": stdlib_bytes}
"""Data sets by name."""

LOCATED: dict[str, Callable[..., Data]] = {"folder": folder, "csv": csv, "jsonl": jsonl, "parquet": parquet, "hf": hf}
"""Kinds of data of the user's own: `kind:PATH`."""

__all__ = [
    "BUILT_IN",
    "LOCATED",
    "Augmented",
    "Data",
    "Images",
    "Indexed",
    "Joined",
    "Order",
    "Source",
    "SyntheticSet",
    "Table",
    "completed",
    "condensed",
    "csv",
    "digits",
    "fashion_mnist",
    "folder",
    "from_datasets",
    "hf",
    "is_hf",
    "jsonl",
    "kind_of",
    "parquet",
    "representatives",
    "stdlib_bytes",
    "stratified",
]
