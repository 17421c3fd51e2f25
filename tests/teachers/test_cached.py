"""Cached: the same lessons as from the model itself, by (id, view), without a model; and one clear error where it cannot answer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cache_folders import write_cache
from tutelage.data import Table
from tutelage.data.augment import Augmented
from tutelage.errors import BadInput, Mismatch, MissingFile
from tutelage.objectives import CrossEntropy, Match, mse, regressor, soft_targets
from tutelage.signals import Model, SparseLogits
from tutelage.signals.cache import DamagedCache, KeptLogits
from tutelage.signals.sparse import top_k
from tutelage.state import linear_ramp
from tutelage.teachers import Cached, Ensemble, Frozen, Views
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train

N, B, CLASSES = 32, 8, 5
DENSE = KeptLogits("dense", CLASSES, CLASSES)


def images(name: str = "toy", seed: int = 0) -> Table:
    made = torch.Generator().manual_seed(seed)
    x, y = torch.rand(N, 1, 6, 6, generator=made), torch.randint(0, CLASSES, (N,), generator=made)
    return Table({"x": x, "y": y, "id": torch.randperm(1000, generator=made)[:N]}, name)


def net(width: int, seed: int) -> Model:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width * 16, CLASSES)
        )

    return Model(make, name="net", seed=seed)


def taught(teacher, source, *, run: Run, taps: bool = False, epochs: float = 4) -> dict[str, torch.Tensor]:
    """The weights of a student after some steps."""
    student = net(3, seed=5)
    loss = CrossEntropy() + linear_ramp(1.0, 0.5) * Match("logits", by=soft_targets(2.0), name="soft")
    if taps:
        loss = loss + Match("2", through=regressor(), by=mse(), name="hint")
    plan = Plan([Stage("distil", Learner(student, loss, teacher), Fit(epochs=epochs, batch_size=B), source)], student)
    train(plan, run)
    return {name: tensor.clone() for name, tensor in student.module.state_dict().items()}


def same(one, other) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def quiet(**options) -> Run:
    return Run(None, seed=1, options=RunOptions(quiet=True), **options)


def test_a_student_taught_from_a_cache_is_the_one_taught_by_the_model(tmp_path):
    """Bit for bit, features and all, where the model was asked in batches of the same shape."""
    source, teacher = images(), net(6, seed=2)
    write_cache(tmp_path, teacher, {"train": source}, logits=DENSE, taps=("2",))
    assert same(taught(Frozen(teacher), source, run=quiet(), taps=True), taught(Cached(tmp_path), source, run=quiet(), taps=True))


@pytest.mark.parametrize("run_seed", [1, 2])
def test_views_are_those_that_the_teacher_saw(tmp_path, run_seed):
    """View = epoch mod V, drawn from the cache's seed and not the run's; one view off, and the lessons are of other pictures."""
    source, teacher = Augmented(images(), "flip,shift=1,noise=0.1"), net(6, seed=2)
    write_cache(tmp_path, teacher, {"train": source}, logits=DENSE, views=3, seed=7)
    options = {"options": RunOptions(quiet=True), "seed": run_seed}
    online = taught(Frozen(teacher), source, run=Run(None, views=Views(3, 7), **options), epochs=5)
    assert same(online, taught(Cached(tmp_path), source, run=Run(None, **options), epochs=5))
    assert not same(online, taught(Frozen(teacher), source, run=Run(None, **options), epochs=5))


def test_signals_are_looked_up_by_id_and_view(tmp_path):
    """By position, a shuffled batch would be taught with other samples' logits."""
    source, teacher = Augmented(images(), "flip"), net(6, seed=2)
    write_cache(tmp_path, teacher, {"train": source}, logits=DENSE, views=2)
    positions, views = torch.tensor([9, 0, 31, 9, 17, 3, 2, 1]), torch.tensor([0, 1, 0, 1, 1, 0, 0, 1])
    batch = {**source.batch(positions, views=views), "view": views}
    found = Cached(tmp_path).signals(batch, {"logits"})["logits"]
    assert torch.equal(found, Frozen(teacher).signals(batch, {"logits"})["logits"])
    plain = source.batch(positions)
    assert torch.equal(Cached(tmp_path).signals(plain, {"logits"})["logits"], Frozen(teacher).signals(plain, {"logits"})["logits"])


def test_a_cache_of_plain_samples_does_not_heed_the_epoch(tmp_path):
    """Where nothing is drawn, every view of a sample is the sample."""
    source, teacher = images(), net(6, seed=2)
    write_cache(tmp_path, teacher, {"train": source}, logits=DENSE)
    batch = {**source.batch(torch.arange(4)), "view": torch.tensor([0, 5, 9, 2])}
    assert torch.equal(Cached(tmp_path).signals(batch, {"logits"})["logits"], Frozen(teacher).signals(batch, {"logits"})["logits"])


def test_sparse_logits_come_with_the_tail_that_was_asked_for(tmp_path):
    """What is left out is read in a named way."""
    source, teacher = images(), net(6, seed=2)
    write_cache(tmp_path, teacher, {"train": source}, logits=KeptLogits("top-k", CLASSES, 2, temperature=2.0))
    cached = Cached(tmp_path, tail="spread")
    assert cached.gives.forms == {"top-k"}
    batch = source.batch(torch.arange(5))
    found = cached.signals(batch, {"logits"})["logits"]
    expected = top_k(Frozen(teacher).signals(batch, {"logits"})["logits"], 2, 2.0)
    assert isinstance(found, SparseLogits)
    assert (found.tail, found.temperature, found.shape) == ("spread", 2.0, (5, CLASSES))
    assert torch.equal(found.ids, expected.ids)
    assert torch.allclose(found.log_probs, expected.log_probs, atol=1e-6)


