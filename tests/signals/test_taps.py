"""Taps and the resolution of relative depth on models of several kinds."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel

from tutelage.errors import BadInput, UnknownTap
from tutelage.signals import Depth, Model
from tutelage.students import cnn, mlp

B = 3
IMAGES = {"id": torch.arange(B), "x": torch.linspace(-1, 1, B * 64).reshape(B, 1, 8, 8)}
TOKENS = {"id": torch.arange(B), "input_ids": torch.arange(B * 5).reshape(B, 5)}


def flat():
    """conv bn relu pool, twice, and a head."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn, self.conv2 = (
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x):
        return torch.relu(x + self.conv2(torch.relu(self.bn(self.conv1(x)))))


class Residual(nn.Module):
    """A stem, four residual blocks in two stages, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.stages = nn.Sequential(nn.Sequential(Block(2), Block(2)), nn.Sequential(Block(2), Block(2)))
        self.head = nn.Linear(2, 5)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


class Vit(nn.Module):
    """Patches, a class token, two encoder blocks with attention that gives a tuple."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(1, 6, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, 6))
        self.blocks = nn.ModuleList(VitBlock() for _ in range(2))
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class VitBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attention, self.mlp = (
            nn.LayerNorm(6),
            nn.MultiheadAttention(6, 2, batch_first=True),
            nn.Sequential(nn.Linear(6, 6), nn.GELU()),
        )

    def forward(self, x):
        y = self.norm(x)
        x = x + self.attention(y, y, y)[0]
        return x + self.mlp(x)


def bert(layers=2):
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=31, hidden_size=6, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=11, max_position_embeddings=7
        )
    )


MODELS = {
    "flat": (flat, IMAGES),
    "cnn": (lambda: cnn(width=2), IMAGES),
    "mlp": (lambda: mlp(width=4, depth=3), IMAGES),
    "residual": (Residual, IMAGES),
    "vit": (Vit, IMAGES),
    "bert": (bert, TOKENS),
}
each_model = pytest.mark.parametrize(("make", "batch"), MODELS.values(), ids=MODELS.keys())


@pytest.mark.parametrize("share", [0, -0.5, 1.001, 2, float("nan"), float("inf")])
def test_a_depth_outside_the_model_is_refused(share):
    """Depth(2) is a layer number by mistake."""
    with pytest.raises(BadInput, match=r"\(0, 1\]"):
        Depth(share)


def test_depths_are_taps_of_their_own():
    """They are keys of Signals and parts of needs: equal shares must be one tap."""
    assert Depth(0.5) == Depth(0.5)
    assert len({Depth(0.5), Depth(0.5), Depth(0.25)}) == 2
    assert str(Depth(0.25)) == "depth-0.25"


@pytest.mark.parametrize(
    ("make", "share", "path"),
    [
        (flat, 0.3, "2"),  # the activation after the convolution, not the pooling
        (flat, 2 / 3, "6"),
        (flat, 1.0, "9"),
        (lambda: cnn(width=2), 0.2, "blocks.0"),  # the block, not its ReLU
        (lambda: cnn(width=2), 0.4, "blocks.1"),
        (lambda: cnn(width=2), 0.8, "blocks"),  # after all blocks: the outermost
        (lambda: cnn(width=2), 1.0, "head"),
        (lambda: mlp(width=4, depth=3), 0.5, "4"),  # the second hidden layer's ReLU
        (lambda: mlp(width=4, depth=3), 0.75, "6"),
        (Residual, 0.5, "stages.0"),  # 5 of 10 weighted layers: the first stage, not its last block or convolution
        (Residual, 0.1, "stem"),
        (Residual, 0.3, "stages.0.0"),
        (Residual, 0.9, "stages"),
        (lambda: bert(4), 0.5, "bert.encoder.layer.1"),  # a whole layer, not a matrix inside one
        (Vit, 0.5, "blocks.0"),
        (Residual, 1.0, "head"),
    ],
)
def test_a_relative_depth_is_the_outermost_block_that_ends_there(make, share, path):
    """The default of every feature recipe: a tap inside a block, or after the pooling, is another hint layer."""
    assert Model(make()).path(Depth(share), TOKENS if "bert" in path else IMAGES) == path


