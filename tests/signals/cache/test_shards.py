"""Shards: what was written comes back, to the bit, or one error says what is wrong with it."""

from __future__ import annotations

import contextlib
import errno
import json
import os

import pytest
import torch

from tutelage.signals.cache import DamagedCache, check_shard, file_of, is_there, write_shard
from tutelage.signals.cache.shards import note_of, open_shard

NOTE = {"cache": "0a1b", "split": "train", "view": -1, "first": 0, "samples": 3}
TENSORS = {"id": torch.tensor([4, 7, -1]), "logits": torch.tensor([[0.5, -1.0], [2.0, 0.0], [1.0, 3.0]])}


@pytest.fixture
def shard(tmp_path):
    path = file_of(tmp_path, "train", -1, 0)
    write_shard(path, TENSORS, NOTE)
    return path


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled as soon as they are written."""
    monkeypatch.setattr("tutelage.signals.cache.shards.SETTLED", -(10**9))


def refused(path, said, note=NOTE):
    with pytest.raises(DamagedCache, match=said):
        check_shard(path, note)


def test_a_shard_comes_back_as_it_was_written(shard):
    check_shard(shard, NOTE)
    read = open_shard(shard)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in TENSORS.items())


def test_the_same_signals_make_the_same_bytes(shard, tmp_path):
    """Two caches of one teacher can be compared file by file."""
    other = file_of(tmp_path / "other", "train", -1, 0)
    write_shard(other, dict(reversed(TENSORS.items())), NOTE)
    assert other.read_bytes() == shard.read_bytes()
    assert note_of(other).read_bytes() == note_of(shard).read_bytes()


def test_names_of_files_tell_views_and_numbers_apart(tmp_path):
    names = {file_of(tmp_path, "train", view, number) for view in (-1, 0, 1, 12_345) for number in (0, 1, 123_456)}
    assert len(names) == 12
    assert file_of(tmp_path, "train", 3, 7) == tmp_path / "train" / "view-0003-00007.safetensors"


def test_any_flipped_bit_is_found(shard):
    """Each byte of header and data, another bit of each."""
    sound = shard.read_bytes()
    for at in range(len(sound)):
        shard.write_bytes(bytes([*sound[:at], sound[at] ^ 1 << at % 8, *sound[at + 1 :]]))
        refused(shard, "a bit of it has changed")


def test_a_shard_cut_anywhere_is_found(shard):
    sound = shard.read_bytes()
    for length in range(len(sound)):
        shard.write_bytes(sound[:length])
        refused(shard, f"has {length} bytes where {len(sound)} were written")
    shard.write_bytes(sound + b"\0")
    refused(shard, "bytes where")


def test_any_flipped_byte_of_a_note_is_found(shard):
    """Or it says the same."""
    sound = note_of(shard).read_bytes()
    for at in range(len(sound)):
        for flip in (1, 16, 128):
            note_of(shard).write_bytes(bytes([*sound[:at], sound[at] ^ flip, *sound[at + 1 :]]))
            try:
                check_shard(shard, NOTE)
            except DamagedCache:
                continue
            assert json.loads(note_of(shard).read_bytes()) == json.loads(sound)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"3", b'"bytes crc32"', b'{"bytes": "1", "crc32": 3}', b'{"bytes": true, "crc32": 3}', b"\xff", b"[" * 60_000],
)
def test_a_note_that_is_none_is_an_error(shard, text):
    note_of(shard).write_bytes(text)
    refused(shard, r"json is damaged$")


def test_a_note_that_would_fill_the_memory_is_not_read(shard):
    with note_of(shard).open("r+b") as file:
        file.truncate(1 << 40)
    refused(shard, "json is damaged")


def test_shard_and_note_must_both_be_there(shard):
    assert is_there(shard)
    kept = note_of(shard).read_bytes()
    note_of(shard).unlink()
    assert not is_there(shard)
    refused(shard, r"\.json is missing")
    note_of(shard).write_bytes(kept)
    shard.unlink()
    assert not is_there(shard)
    refused(shard, r"\.safetensors is missing")
    shard.mkdir()
    refused(shard, r"\.safetensors is missing")


@pytest.mark.parametrize("key", NOTE)
def test_a_shard_of_another_cache_or_place_is_refused_with_both_sides(shard, key):
    """Folders that were mixed, shards that were renamed."""
    refused(shard, f"of another cache: its {key} is {NOTE[key]}, not other", {**NOTE, key: "other"})


def test_bits_are_compared_once_in_a_process(shard, settled, monkeypatch):
    check_shard(shard, NOTE)
    monkeypatch.setattr("tutelage.signals.cache.shards.zlib.crc32", lambda *_: pytest.fail("read again"))
    told = []
    check_shard(shard, NOTE, compared=told.append)
    assert sum(told) == shard.stat().st_size


def test_a_shard_that_changed_since_is_compared_again(shard, settled):
    """Of the same size, and with its time of change put back."""
    check_shard(shard, NOTE)
    stat, sound = shard.stat(), bytearray(shard.read_bytes())
    sound[-1] ^= 1
    shard.write_bytes(sound)
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    refused(shard, "a bit of it has changed")


def test_a_file_that_has_just_changed_is_not_remembered(shard):
    """Times of change are coarse: another change might not show in them."""
    check_shard(shard, NOTE)
    sound = bytearray(shard.read_bytes())
    sound[-1] ^= 1
    shard.write_bytes(sound)
    refused(shard, "a bit of it has changed")


def test_who_waits_is_told_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("tutelage.signals.cache.shards.BLOCK", 1000)
    path = file_of(tmp_path, "train", -1, 0)
    write_shard(path, {"id": torch.arange(1000)}, NOTE)
    told = []
    check_shard(path, NOTE, compared=told.append)
    assert len(told) == -(-path.stat().st_size // 1000)
    assert sum(told) == path.stat().st_size


@pytest.mark.parametrize("when", ["first", "second"])
def test_a_full_disk_leaves_no_shard_and_no_litter(tmp_path, monkeypatch, when):
    """What was there before counts as missing, since part of it may be gone."""
    path = file_of(tmp_path, "train", -1, 0)
    write_shard(path, TENSORS, NOTE)
    real, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if len(calls) == (1 if when == "first" else 2):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr("tutelage.signals.cache.shards.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_shard(path, TENSORS, NOTE)
    assert not is_there(path)
    assert not list(path.parent.glob(".*"))


def test_what_a_killed_writer_left_is_no_shard(tmp_path):
    """The note comes last: a data file without one was not finished, whatever it holds."""
    path = file_of(tmp_path, "train", -1, 0)
    write_shard(path, TENSORS, NOTE)
    note_of(path).rename(path.with_name(f".{note_of(path).name}.123.tmp"))
    assert not is_there(path)
    write_shard(path, TENSORS, NOTE)
    check_shard(path, NOTE)


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(tmp_path):
    """A cache from a stranger must not make a writer overwrite files elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = file_of(tmp_path, "train", -1, 0)
    path.parent.mkdir()
    for name in (path.name, note_of(path).name):
        (path.parent / name).symlink_to(victim)
        (path.parent / f".{name}.{os.getpid()}.tmp").symlink_to(victim)
    write_shard(path, TENSORS, NOTE)
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
    check_shard(path, NOTE)


def test_a_file_that_is_no_safetensors_is_an_error_even_with_the_right_checksum(shard):
    """As a stranger would make it; flips in the header that leave it readable change names, types or places."""
    sound = shard.read_bytes()
    size = int.from_bytes(sound[:8], "little")
    for at in range(8 + size):
        for flip in (1, 4):
            shard.write_bytes(bytes([*sound[:at], sound[at] ^ flip, *sound[at + 1 :]]))
            with contextlib.suppress(DamagedCache):
                assert all(isinstance(tensor, torch.Tensor) for tensor in open_shard(shard).values())
