"""Signals on disk: what a teacher showed, kept by (id, view) in checksummed, memory-mapped shards that describe themselves."""

from tutelage.signals.cache.about import PLAIN, About, DamagedCache, KeptLogits, KeptSplit, KeptTap, Precision, read_about, refuse_other
from tutelage.signals.cache.codes import coded, pack
from tutelage.signals.cache.fingerprints import preprocessing_of, weights_of
from tutelage.signals.cache.layout import bytes_a_row, bytes_a_sample
from tutelage.signals.cache.reading import Cache, Split, check_source, note_for
from tutelage.signals.cache.shards import check_shard, file_of, is_there, write_shard
from tutelage.signals.cache.writing import Shard

__all__ = [
    "PLAIN",
    "About",
    "Cache",
    "DamagedCache",
    "KeptLogits",
    "KeptSplit",
    "KeptTap",
    "Precision",
    "Shard",
    "Split",
    "bytes_a_row",
    "bytes_a_sample",
    "check_shard",
    "check_source",
    "coded",
    "file_of",
    "is_there",
    "note_for",
    "pack",
    "preprocessing_of",
    "read_about",
    "refuse_other",
    "weights_of",
    "write_shard",
]
