"""Reading a cache: any batch of (id, view) gives what a plain dict would; what it cannot give is one error, never another sample's numbers.

Shapes: B batch, N samples, T positions, V classes, D width.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_folders import TEACHER, about_of, dense, write
from tutelage.errors import BadInput, Mismatch
from tutelage.signals.cache import PLAIN, Cache, DamagedCache, KeptLogits, KeptSplit, KeptTap, check_source, file_of, note_for, write_shard
from tutelage.signals.cache.codes import pack, unpack
from tutelage.signals.cache.shards import note_of, open_shard
from tutelage.signals.sparse import SparseLogits, sampled, top_k

V = 5
EXTREME = [-(2**63), -7, -1, 0, 1, 2, 2**31, 2**62, 2**63 - 1]


def same(read, wanted) -> bool:
    return read.dtype == wanted.dtype and read.shape == wanted.shape and torch.equal(read, wanted)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_batch_reads_what_a_dict_holds(tmp_path_factory, data):
    """Whatever the ids, their order, the views, the shards and the types: the one thing that must never fail."""
    samples = data.draw(st.integers(1, 9))
    views, per_shard = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 10))
    ids = data.draw(st.one_of(st.permutations(EXTREME).map(lambda p: p[:samples]), st.just(list(range(samples)))))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))
    made = torch.Generator().manual_seed(0)
    kept = KeptSplit(samples, per_shard, "d", KeptLogits("dense", V, V), {"a": KeptTap("a", (2, 3)), "b": KeptTap("b", ())}, views)
    shapes = {"logits": (V,), "a": (2, 3), "b": ()}
    shown = {
        view: {name: torch.randn(samples, *shape, generator=made).to(dtype) for name, shape in shapes.items()}
        for view in range(PLAIN, views)
    }
    held = {(i, view): {name: signal[at] for name, signal in shown[view].items()} for at, i in enumerate(ids) for view in shown}
    folder = tmp_path_factory.mktemp("cache")
    split = write(folder, kept, torch.tensor(ids), shown).split("train")
    shutil.rmtree(folder)  # what is open stays readable
    for _ in range(5):
        batch = data.draw(st.lists(st.sampled_from(sorted(held)), min_size=1, max_size=12))
        read = split.read(torch.tensor([i for i, _ in batch]), torch.tensor([view for _, view in batch]), taps=["b", "a"])
        assert all(same(read[name], torch.stack([held[key][name] for key in batch])) for name in shapes)


FORMS = [
    KeptLogits("dense", V, V, 1.0, "float16"),
    KeptLogits("dense", V, V, 1.0, "bfloat16"),
    *(KeptLogits(form, V, k, 3.0, precision) for form in ("top-k", "sampled") for k in (2, V) for precision in ("full", "8-bit")),
    KeptLogits("top-k", 300, 3, 1.0, "8-bit"),
    KeptLogits("top-k", 70_000, 3, 1.0, "8-bit"),
    KeptLogits("sampled", 70_000, 3, 1.0, "float16"),
]


def expected(logits, kept: KeptLogits, uniforms):
    """The same without shards: coded and decoded in memory, all samples at once."""
    if kept.form == "dense":
        return logits if kept.precision == "full" else logits.to(getattr(torch, kept.precision)).float()
    of = top_k(logits, kept.kept, kept.temperature)
    if kept.form == "sampled":
        of = sampled(logits, kept.kept, uniforms, kept.temperature)
    return unpack(pack(of, kept.precision), kept, "bucket")


@pytest.mark.parametrize("per_shard", [2, 100])
@pytest.mark.parametrize("logits", FORMS, ids=lambda kept: f"{kept.said}-of-{kept.classes}-{kept.precision}")
def test_each_form_of_logits_reads_the_same_from_one_shard_and_from_many(logits, per_shard, tmp_path, rng):
    values, uniforms = torch.randn(7, logits.classes, generator=rng), torch.rand(7, generator=rng)
    kept = KeptSplit(7, per_shard, "d", logits)
    split = write(tmp_path, kept, torch.arange(7) * 5, {PLAIN: {"logits": values}}, uniforms=uniforms).split("train")
    rows = torch.tensor([6, 0, 3, 3, 5])
    read, wanted = split.read(rows * 5)["logits"], expected(values[rows], logits, uniforms[rows])
    if isinstance(wanted, SparseLogits):
        assert (read.form, read.classes, read.temperature, read.tail) == (logits.form, logits.classes, logits.temperature, "bucket")
        assert torch.equal(read.ids, wanted.ids)
        assert torch.allclose(read.log_probs, wanted.log_probs, atol=1e-6)
        assert torch.equal(read.rest, wanted.rest)
    else:
        assert same(read, wanted)


def test_the_tail_is_the_readers_choice(tmp_path, rng):
    kept = KeptSplit(3, 2, "d", KeptLogits("top-k", V, 2))
    split = write(tmp_path, kept, torch.arange(3), {PLAIN: {"logits": torch.randn(3, V, generator=rng)}}).split("train")
    assert split.read(torch.tensor([1]), tail="renormalize")["logits"].tail == "renormalize"


RAGGED = [
    (KeptLogits("dense", V, V, positions=True), "full"),
    (KeptLogits("top-k", V, 2, 1.0, "8-bit", True), "8-bit"),
    (KeptLogits("sampled", 70_000, 2, 1.0, "8-bit", True), "float16"),
]


@pytest.mark.parametrize("per_shard", [2, 100])
@pytest.mark.parametrize(("logits", "precision"), RAGGED)
def test_samples_of_any_length_come_back_padded_with_zeros(logits, precision, per_shard, tmp_path, rng):
    """Lengths 0 and 1 too; a row of another sample must never fill a gap."""
    lengths = torch.tensor([3, 0, 1, 4, 0, 0, 2])
    mask = torch.arange(4) < lengths[:, None]
    values, hidden = torch.randn(7, 4, logits.classes, generator=rng), torch.randn(7, 4, 3, generator=rng) + 9
    pooled = torch.randn(7, 2, generator=rng)
    kept = KeptSplit(7, per_shard, "d", logits, {"hidden": KeptTap("h", (3,), precision, True), "pooled": KeptTap("p", (2,))}, 0, True)
    uniforms = torch.rand(7, 4, generator=rng)
    shown = {PLAIN: {"logits": values, "hidden": hidden, "pooled": pooled}}
    split = write(tmp_path, kept, torch.arange(7), shown, mask=mask, uniforms=uniforms).split("train")
    for rows in ([0, 1, 2, 3, 4, 5, 6], [6, 2, 2], [1, 4], [5], [2], [3, 0]):
        longest = int(lengths[rows].max())
        read = split.read(torch.tensor(rows), taps=["hidden", "pooled"])
        assert torch.equal(read["pooled"], pooled[rows])
        real = mask[rows, :longest]
        assert read["hidden"].shape == (len(rows), longest, 3)
        assert torch.allclose(read["hidden"][real], hidden[rows, :longest][real], atol=0.05)
        assert (read["hidden"][~real] == 0).all()
        wanted = expected(values[rows, :longest], logits, uniforms[rows, :longest])
        if isinstance(wanted, SparseLogits):
            assert torch.equal(read["logits"].ids[real], wanted.ids[real])
            assert torch.allclose(read["logits"].log_probs[real], wanted.log_probs[real], atol=1e-6)
            assert torch.equal(read["logits"].rest[real], wanted.rest[real])
            assert read["logits"].log_probs.isfinite().all()
        else:
            assert torch.equal(read["logits"][real], wanted[real])
            assert (read["logits"][~real] == 0).all()


@pytest.mark.parametrize(("logits", "precision"), RAGGED)
def test_samples_are_as_long_as_the_mask_of_the_asker(logits, precision, tmp_path, rng):
    """A student may see all samples at one length; what the cache adds is zeros there, too."""
    lengths = torch.tensor([3, 0, 1, 4])
    mask = torch.arange(4) < lengths[:, None]
    hidden = torch.randn(4, 4, 3, generator=rng) + 9
    kept = KeptSplit(4, 3, "d", logits, {"hidden": KeptTap("h", (3,), precision, True)}, 0, True)
    shown = {PLAIN: {"logits": torch.randn(4, 4, logits.classes, generator=rng), "hidden": hidden}}
    split = write(tmp_path, kept, torch.arange(4), shown, mask=mask, uniforms=torch.rand(4, 4, generator=rng)).split("train")
    ids = torch.tensor([2, 0])
    short, long = split.read(ids, taps=["hidden"]), split.read(ids, taps=["hidden"], mask_BT=torch.arange(6) < lengths[ids, None])
    for name in ("hidden", "logits"):
        assert long[name].shape == (2, 6, short[name].shape[-1])
    assert torch.equal(long["hidden"][:, :3], short["hidden"])
    assert (long["hidden"][:, 3:] == 0).all()
    if isinstance(long["logits"], SparseLogits):
        assert torch.equal(long["logits"].ids[:, :3], short["logits"].ids)
        assert long["logits"].log_probs.isfinite().all()
    else:
        assert (long["logits"][:, 3:] == 0).all()


@pytest.mark.parametrize("precision", ["full", "8-bit"])
def test_positions_come_back_where_the_mask_has_them(precision, tmp_path, rng):
    """Only a response is taught, which begins after its prompt; padding may be on either side."""
    mask = torch.tensor([[0, 0, 1, 1, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0]]).bool()
    logits, hidden = torch.randn(3, 5, V, generator=rng), torch.randn(3, 5, 2, generator=rng) + 9
    kept = KeptSplit(3, 2, "d", KeptLogits("dense", V, V, positions=True), {"h": KeptTap("h", (2,), precision, True)}, ragged=True)
    split = write(tmp_path, kept, torch.arange(3), {PLAIN: {"logits": logits, "h": hidden}}, mask=mask).split("train")
    rows = torch.tensor([2, 1, 0])
    read = split.read(rows, taps=["h"], mask_BT=mask[rows])
    assert torch.equal(read["logits"], torch.where(mask[..., None], logits, 0.0)[rows])
    torch.testing.assert_close(read["h"], torch.where(mask[..., None], hidden, 0.0)[rows], atol=0.02, rtol=0)
    assert (read["h"][~mask[rows]] == 0).all()


@pytest.mark.parametrize(
    ("mask", "found"),
    [([[1, 1, 1], [1, 1, 0]], "sample 1 of train has 2 unmasked"), ([[0, 1, 1], [1, 0, 0]], "sample 0"), ([[1, 1], [1, 0]], "keeps 3")],
)
def test_other_positions_than_were_kept_are_refused(mask, found, tmp_path, rng):
    """Another tokenizer, another length: each position would be taught by that of another word."""
    kept = KeptSplit(2, 2, "d", KeptLogits("dense", V, V, positions=True), ragged=True)
    shown = {PLAIN: {"logits": torch.randn(2, 3, V, generator=rng)}}
    split = write(tmp_path, kept, torch.arange(2), shown, mask=torch.tensor([[1, 1, 1], [1, 0, 0]])).split("train")
    with pytest.raises(BadInput, match=rf"{found}.*mask samples as"):
        split.read(torch.arange(2), mask_BT=torch.tensor(mask))


@pytest.mark.parametrize("ragged", [False, True])
def test_samples_with_as_many_positions_each(ragged, tmp_path, rng):
    """The same numbers whether lengths are kept or not."""
    values = torch.randn(5, 3, V, generator=rng)
    kept = KeptSplit(5, 2, "d", KeptLogits("top-k", V, 2, positions=True), {"h": KeptTap("h", (V,), "8-bit", True)}, 0, ragged)
    shown = {PLAIN: {"logits": values, "h": values}}
    split = write(tmp_path, kept, torch.arange(5), shown, mask=torch.ones(5, 3) if ragged else None).split("train")
    read = split.read(torch.tensor([4, 1, 0]), taps=["h"])
    wanted = top_k(values[[4, 1, 0]], 2)
    assert torch.equal(read["logits"].ids, wanted.ids)
    assert torch.equal(read["logits"].rest, wanted.rest)
    assert (read["h"] - values[[4, 1, 0]]).abs().max() < 0.02


@pytest.mark.parametrize("ragged", [False, True])
def test_an_empty_batch_has_no_rows_but_shapes_and_types(ragged, tmp_path, rng):
    values = torch.randn(3, 2, V, generator=rng)
    kept = KeptSplit(3, 2, "d", KeptLogits("top-k", V, 2, 1.0, "8-bit", True), {"h": KeptTap("h", (V,), "8-bit", True)}, 0, ragged)
    shown = {PLAIN: {"logits": values, "h": values}}
    split = write(tmp_path, kept, torch.arange(3), shown, mask=torch.ones(3, 2) if ragged else None).split("train")
    none = torch.tensor([], dtype=torch.int64)
    read = split.read(none, none, taps=["h"])
    assert read["logits"].shape == (0, 0 if ragged else 2, V)
    assert (read["h"].shape, read["h"].dtype) == ((0, 0 if ragged else 2, V), torch.float32)


@pytest.mark.parametrize("per_shard", [2, 100])
def test_what_is_read_may_be_changed(per_shard, tmp_path):
    """A loss that works in place must not change what the next epoch reads."""
    split = dense(tmp_path, per_shard=per_shard).split("train")
    ids = torch.tensor([10, 15])
    first = split.read(ids, taps=["tap"])
    kept = {name: signal.clone() for name, signal in first.items()}
    for signal in first.values():
        signal.zero_()
    assert all(torch.equal(signal, kept[name]) for name, signal in split.read(ids, taps=["tap"]).items())


def test_a_sample_that_is_not_kept_is_named(tmp_path):
    """Where a cache was written for other data, zeros would teach nothing without a word."""
    split = dense(tmp_path).split("train")
    for wrong in (9, 17, -1, 2**62):
        with pytest.raises(BadInput, match=f"nothing of 1 samples of train \\(id {wrong}\\); it was written for other data"):
            split.read(torch.tensor([10, wrong]))
    counted = write(
        tmp_path / "counted", KeptSplit(3, 2, "d", KeptLogits("dense", V, V)), torch.arange(3), {PLAIN: {"logits": torch.ones(3, V)}}
    ).split("train")
    for wrong in (-1, 3, 2**62):
        with pytest.raises(BadInput, match=f"id {wrong}"):
            counted.read(torch.tensor([wrong, 0]))


@pytest.mark.parametrize("view", [-2, 2, 10**12])
def test_a_view_that_is_not_kept_is_named(tmp_path, view):
    split = dense(tmp_path, views=2).split("train")
    with pytest.raises(BadInput, match=f"holds 2 views of a sample; view {view} was asked for"):
        split.read(torch.tensor([10, 11]), torch.tensor([0, view]))


def test_a_tap_or_logits_that_are_not_kept_are_named(tmp_path):
    split = dense(tmp_path).split("train")
    with pytest.raises(BadInput, match=r"no tap 'tip'; it has \['tap'\]; nearest: 'tap'"):
        split.read(torch.tensor([10]), taps=["tip"])
    kept = KeptSplit(2, 2, "d", None, {"a": KeptTap("a", (2,))})
    none = write(tmp_path / "none", kept, torch.arange(2), {PLAIN: {"a": torch.ones(2, 2)}}).split("train")
    with pytest.raises(BadInput, match="holds no logits of train; write it with --keep"):
        none.read(torch.tensor([0]))
    assert none.read(torch.tensor([0]), taps=["a"], logits=False).keys() == {"a"}


@pytest.mark.parametrize("ids", [torch.tensor([10], dtype=torch.int32), torch.tensor([10.0]), torch.tensor([[10]]), torch.tensor(10)])
def test_ids_that_are_none_are_refused(tmp_path, ids):
    with pytest.raises(BadInput, match=r"int64 \(B,\), not"):
        dense(tmp_path).split("train").read(ids)


@pytest.mark.parametrize("views", [torch.tensor([0]), torch.tensor([0, 0], dtype=torch.int32), torch.tensor([[0, 0]])])
def test_views_that_do_not_fit_the_ids_are_refused(tmp_path, views):
    """A single view must not be taken for all samples."""
    with pytest.raises(BadInput, match="int64"):
        dense(tmp_path, views=1).split("train").read(torch.tensor([10, 11]), views)


def test_a_split_that_is_not_kept_is_named(tmp_path):
    with pytest.raises(BadInput, match="nothing of the split 'test'; it has train"):
        dense(tmp_path).split("test")


def test_a_missing_shard_is_found_when_the_split_is_opened(tmp_path):
    cache = dense(tmp_path, views=1)
    gone = file_of(tmp_path, "train", 0, 1)
    gone.unlink()
    assert cache.missing() == [gone]
    with pytest.raises(DamagedCache, match=r"1 of 6 shards of train are missing \(view-0000-00001.safetensors\); run the command"):
        cache.split("train")


def test_a_damaged_shard_is_found_when_the_split_is_opened(tmp_path):
    """Not in the middle of a training; and the message says what mends it."""
    cache = dense(tmp_path, views=1)
    file = file_of(tmp_path, "train", 0, 1)
    sound = bytearray(file.read_bytes())
    sound[-3] ^= 4
    file.write_bytes(sound)
    with pytest.raises(DamagedCache, match=r"view-0000-00001.* a bit of it has changed; run the command that writes the cache again"):
        cache.split("train")


def test_shards_of_two_caches_in_one_folder_are_told_apart(tmp_path):
    """A second teacher written over the first one, or two folders copied together."""
    one, two = dense(tmp_path / "one"), dense(tmp_path / "two", seed=1, teacher={**TEACHER, "weights": "91c0"})
    for suffix in ("safetensors", "json"):
        name = f"train/plain-00001.{suffix}"
        shutil.copy(two.folder / name, one.folder / name)
    with pytest.raises(DamagedCache, match=f"its cache is {two.about.fingerprint}, not {one.about.fingerprint}"):
        one.split("train")


def test_a_renamed_shard_is_not_taken_for_another(tmp_path):
    cache = dense(tmp_path)
    for suffix in ("safetensors", "json"):
        first, second = (tmp_path / "train" / f"plain-0000{number}.{suffix}" for number in (0, 1))
        kept = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(kept)
    with pytest.raises(DamagedCache, match="its first is 3, not 0"):
        cache.split("train")


def rewritten(cache, view: int, number: int, change) -> None:
    """A shard with other tensors, its checksum and note those of a sound one: what a wrong writer, or somebody who means harm, makes."""
    path, kept = file_of(cache.folder, "train", view, number), cache.about.splits["train"]
    tensors = {name: tensor.clone() for name, tensor in open_shard(path).items()}
    write_shard(path, change(tensors), note_for(cache.about.fingerprint, "train", kept, view, number))


STRANGE = {
    "lacks the tensor 'logits'": lambda t: {k: v for k, v in t.items() if k != "logits"},
    "lacks the tensor 'id'": lambda t: {k: v for k, v in t.items() if k != "id"},
    "too many, 'more'": lambda t: {**t, "more": torch.ones(1)},
    r"'logits' of torch.int32 \(3, 5\); expected torch.float32 or": lambda t: {**t, "logits": t["logits"].int()},
    r"'logits' of torch.float32 \(2, 5\).*\(3, 5\)": lambda t: {**t, "logits": t["logits"][:2].clone()},
    r"'logits' of torch.float32 \(3, 4\).*\(3, 5\)": lambda t: {**t, "logits": t["logits"][:, :4].clone()},
    r"'id' of torch.int64 \(2,\)": lambda t: {**t, "id": t["id"][:2].clone()},
    r"'id' of torch.float64": lambda t: {**t, "id": t["id"].double()},
    r"'tap.tap' of torch.float32 \(3, 6\)": lambda t: {**t, "tap.tap": t["tap.tap"].flatten(1)},
    r"'logits' as torch.float64 \(3, 5\), the first shard as torch.float32": lambda t: {**t, "logits": t["logits"].double()},
    "an id occurs twice": lambda t: {**t, "id": t["id"] * 0 + 10},
}


@pytest.mark.parametrize("said", STRANGE)
def test_a_shard_that_does_not_hold_what_is_described_is_refused_when_opened(said, tmp_path):
    """Even if its checksum is right."""
    cache = dense(tmp_path, samples=9)
    rewritten(cache, PLAIN, 1, STRANGE[said])
    with pytest.raises(DamagedCache, match=said):
        cache.split("train")


def test_a_view_of_other_samples_is_refused(tmp_path):
    """Its rows would be read as those of the plain shard's ids."""
    cache = dense(tmp_path, views=2)
    rewritten(cache, 1, 0, lambda t: {**t, "id": t["id"].flip(0)})
    with pytest.raises(DamagedCache, match=r"view-0001-00000.* holds other samples than the plain shard"):
        cache.split("train")


