"""The handle on a user's model: built late, never edited, neutral to modes and generators. Shapes: B=3, D=5, V=7."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from tutelage.errors import BadInput, Mismatch, MissingFile
from tutelage.signals import Depth, Model

B, D, V = 3, 5, 7


def noisy():
    """Batch norm and dropout: all that a pass can disturb."""
    return nn.Sequential(nn.Linear(D, 11), nn.BatchNorm1d(11), nn.Dropout(0.5), nn.Linear(11, V))


class Tied(nn.Module):
    """Embedding and head share one matrix."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(V, D), nn.Linear(D, V, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.embedding(x))


@pytest.fixture
def batch(rng):
    return {"id": torch.arange(B), "x": torch.randn(B, D, generator=rng)}


def weights(model):
    return torch.cat([p.flatten() for p in model.module.parameters()])


def generators():
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


def test_a_handle_builds_its_module_once_and_late():
    """Help, dry runs and plans must load no weights."""
    made = []
    model = Model(lambda: made.append(1) or noisy(), name="net")
    fresh, copied = model.fresh(1), model.copy()
    assert not model.built
    assert repr(model) == "Model(net, not built)"
    assert made == []
    assert model.module is model.module
    assert (made, model.built, fresh.built, copied.built) == ([1], True, False, False)
    assert repr(model) == "Model(net)"


def test_a_handle_on_an_instance_is_that_instance():
    """The user's module is trained itself, not a copy of it."""
    net = noisy()
    assert Model(net).module is net
    assert Model(net).name == "Sequential"
    assert Model(noisy).name == "noisy"


@pytest.mark.parametrize("source", [3, "resnet18", None])
def test_what_is_neither_a_module_nor_makes_one_is_refused(source):
    """At once, not when the stage opens."""
    with pytest.raises(BadInput, match=r"nn\.Module or a function"):
        Model(source)


def test_a_function_that_makes_something_else_is_refused():
    """A forgotten return gives None."""
    with pytest.raises(BadInput, match="net made a NoneType"):
        _ = Model(lambda: None, name="net").module


def test_weights_are_a_function_of_the_seed():
    """The same seed in another process, or after other draws, must give the same student."""
    first = weights(Model(noisy, seed=3))
    torch.rand(7)
    assert torch.equal(first, weights(Model(noisy, seed=3)))
    assert not torch.equal(first, weights(Model(noisy, seed=4)))


def test_fresh_is_the_same_architecture_with_weights_of_its_own_seed():
    """A born-again student that starts from its teacher's weights is no new student."""
    model = Model(noisy, seed=0, inputs=lambda b: (b["x"],), name="net", spec="net")
    one, again, two = model.fresh(1), model.fresh(1), model.fresh(2)
    assert torch.equal(weights(one), weights(again))
    assert one.module is not again.module
    assert len({tuple(weights(m).tolist()) for m in (model, one, two)}) == 3
    assert (one.name, one.spec, one.seed) == ("net", "net", 1)
    assert [p.shape for p in one.module.parameters()] == [p.shape for p in model.module.parameters()]


def test_fresh_does_not_read_the_weights_file(tmp_path):
    """New weights are new."""
    save_model(noisy(), tmp_path / "w.safetensors")
    model = Model(noisy, weights=tmp_path / "w.safetensors")
    assert torch.equal(weights(model.fresh(0)), weights(Model(noisy, seed=0)))


def test_fresh_of_an_instance_is_refused_with_the_way_out():
    """Nobody knows how to build another one."""
    with pytest.raises(BadInput, match=r"given as an instance.*lambda"):
        Model(noisy()).fresh(1)


@pytest.mark.parametrize("source", [noisy, noisy()], ids=["function", "instance"])
def test_a_copy_has_the_weights_of_the_moment_it_is_built_and_is_independent(source):
    """A snapshot that follows its model, or changes it, is no snapshot."""
    model = Model(source)
    copied = model.copy()
    with torch.no_grad():
        model.module[0].weight.fill_(2.0)
    assert torch.equal(weights(copied), weights(model))
    with torch.no_grad():
        model.module[0].weight.fill_(3.0)
    assert copied.module[0].weight.unique().item() == 2.0


