"""Connectors: shapes, kernel sizes, and the closed form of the best linear one. Shapes: B=3, T=5, D widths, C channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Size, nn
from torch.nn import functional as F

from tutelage.errors import ShapeMismatch
from tutelage.objectives import Match, grid_conv, mse, regressor, valid_conv
from tutelage.objectives.connectors import Connector, laid_out, pooled

B = 3


@pytest.mark.parametrize(
    ("student", "teacher", "kernel", "common"),
    [
        ((5, 7), (5, 7), (1, 1), (5, 7)),
        ((11, 13), (7, 5), (5, 9), (7, 5)),
        ((3, 5), (7, 11), (1, 1), (3, 5)),
        ((11, 3), (7, 5), (5, 1), (7, 3)),
    ],
    ids=["equal", "student larger", "student smaller", "mixed"],
)
@pytest.mark.parametrize("factory", [valid_conv, regressor])
def test_valid_conv_brings_maps_of_any_size_together(rng, factory, student, teacher, kernel, common):
    """Kernel = H_student - H_teacher + 1 (FitNets eq. 3); an off-by-one fails only when the hint stage opens."""
    student_shape, teacher_shape = Size((B, 2, *student)), Size((B, 7, *teacher))
    connector = factory()(student_shape, teacher_shape)
    assert connector.conv.kernel_size == kernel
    assert connector.conv.padding == (0, 0)
    goal = torch.randn(teacher_shape, generator=rng)
    assert connector(torch.randn(student_shape, generator=rng)).shape == (B, 7, *common)
    seen = connector.target(goal)
    assert seen.shape == (B, 7, *common)
    if common == teacher:
        assert seen is goal
    else:
        torch.testing.assert_close(seen, F.adaptive_avg_pool2d(goal, common))


def test_a_smaller_student_sees_the_teachers_map_averaged_by_cells():
    """Pooling by a factor of two is the mean of each 2x2 cell."""
    connector = valid_conv()(Size((1, 1, 1, 2)), Size((1, 1, 2, 4)))
    goal = torch.arange(8.0).reshape(1, 1, 2, 4)
    assert connector.target(goal).flatten().tolist() == [np.mean([0, 1, 4, 5]), np.mean([2, 3, 6, 7])]


@pytest.mark.parametrize("shapes", [((B, 2), (B, 2, 5, 5)), ((B, 2, 5, 5), (B, 5, 2))])
def test_valid_conv_refuses_what_is_no_map(shapes):
    """A vector has no height; the message names the connector that takes it."""
    with pytest.raises(ShapeMismatch, match=r"regressor\(\)"):
        valid_conv()(*map(Size, shapes))


@pytest.mark.parametrize(
    ("student", "teacher", "result"),
    [
        ((B, 2), (B, 7), (B, 7)),
        ((B, 5, 2), (B, 5, 7), (B, 5, 7)),
        ((B, 5, 2), (B, 11, 7), (B, 7)),
        ((B, 2, 5, 11), (B, 13, 7), (B, 7)),
        ((B, 13, 2), (B, 7, 5, 11), (B, 7)),
        ((B, 2, 5, 11), (B, 7), (B, 7)),
        ((B, 2), (B, 7, 5, 11), (B, 7)),
        ((B, 2), (B, 5, 7), (B, 7)),
    ],
    ids=["vectors", "tokens", "tokens of other length", "map-tokens", "tokens-map", "map-vector", "vector-map", "vector-tokens"],
)
def test_regressor_makes_any_two_sides_comparable(rng, student, teacher, result):
    """The width axis is the second of a map and the last of anything else; a swap fails on these primes."""
    connector = regressor()(Size(student), Size(teacher))
    own, goal = torch.randn(student, generator=rng), torch.randn(teacher, generator=rng)
    assert connector(own).shape == connector.target(goal).shape == result
    assert (connector.linear.in_features, connector.linear.out_features) == (2, 7)


def test_regressor_on_tokens_works_token_by_token(rng):
    """One shared linear map, or padding leaks into real tokens."""
    connector = regressor()(Size((B, 5, 2)), Size((B, 5, 7)))
    own = torch.randn(B, 5, 2, generator=rng)
    torch.testing.assert_close(connector(own)[1, 3], connector.linear(own[1, 3]))


@pytest.mark.parametrize("shape", [(B,), (B, 2, 3, 5, 7), ()])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_regressor_refuses_other_ranks_and_names_the_side(shape, side):
    """Which of two taps is wrong is what the user must know."""
    shapes = {"student": Size((B, 2)), "teacher": Size((B, 2)), side: Size(shape)}
    with pytest.raises(ShapeMismatch, match=side):
        regressor()(shapes["student"], shapes["teacher"])


def test_pooled_averages_positions_only(rng):
    """The mean over channels instead of space would leave one number a row."""
    maps, tokens, vectors = (torch.randn(s, generator=rng) for s in ((B, 2, 5, 7), (B, 5, 7), (B, 7)))
    np.testing.assert_allclose(pooled(maps).numpy(), maps.numpy().reshape(B, 2, 35).mean(2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pooled(tokens).numpy(), tokens.numpy().mean(1), rtol=1e-5, atol=1e-6)
    assert pooled(vectors) is vectors


def test_tokens_are_laid_out_row_by_row():
    """A transposed grid would teach the student the picture lying on its side."""
    size, patch = 12, 4
    image_BCHW = torch.arange(B * 2 * size * size, dtype=torch.float64).reshape(B, 2, size, size)
    tokens_BTD = F.unfold(image_BCHW, patch, stride=patch).transpose(1, 2)  # as a transformer cuts its patches
    first_pixels = image_BCHW[:, :, ::patch, ::patch]
    torch.testing.assert_close(laid_out(tokens_BTD)[:, [0, patch**2]], first_pixels)
    assert laid_out(first_pixels) is first_pixels


@pytest.mark.parametrize("student", ["tokens", "map"])
@pytest.mark.parametrize("teacher", ["tokens", "map"])
@pytest.mark.parametrize(("own", "goal"), [(3, 3), (5, 3), (3, 5)])
def test_grid_conv_is_valid_conv_of_what_was_laid_out(rng, student, teacher, own, goal):
    """Also where one side is the larger grid."""
    sides = [torch.randn(B, width, side, side, generator=rng) for width, side in ((2, own), (7, goal))]
    given = [x.flatten(2).transpose(1, 2) if kind == "tokens" else x for x, kind in zip(sides, (student, teacher), strict=True)]
    connector, plain = grid_conv()(*(x.shape for x in given)), valid_conv()(*(x.shape for x in sides))
    plain.load_state_dict(connector.on_maps.state_dict())
    torch.testing.assert_close(connector(given[0]), plain(sides[0]))
    torch.testing.assert_close(connector.target(given[1]), plain.target(sides[1]))
    assert connector(given[0]).shape == connector.target(given[1]).shape


def test_grid_conv_on_equal_grids_is_a_linear_map_token_by_token(rng):
    """Else neighbouring places leak into each other, and positions no longer teach."""
    connector = grid_conv()(Size((B, 9, 2)), Size((B, 9, 7)))
    own_BTD = torch.randn(B, 9, 2, generator=rng)
    linear = F.linear(own_BTD, connector.on_maps.conv.weight[:, :, 0, 0], connector.on_maps.conv.bias)
    torch.testing.assert_close(connector(own_BTD).flatten(2).transpose(1, 2), linear)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((B, 2), "tokens"), ((B, 2, 3, 5, 7), "tokens"), ((B, 10, 2), "class token"), ((B, 7, 2), "as a square")],
)
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_grid_conv_refuses_what_is_no_grid_and_names_the_side(shape, message, side):
    """A class token among the squares would shift all of them by one."""
    shapes = {"student": Size((B, 9, 2)), "teacher": Size((B, 9, 2)), side: Size(shape)}
    with pytest.raises(ShapeMismatch, match=f"{side}.*{message}|{message}.*{side}"):
        grid_conv()(shapes["student"], shapes["teacher"])


def test_a_plain_connector_leaves_the_teacher_as_it_is(rng):
    """Only connectors that must touch the teacher's tensor do."""
    goal = torch.randn(B, 2, generator=rng)
    assert Connector().target(goal) is goal


