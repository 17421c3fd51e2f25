"""`cache`: what is kept is what the teacher says, what it takes is told beforehand, and what cannot be is refused.

Shapes: B=5 samples a pass, N=13 of them, V=3 classes, C channels, T positions.
"""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from torch import nn

import tutelage
from small_caches import ONE, QUIET, B, N, V, bytes_of, net, said, table, task, teacher, written
from tutelage import Data, Depth, Indexed, Model, Table
from tutelage.data import Augmented
from tutelage.data.hashing import uniforms
from tutelage.errors import BadInput, Mismatch, ShapeMismatch, TutelageError, UnknownTap
from tutelage.jobs.cache import cache, show
from tutelage.jobs.caching import outline
from tutelage.signals.cache import PLAIN, Cache
from tutelage.signals.sparse import sampled, top_k

pytestmark = pytest.mark.usefixtures("untimed_caches")

# what is kept


@pytest.mark.parametrize("shard_mib", [ONE, 64])
def test_full_logits_are_the_teachers_own_bit_for_bit(shard_mib, tmp_path):
    """A student taught from the cache would else be another one."""
    model, data = teacher(), task()
    result = written(tmp_path / "c", data, model, shard_mib=shard_mib)
    for name, source in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        split = Cache(tmp_path / "c").split(name)
        assert torch.equal(split.ids, source.ids())
        for start in range(0, len(source), B):
            rows = torch.arange(start, min(start + B, len(source)))
            own = said(model, source, rows[torch.arange(B) % len(rows)])["logits"][: len(rows)]
            assert torch.equal(split.read(source.ids()[rows])["logits"], own)
    assert result.written == (9 if shard_mib == 64 else 3 + 2 + 2) - (6 if shard_mib == 64 else 0)
    assert not model.module.training or all(part.training for part in model.module.modules())  # modes are put back


def test_what_is_said_does_not_depend_on_the_mode_the_model_came_in(tmp_path):
    """A user's module may have been left in training mode; dropout would then be kept on disk for good."""
    first, second = net(), net()
    second.load_state_dict(first.state_dict())
    written(tmp_path / "a", who=first.train())
    written(tmp_path / "b", who=second.eval())
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert first.training
    assert not second.training


def test_each_view_is_what_the_teacher_says_of_that_view(tmp_path):
    """View v of a sample is drawn from (seed, id, v); the student that studies it is told what the teacher saw there."""
    model, data = teacher(), task("flip,shift=2")
    written(tmp_path / "c", data, model, views=2, seed=9)
    split = Cache(tmp_path / "c").split("train")
    rows = torch.arange(B, 2 * B)
    shown = []
    for view in (PLAIN, 0, 1):
        shown.append(split.read(data.train.ids()[rows], torch.full((B,), view))["logits"])
        assert torch.equal(shown[-1], said(model, data.train, rows, view, seed=9)["logits"])
    assert not torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[1], shown[2])
    assert Cache(tmp_path / "c").split("test").kept.views == 0


def test_top_k_is_made_of_the_teachers_logits_at_the_temperature(tmp_path):
    """The temperature must be that of the teaching, since what is left out cannot be softened later."""
    model, data = teacher(), task()
    written(tmp_path / "c", data, model, keep="top-2", temperature=4, logits_as="full")
    read = Cache(tmp_path / "c").split("train").read(data.train.ids()[:B])["logits"]
    own = top_k(said(model, data.train, range(B))["logits"], 2, 4.0)
    assert (read.form, read.temperature, read.classes) == ("top-k", 4.0, V)
    for name in ("ids", "log_probs", "rest"):
        assert torch.equal(getattr(read, name), getattr(own, name))
    kept = Cache(tmp_path / "c").split("test").kept.logits
    assert (kept.form, kept.temperature, kept.precision) == ("dense", 1.0, "full")


def test_sampled_logits_draw_by_id_and_view_alone(tmp_path):
    """A draw that depended on the batch could not be written again by another process."""
    model, data = teacher(), task("shift=1")
    written(tmp_path / "c", data, model, keep="sample-2", views=2, seed=5, logits_as="full")
    ids = data.train.ids()[:B]
    for view in (PLAIN, 1):
        read = Cache(tmp_path / "c").split("train").read(ids, torch.full((B,), view))["logits"]
        drawn = uniforms(5, ids, torch.full((B,), view + 1), 1, "sampled logits")[:, 0]
        own = sampled(said(model, data.train, range(B), view, seed=5)["logits"], 2, drawn)
        assert read.form == "sampled"
        for name in ("ids", "log_probs", "rest"):
            assert torch.equal(getattr(read, name), getattr(own, name)), (view, name)