@pytest.mark.parametrize(
    ("said", "change"),
    [
        (r"'lengths' of torch.int32 \(2,\)", lambda t: {**t, "lengths": t["lengths"][:2].clone()}),
        ("'lengths' of torch.int64", lambda t: {**t, "lengths": t["lengths"].long()}),
        (r"'logits' of torch.float32 \(5, 5\).*\(6, 5\)", lambda t: {**t, "lengths": t["lengths"] + torch.tensor([1, 0, 0]).int()}),
        ("a sample of -1 positions", lambda t: {**t, "lengths": torch.tensor([-1, 4, 2]).int()}),
    ],
)
def test_lengths_that_do_not_fit_are_refused(said, change, tmp_path):
    """They say where a sample's rows begin."""
    kept = KeptSplit(3, 3, "d", KeptLogits("dense", V, V, positions=True), {}, 0, True)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0]])
    cache = write(tmp_path, kept, torch.arange(3), {PLAIN: {"logits": torch.ones(3, 3, V)}}, mask=mask)
    rewritten(cache, PLAIN, 0, change)
    with pytest.raises(DamagedCache, match=said):
        cache.split("train")


@pytest.mark.parametrize("classes", [200, 300, 70_000])
def test_a_class_that_is_none_is_refused_when_opened(classes, tmp_path, rng):
    """It would be an index beyond the student's logits."""
    kept = KeptSplit(2, 2, "d", KeptLogits("top-k", classes, 2, 1.0, "8-bit"))
    cache = write(tmp_path, kept, torch.arange(2), {PLAIN: {"logits": torch.randn(2, classes, generator=rng)}})
    name = "logits.words" if classes > 65_536 else "logits.ids"

    def wrong(tensors):
        tensors[name].view(-1)[0] = classes << 8 if classes > 65_536 else classes
        return tensors

    rewritten(cache, PLAIN, 0, wrong)
    with pytest.raises(DamagedCache, match=f"names a class that is none of {classes:,}"):
        cache.split("train")