@pytest.mark.parametrize("do", ["module", "fresh", "copy", "trace", "materialize"])
def test_building_and_tracing_leave_the_global_generators_alone(batch, do):
    """Else the number of models decides what the user draws next."""

    def draws():
        torch.rand(1), np.random.rand(), random.random()
        return nn.Sequential(nn.LazyLinear(11), nn.Dropout(), nn.Linear(11, V)) if do == "materialize" else noisy()

    model = Model(draws)
    before = generators()
    {
        "module": lambda: model.module,
        "fresh": lambda: model.fresh(3).module,
        "copy": lambda: model.copy().module,
        "trace": lambda: model.trace(batch),
        "materialize": lambda: model.materialize(batch),
    }[do]()
    assert generators() == before


def test_a_trace_changes_nothing_in_the_model(batch):
    """A depth that is resolved before step 0 must not move batch-norm statistics, modes or gradients."""
    model = Model(noisy())
    model.module[2].eval()
    buffers = {n: b.clone() for n, b in model.module.named_buffers()}
    modes = [m.training for m in model.module.modules()]
    model.trace(batch)
    assert all(torch.equal(b, buffers[n]) for n, b in model.module.named_buffers())
    assert [m.training for m in model.module.modules()] == modes
    assert all(p.grad is None for p in model.module.parameters())
    assert not any(m._forward_hooks for m in model.module.modules())


def test_a_trace_is_recorded_once(batch):
    """Depths must not move with the batch."""
    model = Model(noisy())
    assert model.trace(batch) is model.trace({**batch, "x": batch["x"][:2]}) is model.trace()


def test_a_trace_that_fails_leaves_no_hook_and_the_mode(batch):
    """The error may be caught."""
    model = Model(noisy())
    with pytest.raises(RuntimeError):
        model.trace({**batch, "x": torch.zeros(B, D + 1)})
    assert not any(m._forward_hooks for m in model.module.modules())
    assert model.module.training
    assert model.path(Depth(0.4), batch) == "2"


@pytest.mark.parametrize("training", [True, False])
def test_a_mode_is_lent_and_every_part_gets_its_own_back(training):
    """A user who froze a batch norm in evaluation mode wants it so after validation too."""
    model = Model(noisy())
    model.module[1].eval()
    before = [m.training for m in model.module.modules()]

    def failing():
        with model.mode(training):
            assert {m.training for m in model.module.modules()} == {training}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert [m.training for m in model.module.modules()] == before


def lazy():
    return nn.Sequential(nn.LazyLinear(11), nn.ReLU(), nn.LazyLinear(V))


def test_lazy_layers_take_their_shapes_and_weights_from_batch_and_seed(batch):
    """An optimizer over uninitialised parameters fails; weights drawn from the global generator do not repeat."""
    first, again, other = (Model(lazy, seed=s) for s in (1, 1, 2))
    for model in (first, again, other):
        model.materialize(batch)
        torch.rand(1)
    assert [tuple(p.shape) for p in first.module.parameters()] == [(11, D), (11,), (V, 11), (V,)]
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))
    assert first.module.training


def test_materialize_does_nothing_to_other_models(batch):
    """No pass, so no batch-norm statistics."""
    model = Model(noisy())
    before = weights(model).clone()
    model.materialize(batch)
    assert torch.equal(weights(model), before)
    assert model.module[1].num_batches_tracked == 0


