"""Built-in students: what all of them keep, and the two plain ones. A file of its own tests what is special to each other family."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tutelage import students
from tutelage.errors import BadInput
from tutelage.signals import Depth, Model
from tutelage.students import bag, cnn, depthwise, mixer, mlp, resnet, vgg, vit, wide_resnet

B = 3

SMALL = {
    "cnn": (cnn, {"width": 4}),
    "depthwise": (depthwise, {"multiplier": 0.125}),
    "mixer": (mixer, {"width": 10, "depth": 2}),
    "resnet": (resnet, {"depth": 8, "width": 4}),
    "vgg": (vgg, {"depth": 11, "width": 3}),
    "vit": (vit, {"width": 12, "depth": 2}),
    "wide_resnet": (wide_resnet, {"depth": 10, "widen": 1}),
}
each_family = pytest.mark.parametrize("family", SMALL)


def small(family, size=8, **options):
    """A small net of a family for images of a size."""
    function, defaults = SMALL[family]
    sized = {"size": size} if "size" in inspect.signature(function).parameters else {}
    torch.manual_seed(0)
    return function(**{**defaults, **sized, **options})


def kinds(net, kind):
    return [m for m in net.modules() if isinstance(m, kind)]


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("depth", "pools"), [(1, 0), (2, 1), (3, 2), (4, 1), (5, 3), (7, 0)])
@pytest.mark.parametrize(("channels", "classes"), [(1, 7), (3, 2)])
def test_cnn_gives_logits_and_has_the_layers_it_was_asked_for(rng, channels, classes, depth, pools, norm):
    """Width doubles after each pooling; a block too many is another student than the one in the table."""
    net = cnn(classes=classes, channels=channels, width=5, depth=depth, pools=pools, norm=norm)
    assert net(torch.randn(B, channels, 8, 8, generator=rng)).shape == (B, classes)
    convolutions = kinds(net, nn.Conv2d)
    assert len(convolutions) == depth
    assert len(kinds(net, nn.MaxPool2d)) == pools
    assert len(kinds(net, nn.BatchNorm2d)) == (depth if norm else 0)
    assert all((c.bias is None) == norm for c in convolutions)
    assert (convolutions[0].out_channels, convolutions[-1].out_channels) == (5, 5 * 2**pools)
    width = 5
    for block in net.blocks:
        assert block[0].out_channels == width
        width *= 2 if isinstance(block[-1], nn.MaxPool2d) else 1


@pytest.mark.parametrize("size", [(8, 8), (11, 13), (28, 28)])
def test_cnn_takes_images_of_any_size(rng, size):
    """Global average pooling makes the head independent of the image."""
    assert cnn(width=2)(torch.randn(B, 1, *size, generator=rng)).shape == (B, 10)


@pytest.mark.parametrize("bad", [{"classes": 0}, {"channels": 0}, {"width": 0}, {"depth": 0}, {"pools": -1}, {"depth": 2, "pools": 2}])
def test_cnn_refuses_sizes_that_cannot_be(bad):
    """Torch builds a layer of no channels without complaint."""
    with pytest.raises(BadInput, match="cnn"):
        cnn(**bad)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("depth", [1, 3])
def test_mlp_gives_logits_over_flattened_inputs(rng, depth, dropout):
    """Images and vectors alike."""
    net = mlp(classes=7, inputs=30, width=11, depth=depth, dropout=dropout)
    assert net(torch.randn(B, 30, generator=rng)).shape == net(torch.randn(B, 2, 3, 5, generator=rng)).shape == (B, 7)
    assert [(m.in_features, m.out_features) for m in kinds(net, nn.Linear)] == [(30, 11), *[(11, 11)] * (depth - 1), (11, 7)]
    assert [m.p for m in kinds(net, nn.Dropout)] == ([dropout] * depth if dropout else [])


@pytest.mark.parametrize(
    "bad", [{"classes": 0}, {"inputs": 0}, {"width": 0}, {"depth": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"dropout": float("nan")}]
)
def test_mlp_refuses_sizes_that_cannot_be(bad):
    """A dropout of 1 leaves nothing to learn from."""
    with pytest.raises(BadInput, match="mlp"):
        mlp(**bad)


def test_the_families_here_are_all_that_take_images():
    """A family that is left out of this list is tested by nobody."""
    assert {name for name in students.__all__ if "images" in getattr(students, name).takes} == {*SMALL, "mlp", "unet"}
    assert (cnn.takes, mlp.takes, bag.takes) == (("images",), ("images", "numbers"), ("text",))


@each_family
@pytest.mark.parametrize(("size", "channels", "classes"), [(8, 1, 7), (28, 1, 2), (32, 3, 11), (64, 3, 5)])
def test_images_of_many_sizes_give_logits(rng, family, size, channels, classes):
    """From digits to small photographs, grey and in colour."""
    net = small(family, size, channels=channels, classes=classes)
    assert net(torch.rand(2, channels, size, size, generator=rng)).shape == (2, classes)


@each_family
def test_an_evaluated_sample_does_not_depend_on_its_neighbours(rng, family):
    """Or an accuracy would change with the batch size it is measured at."""
    net, x = small(family), torch.rand(5, 1, 8, 8, generator=rng)
    for _ in range(3):
        net(x)  # so that norms have statistics of their own
    net.eval()
    with torch.no_grad():
        together, alone = net(x), torch.cat([net(row[None]) for row in x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-4


@pytest.mark.parametrize("family", [*SMALL, "mlp"])
def test_every_parameter_of_a_student_gets_a_gradient(rng, family):
    """A layer that is built and not called is dead weight in the file and in the table."""
    net = mlp(inputs=64) if family == "mlp" else small(family)
    with torch.no_grad():
        for parameter in net.parameters():  # away from the first weights, where a gain of 1 and a shift of 0 may cancel with the next norm
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    net(torch.randn(16, 1, 8, 8, generator=rng)).square().sum().backward()
    largest = max(p.grad.abs().max() for p in net.parameters() if p.grad is not None)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-5 * largest, name  # relative, so that what only rounding leaves does not count


@each_family
def test_a_few_steps_learn_a_few_images_by_heart(rng, family):
    """First weights or a block that stop learning would show here."""
    net, x, y = small(family), torch.rand(8, 1, 8, 8, generator=rng), torch.arange(8) % 3
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@each_family
def test_a_skeleton_needs_no_memory_and_has_the_parameters_of_the_net(family):
    """A dry run says how large a net is before any of it is built."""
    skeleton, net = Model(lambda: small(family)).skeleton(), small(family)
    assert skeleton is not None
    assert {n: p.shape for n, p in skeleton.named_parameters()} == {n: p.shape for n, p in net.named_parameters()}
    assert all(p.is_meta for p in skeleton.parameters())


@each_family
def test_the_first_weights_are_a_function_of_the_seed(family):
    """Two runs of one seed must begin at the same place."""

    def weights(seed):
        return torch.cat([p.detach().flatten() for p in Model(lambda: SMALL[family][0](**SMALL[family][1]), seed=seed).module.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


BLOCKS = {
    "depthwise": "stages.2.0",
    "mixer": "blocks.0",
    "resnet": "stages.0",
    "vgg": "stages.2",
    "vit": "blocks.0",
    "wide_resnet": "stages.1",
}


@pytest.mark.parametrize(("family", "block"), BLOCKS.items(), ids=BLOCKS.keys())
def test_half_the_depth_of_a_family_is_the_end_of_a_block(rng, family, block):
    """A hint is read between blocks, where the residual stream is whole."""
    batch = {"id": torch.arange(2), "x": torch.rand(2, 1, 8, 8, generator=rng)}
    assert Model(small(family)).path(Depth(0.5), batch) == block