@each_model
def test_depths_resolve_to_taps_that_exist_and_go_deeper_with_the_share(make, batch):
    """Whatever the family, a recipe's default must open its stage."""
    model = Model(make())
    trace = model.trace(batch)
    paths = [model.path(Depth(share), batch) for share in (0.01, 0.25, 0.5, 0.75, 0.99, 1.0)]
    depths = [trace.depth(p) for p in paths]
    assert depths == sorted(depths)
    assert depths[-2] < depths[-1] == 1.0
    shown = model.observe(batch, paths)
    assert all(len(s) == B for s in shown.values())


@each_model
def test_only_the_whole_depth_is_the_classifier(make, batch):
    """A hint at the logits is no hint."""
    model = Model(make())
    last = [model.path(Depth(share), batch) for share in (0.9, 0.99)]
    head = model.path(Depth(1.0), batch)
    assert head not in last
    assert model.observe(batch, {head})[head].shape == model.trace().logits


def test_depth_counts_layers_with_matrices_only():
    """Else activations and norms shift a student's half against its teacher's."""
    trace = Model(flat()).trace(IMAGES)
    assert trace.layers == 3
    assert [v.path for v in trace.visits if v.weighted] == ["0", "4", "9"]
    assert [v.layers for v in trace.visits] == [1, 1, 1, 1, 2, 2, 2, 2, 2, 3]
    assert [trace.depth(p) for p in ("2", "6", "9")] == pytest.approx([1 / 3, 2 / 3, 1])


def test_a_trace_tells_each_modules_first_call_in_the_order_in_which_they_finish():
    """`tutelage taps` prints it, and depths are resolved on it."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.unused, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 2))

        def forward(self, x):
            return self.head(self.layer(self.layer(x)))

    trace = Model(Shared()).trace({"id": torch.arange(B), "x": torch.zeros(B, 4)})
    assert [(v.path, v.kind, v.calls, v.leaf) for v in trace.visits] == [
        ("layer", "Linear", 2, True),
        ("head.0", "Linear", 1, True),
        ("head", "Sequential", 1, False),
    ]
    assert [tuple(v.shape) for v in trace.visits] == [(B, 4), (B, 2), (B, 2)]
    assert trace.logits == (B, 2)
    assert trace.layers == 2


def test_a_model_without_logits_has_depths_too():
    """An encoder may teach by its hidden states alone."""
    model = Model(BertModel(bert().config, add_pooling_layer=False))
    assert model.trace(TOKENS).logits is None
    path = model.path(Depth(1.0), TOKENS)
    assert model.observe(TOKENS, {Depth(1.0)})[Depth(1.0)].shape == (B, 5, 6)
    assert path.startswith("encoder")


def test_a_model_without_weighted_layers_has_no_depth():
    """The message asks for a path instead."""
    with pytest.raises(BadInput, match="name a module path"):
        Model(nn.Sequential(nn.ReLU(), nn.Flatten())).path(Depth(0.5), IMAGES)


def test_a_depth_needs_a_batch_once():
    """The order of modules is only known from a pass."""
    model = Model(flat())
    with pytest.raises(BadInput, match="has seen a batch"):
        model.path(Depth(0.5))
    model.trace(IMAGES)
    assert model.path(Depth(0.3)) == "2"
    assert model.path("6") == "6"


@pytest.mark.parametrize(
    ("asked", "nearest"), [("stem2", "stem"), ("stages.1.1.bn1", "stages.1.1.bn"), ("hea", "head"), ("logit", "logits")]
)
def test_an_unknown_path_is_refused_with_the_nearest(asked, nearest):
    """A tap that matches nothing must not be a loss term of nothing."""
    with pytest.raises(UnknownTap, match=f"'{asked}' is not in Residual; nearest: '{nearest}'. List all with: tutelage taps"):
        Model(Residual()).observe(IMAGES, {asked})


def test_an_unknown_path_with_nothing_near_suggests_nothing():
    """A wild guess misleads; the empty path is no tap either."""
    for asked in ("zzzzzz", ""):
        with pytest.raises(UnknownTap, match=r"is not in Residual\. List"):
            Model(Residual()).observe(IMAGES, {asked})