def trained(match, student, teacher, steps=100):
    """Minimise the match over its connector alone, with fixed features."""
    optimizer = torch.optim.LBFGS(
        match.parameters(), max_iter=steps, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = match({"h": student}, {"h": teacher}, {})
        loss.backward()
        return loss

    optimizer.step(closure)
    return match({"h": student}, {"h": teacher}, {}).item()


@pytest.mark.parametrize("shape", ["vectors", "maps"])
def test_the_best_regressor_for_fixed_features_equals_least_squares(rng, shape):
    """The FitNets card: stage 1 on frozen features is a linear regression; a regressor that stays above it is wired wrongly."""
    if shape == "vectors":
        student, teacher = torch.randn(31, 2, dtype=torch.float64, generator=rng), torch.randn(31, 7, dtype=torch.float64, generator=rng)
        rows, goals = student, teacher
    else:
        student = torch.randn(11, 2, 3, 3, dtype=torch.float64, generator=rng)
        teacher = torch.randn(11, 7, 2, 2, dtype=torch.float64, generator=rng)
        rows = F.unfold(student, 2).movedim(1, 2).flatten(0, 1)
        goals = teacher.flatten(2).movedim(1, 2).flatten(0, 1)
    match = Match("h", by=mse(), through=regressor())
    match.build({"h": student.shape}, {"h": teacher.shape})
    match.double()
    A = np.concatenate([rows.numpy(), np.ones((len(rows), 1))], 1)
    solution, *_ = np.linalg.lstsq(A, goals.numpy(), rcond=None)
    best = np.mean((A @ solution - goals.numpy()) ** 2)
    assert trained(match, student, teacher) == pytest.approx(best, rel=1e-6)


@pytest.fixture
def hint(rng):
    """A match whose regressor is the identity on 5 channels."""
    match = Match("h", by=mse(), through=valid_conv())
    features = torch.randn(B, 5, 2, 7, dtype=torch.float64, generator=rng)
    match.build({"h": features.shape}, {"h": features.shape})
    nn.init.dirac_(match.connector.conv.weight)
    nn.init.zeros_(match.connector.conv.bias)
    return match.double(), features


def test_an_identical_prefix_and_an_identity_regressor_give_no_loss(hint):
    """The FitNets card: a student that already has the hint has nothing to learn."""
    match, features = hint
    assert match({"h": features}, {"h": features}, {}).item() == 0


def test_the_hint_loss_scales_with_the_square_of_hint_and_regressor(hint, rng):
    """The FitNets card: k times the hint with k times the regressor is k^2 times the loss."""
    match, features = hint
    teacher = torch.randn(features.shape, dtype=torch.float64, generator=rng)
    before = match({"h": features}, {"h": teacher}, {}).item()
    with torch.no_grad():
        for p in match.parameters():
            p.mul_(3)
    assert match({"h": features}, {"h": 3 * teacher}, {}).item() == pytest.approx(9 * before)
    assert before > 0
