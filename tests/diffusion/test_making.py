"""What generators study in place of images, and the pairs that a teacher makes."""

from __future__ import annotations

import pytest
import torch

from gaussians import moment, scaled
from tutelage.data import Data, Table
from tutelage.diffusion import Generator, blanks, ddim, made_by, pairs_of, shape_of
from tutelage.errors import BadInput
from tutelage.training import Run, RunOptions


class Secret(Table):
    """Images that nobody may look at."""

    def batch(self, positions, **how):
        raise AssertionError("an image was read")


def test_blanks_have_the_labels_and_the_length_of_the_data_and_no_image():
    columns = {"x": torch.rand(7, 1, 2, 2), "y": torch.tensor([0, 1, 1, 2, 0, 1, 2])}
    found = blanks(Data(Secret(columns), name="secret"))
    assert len(found) == 7
    assert torch.equal(found.labels(), columns["y"])
    assert set(found.batch(torch.tensor([0, 3]))) == {"id", "y"}
    assert blanks(Data(Table({"x": torch.rand(3, 1, 2, 2)}))).labels() is None


def test_a_shape_is_that_of_images():
    assert shape_of(Data(Table({"x": torch.rand(2, 3, 4, 5)}))) == (3, 4, 5)
    with pytest.raises(BadInput, match="holds no images"):
        shape_of(Data(Table({"x": torch.rand(2, 3)}), name="rows"))


def test_images_are_made_for_the_samples_of_a_step():
    generator = Generator(scaled(0.5), (500,))
    step = moment(2, id=torch.arange(4))
    x, label = made_by(generator, (1, 2, 2), gradient=True)(step)
    assert label is None
    noise = torch.randn(4, 1, 2, 2, generator=step.rng("making-0"))
    torch.testing.assert_close(x, generator([noise]))
    assert x.requires_grad
    again, _ = made_by(generator, (1, 2, 2), gradient=False)(step)
    assert not again.requires_grad
    torch.testing.assert_close(x.detach(), again)


def test_several_evaluations_are_all_met_and_only_the_last_has_gradients():
    """Half of the steps train the first evaluation, half the second, on what the first one made."""
    generator = Generator(scaled(0.5), (900, 300))
    stops = []
    for number in range(40):
        step = moment(number, id=torch.arange(3))
        x, _ = made_by(generator, (1, 2, 2), gradient=True)(step)
        generator.denoiser.model.module.rate.grad = None
        x.sum().backward()
        touched = generator.denoiser.model.module.rate.grad.nonzero().flatten().tolist()
        assert touched in ([900], [300])
        stops.append(touched[0])
    assert 8 < stops.count(300) < 32


def test_pairs_are_noises_and_the_ends_of_their_flows():
    teacher = scaled(0.6)
    action = pairs_of(teacher, (1, 2, 2), 5, 3, None, at_once=2)
    found = action.run(Run(None, seed=4, options=RunOptions(device="cpu", quiet=True)))
    torch.testing.assert_close(found["image"], ddim(teacher, found["noise"], 3))
    assert found["label"].tolist() == [-1] * 5
    again = pairs_of(teacher, (1, 2, 2), 5, 3, None).run(Run(None, seed=4, options=RunOptions(device="cpu", quiet=True)))
    torch.testing.assert_close(found["image"], again["image"])