def test_no_model_is_there(tmp_path):
    """Zero passes of the teacher: nothing to place on a device, to build or to load."""
    write_cache(tmp_path, net(6, seed=2), {"train": images()}, logits=DENSE)
    cached = Cached(tmp_path)
    assert cached.models() == []
    assert not cached.gives.new_inputs
    assert cached.name == f"net in cache {tmp_path} (all)"


def test_what_it_cannot_answer_is_refused(tmp_path):
    """Never zeros, never another sample's signals."""
    source, teacher = images(), net(6, seed=2)
    write_cache(tmp_path, teacher, {"train": source, "test": images("other", 3)}, logits=DENSE, taps=("2",))
    cached = Cached(tmp_path)
    batch = source.batch(torch.arange(3))
    with pytest.raises(BadInput, match="view 'attacked' asks the teacher about new inputs, which a cache cannot answer"):
        cached.signals(batch, {"logits"}, view="attacked")
    with pytest.raises(BadInput, match=r"holds nothing of 1 samples of train \(id 5000\); it was written for other data"):
        cached.signals({**batch, "id": torch.tensor([int(batch["id"][0]), 5000, int(batch["id"][1])])}, {"logits"})
    with pytest.raises(BadInput, match=r"holds no tap '0'; it has \['2'\]"):
        cached.signals(batch, {"0"})
    with pytest.raises(BadInput, match="holds nothing of the split 'validation'; it has train, test"):
        Cached(tmp_path, "validation")
    with pytest.raises(BadInput, match=r"tail='buckets'.*expected bucket, renormalize, spread; nearest: 'bucket'"):
        Cached(tmp_path, tail="buckets")
    with pytest.raises(MissingFile, match="holds no cache"):
        Cached(tmp_path / "nowhere")
    with pytest.raises(Mismatch, match=r"are of toy \(train \w+\), this run studies other"):
        cached.check(images("other", 3))
    assert cached.of("validation") is None
    assert torch.equal(
        cached.of("test").signals(images("other", 3).batch(torch.arange(2)), {"logits"})["logits"],
        Frozen(teacher).signals(images("other", 3).batch(torch.arange(2)), {"logits"})["logits"],
    )


def test_damage_shows_before_anything_trains(tmp_path):
    """Not in the middle of the night."""
    source = images()
    write_cache(tmp_path, net(6, seed=2), {"train": source}, logits=DENSE)
    last = sorted((tmp_path / "train").glob("*.safetensors"))[-1]
    content = bytearray(last.read_bytes())
    content[-1] ^= 1
    last.write_bytes(content)
    with pytest.raises(DamagedCache, match="a bit of it has changed; run the command"):
        Cached(tmp_path).begin_stage(None)


def test_augmented_samples_are_not_taught_with_what_was_said_of_plain_ones(tmp_path):
    """The commonest silent error of offline distillation: the student looks at another picture than the teacher did."""
    source, teacher = images(), net(6, seed=2)
    write_cache(tmp_path, teacher, {"train": source}, logits=DENSE)
    with pytest.raises(
        BadInput, match=r"stage 'distil' studies augmented samples of toy, but .* knows plain ones only; write the cache with"
    ):
        taught(Cached(tmp_path), Augmented(source, "flip"), run=quiet())


def test_teachers_that_know_different_views_cannot_share_a_stage(tmp_path):
    """A batch is one view; a second cache would answer for another."""
    source, teacher = Augmented(images(), "flip"), net(6, seed=2)
    for name, views, seed in (("a", 2, 0), ("b", 3, 0)):
        write_cache(tmp_path / name, teacher, {"train": source}, logits=DENSE, views=views, seed=seed)
    with pytest.raises(BadInput, match="different views of samples"):
        Ensemble([Cached(tmp_path / "a"), Cached(tmp_path / "b")])
    with pytest.raises(BadInput, match="its teachers and the run want different views of the samples: 2 with seed 0, 3 with seed 1"):
        taught(Cached(tmp_path / "a"), source, run=quiet(views=Views(3, 1)))


def test_an_ensemble_of_caches_is_the_ensemble_of_their_models(tmp_path):
    """Its mean needs whole distributions, so sparse members are refused."""
    source, first, second = images(), net(6, seed=2), net(4, seed=3)
    write_cache(tmp_path / "a", first, {"train": source}, logits=DENSE)
    write_cache(tmp_path / "b", second, {"train": source}, logits=DENSE)
    write_cache(tmp_path / "c", second, {"train": source}, logits=KeptLogits("top-k", CLASSES, 2))
    batch = source.batch(torch.arange(8))
    online = Ensemble([Frozen(first), Frozen(second)]).signals(batch, {"logits"})["logits"]
    assert torch.equal(Ensemble([Cached(tmp_path / "a"), Cached(tmp_path / "b")]).signals(batch, {"logits"})["logits"], online)
    with pytest.raises(BadInput, match="averages whole distributions, which its member net in cache"):
        Ensemble([Frozen(first), Cached(tmp_path / "c")])