def test_a_folder_that_cannot_be_written_to_can_be_read(tmp_path):
    """Caches are shared; reading leaves nothing behind."""
    split = dense(tmp_path / "c").split("train")
    wanted = split.read(torch.tensor([12]))["logits"]
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "c").rglob("*"))
    paths = [tmp_path / "c", *(tmp_path / "c").rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert torch.equal(Cache(tmp_path / "c").split("train").read(torch.tensor([12]))["logits"], wanted)
    finally:
        for path in paths:
            path.chmod(0o755)
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "c").rglob("*")) == before


def test_a_moved_cache_reads_the_same(tmp_path):
    cache = dense(tmp_path / "here")
    wanted = cache.split("train").read(torch.tensor([16, 10]))["logits"]
    cache.folder.rename(tmp_path / "there")
    assert torch.equal(Cache(tmp_path / "there").split("train").read(torch.tensor([16, 10]))["logits"], wanted)


@pytest.mark.parametrize("sent", [lambda split: pickle.loads(pickle.dumps(split)), copy.deepcopy], ids=["pickled", "copied"])
def test_a_split_may_be_sent_to_another_process(sent, tmp_path):
    """Without the signals themselves: a worker maps the files again."""
    split = dense(tmp_path, samples=200, per_shard=50, classes=100).split("train")
    assert len(pickle.dumps(split)) < 4000
    assert torch.equal(sent(split).read(torch.tensor([209, 10]))["logits"], split.read(torch.tensor([209, 10]))["logits"])