def test_taps_are_kept_under_their_path_or_their_share_of_the_depth(tmp_path):
    """Recipes ask for Depth(0.5) unless told otherwise."""
    model, data = teacher(), task()
    for number, taps in enumerate((["2", 0.5], "2,0.5", ["2", Depth(0.5)], "2, depth-0.5")):
        out = tmp_path / str(number)
        about = written(out, data, model, taps=taps).about
        assert {name: tap.path for name, tap in about.splits["train"].taps.items()} == {"2": "2", "depth-0.5": "2"}
        assert about.splits["validation"].taps == {}
        read = Cache(out).split("train").read(data.train.ids()[:B], taps=["2", "depth-0.5"])
        own = said(model, data.train, range(B), taps=["2"])["2"]
        assert own.shape == (B, 4, 4, 4)
        assert torch.equal(read["2"], own)
        assert torch.equal(read["depth-0.5"], own)


def test_a_path_is_a_path_even_where_it_looks_like_a_number(tmp_path):
    """Modules of a sequence are called 0, 1 and 2, and those within them 0.5."""
    nested = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(36, 5)), nn.Linear(5, V))
    about = written(tmp_path / "c", who=nested, taps="0.1,1").about
    assert {name: tap.path for name, tap in about.splits["train"].taps.items()} == {"0.1": "0.1", "1": "1"}


