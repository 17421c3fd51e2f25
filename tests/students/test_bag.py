"""The bag of words: its numbers, its mean against a loop, and its handle on a column of text."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.signals import Depth, Model
from tutelage.signals.text import HashedWords
from tutelage.students import bag

TEXTS = ["good", "very good film", "bad", "not good at all", "", "a bad film"]
BATCH = {"id": torch.arange(6), "text": TEXTS, "y": torch.tensor([1, 1, 0, 0, 1, 0])}


def handle(seed=0, **options):
    return Model(lambda: bag(**options), inputs=bag.inputs_for(options), seed=seed, name="bag")


@pytest.mark.parametrize(("buckets", "width", "depth", "classes"), [(97, 5, 0, 2), (101, 3, 2, 7)])
def test_the_parameters_are_the_embedding_and_the_layers(buckets, width, depth, classes):
    """The knobs must reach every layer."""
    net = bag(buckets=buckets, width=width, depth=depth, classes=classes)
    assert sum(p.numel() for p in net.parameters()) == buckets * width + depth * (width * width + width) + width * classes + classes


def test_a_text_is_the_mean_of_its_words_and_pairs(rng):
    """Computed word by word; a sum would shout on long texts."""
    model, words = handle(buckets=97, width=5, depth=1, classes=3), HashedWords(97)
    net = model.module
    rows = torch.stack([net.embedding.weight[words.of(text)].mean(0) for text in TEXTS])
    first = net.blocks[0][0]
    expected = torch.relu(rows @ first.weight.T + first.bias) @ net.head.weight.T + net.head.bias
    torch.testing.assert_close(model.observe(BATCH, {"logits"})["logits"], expected)


def test_a_text_does_not_depend_on_its_neighbours():
    """Not even an empty one."""
    model = handle(buckets=997)
    together = model.observe(BATCH, {"logits"})["logits"]
    for i in range(len(TEXTS)):
        alone = model.observe({"id": torch.tensor([i]), "text": [TEXTS[i]]}, {"logits"})["logits"]
        torch.testing.assert_close(alone[0], together[i])


def test_the_preprocessing_has_the_buckets_of_the_net():
    """One bucket too many is an index out of range, on a GPU an assert that names nothing."""
    assert bag.inputs_for({"classes": 3, "buckets": 97}) == HashedWords(97)
    assert bag.inputs_for({}).buckets == bag().embedding.num_embeddings


def test_hidden_blocks_are_found_at_a_depth():
    """A hint on text as on images."""
    assert handle(buckets=97, depth=3).path(Depth(0.5), BATCH) == "blocks.0"


def test_every_parameter_gets_a_gradient_and_only_rows_of_words_that_were_read():
    """And a few steps tell good from bad."""
    model = handle(buckets=997, width=16, seed=1)
    net, words = model.module, HashedWords(997)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model.observe(BATCH, {"logits"})["logits"], BATCH["y"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    read = {bucket for text in TEXTS for bucket in words.of(text)}
    assert set(net.embedding.weight.grad.abs().sum(1).nonzero().flatten().tolist()) == read
    assert losses[-1] < 0.2 * losses[0]


def test_dropout_leaves_units_out_while_training_only():
    """After each hidden layer."""
    model = handle(buckets=97, depth=2, dropout=0.4)
    assert [m.p for m in model.module.modules() if isinstance(m, nn.Dropout)] == [0.4] * 2
    with model.mode(training=True):
        first, second = (model.observe(BATCH, {"logits"})["logits"] for _ in range(2))
    assert not torch.equal(first, second)


def test_a_skeleton_is_run_on_a_batch_without_memory():
    """A dry run counts operations on it."""
    skeleton = handle(buckets=97).skeleton()
    made = HashedWords(97)(BATCH)
    assert all(p.is_meta for p in skeleton.parameters())
    assert skeleton(**{k: v.to("meta") for k, v in made.items()}).shape == (6, 2)


def test_a_table_of_text_gives_what_the_bag_takes():
    """Texts are a list in a batch."""
    batch = Table({"text": TEXTS, "y": BATCH["y"]}).batch(torch.tensor([3, 0]))
    assert handle(buckets=97).observe(batch, {"logits"})["logits"].shape == (2, 2)


@pytest.mark.parametrize(
    "bad", [{"classes": 0}, {"buckets": 1}, {"width": 0}, {"depth": -1}, {"dropout": 1.0}, {"dropout": -0.1}, {"dropout": float("nan")}]
)
def test_sizes_that_cannot_be_are_refused(bad):
    """Torch builds an embedding of no rows without complaint."""
    with pytest.raises(BadInput, match=r"bag\("):
        bag(**bad)