def _read(split, ids, into):
    into.put(split.read(ids)["logits"].tolist())


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_worker_process_reads_the_same(start, tmp_path):
    split, context = dense(tmp_path).split("train"), multiprocessing.get_context(start)
    ids, into = torch.tensor([16, 10, 13]), context.Queue()
    worker = context.Process(target=_read, args=(split, ids, into))
    worker.start()
    assert into.get(timeout=60) == split.read(ids)["logits"].tolist()
    worker.join()


def test_opening_tells_how_far_it_is(tmp_path):
    told = []
    cache = dense(tmp_path, views=1)
    cache.split("train", progress=lambda done, whole: told.append((done, whole)))
    size = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_other_data_are_refused_with_both_sides(tmp_path):
    cache = dense(tmp_path)
    check_source(cache, "train", "data", "mine")
    check_source(cache, "test", "whatever", "mine")  # nothing is kept of it
    with pytest.raises(Mismatch, match=r"of made-up \(train data\), this run studies mine \(train 7777\)"):
        check_source(cache, "train", "7777", "mine")


def test_splits_are_opened_one_by_one(tmp_path):
    """A test split that was not written must not keep a student from training."""
    whole = dense(tmp_path)
    about = about_of({"train": whole.about.splits["train"], "test": KeptSplit(1, 1, "d", None)})
    (tmp_path / "cache.json").write_text(about.text())
    for note in (tmp_path / "train").glob("*.json"):
        note.write_text(json.dumps({**json.loads(note.read_text()), "cache": about.fingerprint}))
    cache = Cache(tmp_path)
    assert len(cache.split("train").read(torch.tensor([10]))) == 1
    assert [path.parent.name for path in cache.missing()] == ["test"]
    assert note_of(cache.missing()[0]).suffix == ".json"