@pytest.mark.parametrize(("precision", "share"), [("8-bit", 0.5 / 255), ("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
def test_narrow_taps_are_near_the_teachers(precision, share, tmp_path):
    """Eight bits: half a step of the channel's range. Half precision: half a unit in the last place."""
    model, data = teacher(), task()
    written(tmp_path / "c", data, model, taps="0", taps_as=precision, keep="none")
    read = Cache(tmp_path / "c").split("train").read(data.train.ids()[:B], taps=["0"], logits=False)["0"]
    own = said(model, data.train, range(B), taps=["0"])["0"]
    reach = own.amax((0, 2, 3), keepdim=True) - own.amin((0, 2, 3), keepdim=True) if precision == "8-bit" else own.abs()
    assert ((read - own).abs() <= share * reach + 1e-6).all()
    assert not torch.equal(read, own)
    assert Cache(tmp_path / "c").split("train").kept.logits is None


def test_a_user_may_keep_nothing_of_validation_and_test(tmp_path):
    """Where the disk is small, or nobody looks at reports."""
    assert list(written(tmp_path / "c", evaluation=False).about.splits) == ["train"]


def test_the_description_says_whose_signals_they_are_and_what_the_teacher_costs(tmp_path):
    """Reports need it when the teacher is not there any more."""
    data = task()
    about = written(tmp_path / "c", data, seed=8).about
    assert about.teacher["name"] == "net"
    assert about.teacher["spec"] is None
    assert about.teacher["asked"] == {"batch_size": B, "precision": "fp32"}
    assert about.data == {"name": "toy", "classes": ["a", "b", "c"]}
    assert about.splits["test"].data == data.test.fingerprint()
    assert about.seed == 8
    assert about.measured["flops"] == 7
    assert about.measured["parameters"] == sum(p.numel() for p in net().parameters())
    assert set(about.measured["timing"]) == {"threads", "processor", "device"}


class Speaker(nn.Module):
    """Logits for each position, (B, T, 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(11, 5), nn.Linear(5, 7)

    def forward(self, x):
        return self.head(self.embed(x))


def texts(lengths: list[int] | None, mask: bool = True) -> Data:
    x = torch.randint(0, 11, (N, 4), generator=torch.Generator().manual_seed(1))
    real = torch.arange(4) < torch.tensor(lengths or [4] * N)[:, None]
    columns = {"x": x, "id": torch.arange(N), **({"mask": real} if mask else {})}
    return Data(Table(columns, "texts"), Table(columns, "texts"), name="texts")


@pytest.mark.parametrize(("lengths", "mask"), [([1 + i % 4 for i in range(N)], True), (None, True), (None, False)])
@pytest.mark.parametrize("keep", ["all", "top-2", "sample-2"])
def test_samples_with_positions_have_a_row_for_each_real_one(lengths, mask, keep, tmp_path):
    """The format is made for language models; padding costs nothing on disk."""
    model, data = Model(Speaker, seed=1), texts(lengths, mask)
    about = written(tmp_path / "c", data, model, keep=keep, logits_as="full", taps="embed", seed=6).about
    ragged = lengths is not None
    assert about.splits["train"].ragged == about.splits["validation"].ragged == ragged
    assert about.splits["train"].logits.positions
    assert about.splits["train"].taps["embed"].shape == (5,)
    split = Cache(tmp_path / "c").split("train")
    read = split.read(torch.arange(B), taps=["embed"])
    own = said(model, data.train, range(B), taps=["embed", "logits"])
    real = data.train.columns["mask"][:B] if ragged else torch.ones(B, 4, dtype=torch.bool)
    assert torch.equal(read["embed"][real], own["embed"][real])
    if keep == "all":
        assert torch.equal(read["logits"][real], own["logits"][real])
    else:
        drawn = uniforms(6, torch.arange(B), torch.zeros(B, dtype=torch.int64), 4, "sampled logits")
        wanted = top_k(own["logits"], 2) if keep == "top-2" else sampled(own["logits"], 2, drawn)
        assert torch.equal(read["logits"].ids[real], wanted.ids[real])
        assert torch.equal(read["logits"].log_probs[real], wanted.log_probs[real])
    rows = sum(lengths) if lengths else 4 * N
    found = show(tmp_path / "c")["splits"]["train"]
    assert found["rows"] == rows
    assert found["bytes_a_row"] == (28 if keep == "all" else 2 * (1 + 4) + 4)


def test_positions_that_differ_in_number_without_a_mask_are_refused(tmp_path):
    """Nobody could say which of them are real."""

    class Padded(Table):
        def batch(self, positions, **how):
            read = super().batch(positions, **how)
            return {**read, "x": read["x"][:, : 2 if 12 in positions.tolist() else 4]}

    data = Data(Padded({"x": torch.zeros(N, 4, dtype=torch.int64)}, "padded"))
    with pytest.raises(ShapeMismatch, match=r"'logits' has 2 positions a sample in this batch, 4 in another one; .* need a column 'mask'"):
        written(tmp_path / "c", data, Model(Speaker, seed=1))
    assert not (tmp_path / "c").exists()


def test_a_tap_whose_shape_changes_from_batch_to_batch_is_refused_before_anything_is_written(tmp_path):
    """Text encoders pad to the longest of a batch; a row of zeros more would be another signal."""

    class Encoder(Speaker):
        def forward(self, x):
            return self.head(self.embed(x[:, : int(x[:, 0].max()) + 1])).mean(1)

    x = torch.ones(N, 4, dtype=torch.int64)
    x[-1, 0] = 3
    data = Data(Table({"x": x}, "texts"))
    said = r"'embed' has shape \(3, 4, 5\) in this batch, but \(2, 5\) a sample"
    with pytest.raises(ShapeMismatch, match=said):
        written(tmp_path / "c", data, Model(Encoder, seed=1), taps="embed")
    assert not (tmp_path / "c").exists()
    assert written(tmp_path / "c", data, Model(Encoder, seed=1)).written == 3  # without the tap all is well


# what it will take


def test_a_dry_run_writes_nothing_at_all(tmp_path):
    """Not even the folder."""
    result = written(tmp_path / "c", dry_run=True, keep="top-2", taps="2", views=0)
    assert result.folder is None
    assert list(tmp_path.iterdir()) == []
    assert [(row.split, row.view, row.samples, row.shards, row.passes) for row in result.rows] == [
        ("train", "plain", N, 3, 3),
        ("validation", "plain", 7, 2, 2),
        ("test", "plain", 6, 2, 2),
    ]
    assert all(row.seconds > 0 for row in result.rows)


@pytest.mark.parametrize("how", [{}, {"keep": "top-2", "taps": "2", "taps_as": "8-bit"}, {"keep": "sample-1", "logits_as": "float16"}])
def test_the_estimate_is_near_what_is_written(how, tmp_path):
    """Whoever plans a disk for a night of writing must be able to."""
    many = Data(Augmented(table(500), "shift=1"), name="many")
    result = written(tmp_path / "c", many, views=2, shard_mib=64, **how)
    assert [row.view for row in result.rows] == ["plain", "views 0 to 1"]
    held = result.contents
    assert sum(row.bytes for row in result.rows) == pytest.approx(held["bytes"], rel=0.05)
    for name, count in result.rows[0].bytes_a_sample.items():
        assert held["splits"]["train"]["bytes_a_sample"][name] == pytest.approx(count, rel=0.05)
    assert held["splits"]["train"]["bytes_a_sample"]["ids"] == 8


def test_what_is_there_already_is_not_counted_again(tmp_path):
    """The time and the room of what is left, after an interruption."""
    written(tmp_path / "c")
    (tmp_path / "c" / "train" / "plain-00001.json").unlink()
    row = written(tmp_path / "c", dry_run=True).rows[0]
    assert (row.shards, row.there, row.passes) == (3, 2, 1)
    assert 0 < row.left < row.bytes


def test_a_cache_that_is_too_large_is_refused(tmp_path, monkeypatch):
    """By somebody's limit, or by the disk."""
    with pytest.raises(BadInput, match=r"the cache would take [\d.]+ KiB, and at most 1e-06 GiB are allowed"):
        written(tmp_path / "c", max_gib=1e-6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2**26})())
    with pytest.raises(BadInput, match=r"has 64.0 MiB free, of which 64.0 MiB must stay so"):
        written(tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_shards_hold_whole_batches_and_are_not_endless(tmp_path):
    """A kill costs at most one of them; small samples would else make one shard of hours."""
    data = Data(table(9001), name="many")
    assert written(tmp_path / "c", data, shard_mib=64, dry_run=True).about.splits["train"].per_shard == 8190
    small = written(tmp_path / "c", data, shard_mib=0.01, dry_run=True).about.splits["train"].per_shard
    assert small % B == 0
    assert 0.5 * 0.01 * 2**20 < small * (4 * V + 8) < 0.01 * 2**20


def test_samples_of_many_positions_share_a_shard_with_fewer(tmp_path, monkeypatch):
    """A large teacher takes minutes for what little is kept of a long text; a kill must not cost hours."""
    monkeypatch.setattr(outline, "MOST_POSITIONS", 50)
    about = written(tmp_path / "c", texts(None), Model(Speaker, seed=1), keep="top-2", shard_mib=64, dry_run=True).about
    assert about.splits["train"].per_shard == 10  # of 4 positions each, in whole batches


# what is refused


class Absent(nn.Module):
    """No logits to be found."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 2)

    def forward(self, x):
        return {"hidden": self.layer(x.flatten(1))}


class Ill(nn.Module):
    """NaN for one sample."""

    def forward(self, x):
        return torch.where((x.sum((1, 2, 3)) == x.sum((1, 2, 3)).max())[:, None], torch.nan, x.flatten(1)[:, :V])


class Loud(nn.Module):
    """Numbers that half precision cannot hold."""

    def forward(self, x):
        return x.flatten(1)[:, :V] * 1e6


REFUSED: dict[str, tuple[dict, type[TutelageError], str]] = {
    "keep nothing": ({"keep": "none"}, BadInput, "nothing would be kept"),
    "keep no classes": ({"keep": "top-0"}, BadInput, "at least one class"),
    "keep more than there are": ({"keep": "top-4"}, BadInput, "gives 3 logits; keep at most 3"),
    "draw more than there are": ({"keep": "sample-99"}, BadInput, "keep=sample-99, but the teacher gives 3"),
    "keep a misspelt word": ({"keep": "al"}, BadInput, "nearest: 'all'"),
    "keep a number": ({"keep": 16}, BadInput, "expected all, none, top-K or sample-K"),
    "keep endless classes": ({"keep": "top-" + "9" * 5000}, BadInput, "is not known"),
    "temperature of nothing": ({"temperature": 0, "keep": "top-2"}, BadInput, "positive finite"),
    "temperature that is none": ({"temperature": float("nan"), "keep": "top-2"}, BadInput, "positive finite"),
    "temperature without effect": ({"temperature": 4}, BadInput, "changes nothing with keep=all"),
    "precision without effect": ({"logits_as": "float16", "keep": "none", "taps": "2"}, BadInput, "changes nothing"),
    "precision of no taps": ({"taps_as": "8-bit"}, BadInput, "no taps are kept"),
    "eight bits for all": ({"logits_as": "8-bit"}, BadInput, "is for sparse logits"),
    "unknown precision": ({"logits_as": "float8"}, BadInput, "'float8' is not known"),
    "negative views": ({"views": -1}, BadInput, "views=-1"),
    "batch of nothing": ({"batch_size": 0}, BadInput, "batch_size=0"),
    "seed that is none": ({"seed": "x"}, BadInput, "seed='x'"),
    "views of what does not vary": ({"views": 2}, BadInput, "its views are alike"),
    "no views of what varies": ({"data": task("flip")}, BadInput, "such as --views 4"),
    "unknown tap": ({"taps": "2,7"}, UnknownTap, "tap '7' is not in net"),
    "misspelt tap": ({"taps": "lyer", "who": Absent, "keep": "none"}, UnknownTap, "nearest: 'layer'"),
    "share beyond the end": ({"taps": "1.5"}, BadInput, r"Depth\(1.5\)"),
    "empty tap": ({"taps": "2,"}, BadInput, "a tap is empty"),
    "logits as a tap": ({"taps": "logits"}, BadInput, "no tap here"),
    "no logits": ({"who": Absent}, BadInput, "logits"),
    "NaN": ({"who": Ill}, BadInput, "NaN or infinite numbers at 'logits'"),
    "too large for half": ({"who": Loud, "logits_as": "float16"}, BadInput, "more than float16 holds"),
    "no teacher": ({"who": ""}, TutelageError, "teacher"),
    "teacher without weights": ({"who": "cnn:width=2"}, BadInput, "has no weights trained"),
    "no room at all": ({"max_gib": 0}, BadInput, "max_gib=0"),
    "no size of a shard": ({"shard_mib": 0}, BadInput, "shard_mib=0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(case, tmp_path):
    """A night of writing must not end in a surprise."""
    how, kind, message = REFUSED[case]
    how = dict(how)
    who = how.pop("who", net)
    with pytest.raises(kind, match=message):
        cache(
            Model(who, name="net") if isinstance(who, type) or who is net else who,
            how.pop("data", None) or task(),
            out=tmp_path / "c",
            **{"batch_size": B, "options": QUIET, **how},
        )
    assert list(tmp_path.iterdir()) == []


def test_samples_that_share_an_id_are_refused(tmp_path):
    """One of them would be taught what the teacher said of the other."""
    items = [{"x": torch.zeros(1, 6, 6), "id": i // 2} for i in range(N)]
    with pytest.raises(BadInput, match="ids of twice occur twice"):
        written(tmp_path / "c", Data(Indexed(items, "twice")))


@pytest.mark.parametrize("place", ["file", "full", "file/below", "a\0b", "", "/proc/nothing"])
def test_a_folder_that_cannot_be_written_to_is_refused(place, tmp_path):
    """Also by root, for whom permissions are none: what lies below /proc cannot be made by anybody."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(BadInput, match=r"--out|already holds something else"):
        written(place if place in ("", "/proc/nothing") else f"{tmp_path}/{place}")
    assert (tmp_path / "full" / "mine.txt").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    """In a sentence."""
    (tmp_path / "c").mkdir(mode=0o555)
    with pytest.raises(BadInput, match="cannot be written to"):
        written(tmp_path / "c")


def test_a_link_that_leads_out_of_the_folder_is_not_written_through(tmp_path):
    """A cache that somebody sent may hold one."""
    written(tmp_path / "c")
    outside = tmp_path / "outside"
    shutil.move(tmp_path / "c" / "train", outside)
    (tmp_path / "c" / "train").symlink_to(outside)
    (outside / "plain-00000.json").unlink()
    with pytest.raises(BadInput, match="leads out"):
        written(tmp_path / "c")
    assert not (outside / "plain-00000.json").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"who": teacher(4)}, r"teacher weights = \"\w+\" \(net\), this one has \"\w+\" \(net\); choose another --out"),
        ({"data": Data(table(12), name="toy")}, "data classes|splits"),
        ({"keep": "top-2"}, 'logits form = "dense", this one has "top-k"'),
        ({"batch_size": 6}, "batch_size = 5"),
        ({"seed": 1}, "seed = 0"),
    ],
)
def test_a_folder_that_was_begun_for_something_else_is_refused(how, message, tmp_path):
    """Half of a cache would come from another teacher."""
    written(tmp_path / "c")
    before = bytes_of(tmp_path / "c")
    for dry in (True, False):
        with pytest.raises(Mismatch, match=message):
            written(tmp_path / "c", dry_run=dry, **how)
    assert bytes_of(tmp_path / "c") == before


def test_the_public_name_is_the_job():
    """`tutelage.cache(...)`, as `tutelage.distill(...)`."""
    assert tutelage.cache is cache