def test_tied_weights_stay_tied_when_fresh_copied_and_loaded(tmp_path):
    """An untied head is a second matrix that trains on its own."""
    model = Model(Tied, seed=1)
    save_model(model.module, tmp_path / "w.safetensors")
    loaded = Model(Tied, seed=2, weights=tmp_path / "w.safetensors")
    for each in (model.fresh(5), model.copy(), loaded):
        assert each.module.head.weight is each.module.embedding.weight
    assert torch.equal(weights(loaded), weights(model))
    shown = loaded.observe({"id": torch.arange(B), "x": torch.arange(B)}, {"embedding", "head", "logits"})
    torch.testing.assert_close(shown["logits"], shown["embedding"] @ model.module.embedding.weight.T)


def test_a_weights_file_is_loaded_when_the_model_is_built(tmp_path):
    """Buffers too: a batch norm without its statistics answers nonsense."""
    source = noisy()
    source(torch.randn(B, D, generator=torch.Generator().manual_seed(1)))
    save_model(source, tmp_path / "w.safetensors")
    model = Model(noisy, seed=4, weights=tmp_path / "w.safetensors")
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in model.module.state_dict().items())


def test_a_missing_weights_file_is_named(tmp_path):
    """With the model that asked for it."""
    with pytest.raises(MissingFile, match=r"nowhere\.safetensors of net"):
        _ = Model(noisy, name="net", weights=tmp_path / "nowhere.safetensors").module


@pytest.mark.parametrize("damage", ["truncated", "header", "empty", "text"])
def test_a_damaged_weights_file_is_refused(tmp_path, damage):
    """A half-written file must not be a half-loaded student."""
    path = tmp_path / "w.safetensors"
    save_model(noisy(), path)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[:-7], "header": b"\xff" + whole[1:], "empty": b"", "text": b"not a file of tensors"}[damage])
    with pytest.raises(BadInput, match="damaged"):
        _ = Model(noisy, weights=path).module


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {**s, "0.weight": torch.zeros(11, D + 1)},
        lambda s: {k: v for k, v in s.items() if k != "0.bias"},
        lambda s: {**s, "9.weight": torch.zeros(1)},
    ],
    ids=["shape", "missing", "left over"],
)
def test_weights_of_another_architecture_are_refused(tmp_path, change):
    """Strictly: a layer left at its random weights is found by nobody."""
    path = tmp_path / "w.safetensors"
    save_file(change(noisy().state_dict()), path)
    with pytest.raises(Mismatch, match="do not fit net"):
        _ = Model(noisy, name="net", weights=path).module


def test_a_failed_load_is_not_kept():
    """A second try must not find a model with random weights."""
    model = Model(noisy, weights=Path("/nowhere.safetensors"))
    for _ in range(2):
        with pytest.raises(MissingFile):
            _ = model.module
    assert not model.built


def test_a_skeleton_has_shapes_and_no_memory_and_builds_nothing():
    """Costs are estimated before anything is loaded."""
    model = Model(noisy)
    before = generators()
    skeleton = model.skeleton()
    assert all(p.is_meta for p in skeleton.parameters())
    assert [p.shape for p in skeleton.parameters()] == [p.shape for p in noisy().parameters()]
    assert not model.built
    assert generators()[0] != before  # noisy() above drew
    net = noisy()
    assert all(p.is_meta for p in Model(net).skeleton().parameters())
    assert not any(p.is_meta for p in net.parameters())


def test_a_model_that_computes_with_its_weights_has_no_skeleton():
    """Then the estimate says so instead of failing."""

    def computing():
        net = noisy()
        net.scale = float(net[0].weight.sum())
        return net

    assert Model(computing).skeleton() is None


def test_a_copy_made_while_hooks_are_installed_has_none_of_them(rng):
    """A snapshot taken within a stage would write its own signals into those of the original."""
    model = Model(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)))
    batch = {"id": torch.arange(4), "x": torch.randn(4, 3, generator=rng)}
    with model.watching({"0", "1"}, batch):
        twin = model.copy()
        assert all(not part._forward_hooks for part in twin.module.modules())
        shown = model.observe(batch, {"0", "1"})
    torch.testing.assert_close(twin.observe(batch, {"0"})["0"], shown["0"])
