"""The small language model: what a position may see, documents in one row, shapes and learning. Shapes: B=3, T=5, V=7."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.signals import Depth, Model
from tutelage.students import gpt

B, T, V = 3, 5, 7


def small(**options):
    torch.manual_seed(0)
    return gpt(**{"classes": V, "width": 12, "depth": 2, "heads": 3, "context": 8, **options})


def tokens(rng, *shape):
    return torch.randint(0, V, shape, generator=rng)


def moved(net, rng):
    """Away from the first weights, which are so small that little differs."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng)
    return net


def test_it_gives_logits_of_the_next_token_at_each_position(rng):
    assert small()(tokens(rng, B, T)).shape == (B, T, V)
    assert (gpt.takes, len(small().blocks)) == (("tokens",), 2)


def test_no_position_sees_those_after_it(rng):
    """A model that sees the token it shall predict has a loss of 0 and has learned nothing."""
    net, ids = moved(small(), rng), tokens(rng, B, T)
    before = net(ids)
    for place in range(T):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] + 1) % V
        after = net(changed)
        assert torch.equal(after[:, :place], before[:, :place])
        assert (after[:, place:] - before[:, place:]).abs().amax((0, 2)).min() > 1e-4  # and each sees all before it


def test_attention_equals_a_loop_over_positions(rng):
    """Written out, head by head, each position over itself and those before it."""
    attention = moved(small().blocks[0].attention, rng)
    x = torch.randn(B, T, 12, generator=rng)
    q, k, v = (part(x).reshape(B, T, 3, 4) for part in (attention.query, attention.key, attention.value))
    rows = torch.zeros(B, T, 3, 4)
    for b in range(B):
        for i in range(T):
            for n in range(3):
                scores = torch.stack([q[b, i, n] @ k[b, j, n] / math.sqrt(4) for j in range(i + 1)])
                rows[b, i, n] = (scores.softmax(0)[:, None] * v[b, : i + 1, n]).sum(0)
    torch.testing.assert_close(attention(x), attention.project(rows.flatten(2)), rtol=1e-4, atol=1e-5)


def test_documents_in_one_row_are_read_as_if_each_stood_alone(rng):
    """Packed, a document must neither see the one before it nor be told another place."""
    net, ids = moved(small(), rng), tokens(rng, 2, 5)
    places = torch.tensor([[0, 1, 0, 1, 2], [0, 1, 2, 3, 0]])
    packed = net(ids, places)
    for row, start, end in ((0, 0, 2), (0, 2, 5), (1, 0, 4), (1, 4, 5)):
        torch.testing.assert_close(packed[row, start:end], net(ids[row : row + 1, start:end])[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(ids, torch.arange(5).expand(2, 5)), net(ids), rtol=1e-4, atol=1e-5)


def test_padding_at_the_end_changes_nothing_before_it(rng):
    """A longer neighbour in the batch must not change what is said of a sample."""
    net, ids = moved(small(), rng), tokens(rng, B, T)
    padded = torch.cat([ids, torch.zeros(B, 3, dtype=torch.int64)], 1)
    torch.testing.assert_close(net(padded)[:, :T], net(ids), rtol=1e-4, atol=1e-5)


def test_columns_reach_it_by_name(rng):
    """A batch of packed documents has two input columns, a padded one a mask that it does without."""
    model, ids = Model(moved(small(), rng)), tokens(rng, B, T)
    batch = {"input_ids": ids, "id": torch.arange(B), "y": ids, "mask": ids >= 0}
    places = torch.tensor([[0, 1, 0, 1, 2]] * B)
    for more, expected in (
        ({}, model.module(ids)),
        ({"attention_mask": ids}, model.module(ids)),
        ({"position_ids": places}, model.module(ids, places)),
    ):
        assert torch.equal(model.observe({**batch, **more}, {"logits"})["logits"], expected)


def test_a_tied_head_is_the_embedding(rng):
    """Fewer parameters, and one gradient for both uses."""
    net = small(tied=True)
    assert net.head.weight is net.tokens.weight
    assert sum(p.numel() for p in small().parameters()) - sum(p.numel() for p in net.parameters()) == 12 * V
    net(tokens(rng, B, T)).square().sum().backward()
    assert net.tokens.weight.grad.abs().max() > 0


def test_every_parameter_gets_a_gradient(rng):
    """A layer that is built and not called is dead weight; but a bias of the keys is taken away by the softmax, up to rounding."""
    net = moved(small(), rng).double()
    net(tokens(rng, 16, 8)).square().sum().backward()
    largest = max(p.grad.abs().max() for p in net.parameters())
    for name, parameter in net.named_parameters():
        if not name.endswith("key.bias"):
            assert parameter.grad.abs().max() > 1e-6 * largest, name


def test_the_first_loss_is_that_of_a_fair_guess(rng):
    """First weights that are too large begin with confident nonsense: logits of variance 1 cost half a nat, tied ones nothing."""
    ids, y = tokens(rng, 2, 64, 8)
    for options, most in (({}, 0.8), ({"tied": True}, 0.02)):
        loss = F.cross_entropy(small(**options)(ids).flatten(0, 1), y.flatten()).item()
        assert loss == pytest.approx(math.log(V), abs=most)


def test_the_stream_does_not_grow_with_the_depth(rng):
    """Deep students would begin with larger logits than shallow ones."""
    sizes = []
    for depth in (1, 8):
        net, seen = small(width=24, depth=depth), []
        net.norm.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].std().item()))
        net(tokens(rng, 16, 8))
        sizes += seen
    assert sizes[1] < 2 * sizes[0]


def test_a_few_steps_learn_to_look_one_back(rng):
    """The next token is the one before the last: it cannot be told without attention."""
    net = small(width=24, depth=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    for _ in range(60):
        ids = tokens(rng, 32, 8)
        loss = F.cross_entropy(net(ids)[:, 1:].flatten(0, 1), ids[:, :-1].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * math.log(V)


def test_dropout_is_off_when_it_is_evaluated(rng):
    ids = tokens(rng, B, T)
    net = small(dropout=0.5)
    assert not torch.equal(net(ids), net(ids))
    net.eval()
    assert torch.equal(net(ids), net(ids))


def test_a_skeleton_has_the_parameters_of_the_net_and_its_depth_is_counted_in_blocks(rng):
    """A dry run says how large it is before it is built; hints are read between blocks."""
    skeleton = Model(small).skeleton()
    assert {n: p.shape for n, p in skeleton.named_parameters()} == {n: p.shape for n, p in small().named_parameters()}
    assert Model(small()).path(Depth(0.5), {"id": torch.arange(2), "input_ids": tokens(rng, 2, T)}).startswith("blocks.0")


def test_a_row_beyond_the_context_is_refused(rng):
    with pytest.raises(BadInput, match="context of 8 tokens and got 9; give it context=9"):
        small()(tokens(rng, B, 9))


@pytest.mark.parametrize(
    "bad", [{"classes": 0}, {"width": 0}, {"depth": 0}, {"heads": 0}, {"context": 0}, {"mlp_ratio": 0.0}, {"dropout": 1.0}, {"heads": 5}]
)
def test_sizes_that_cannot_be_are_refused(bad):
    with pytest.raises(BadInput, match="gpt"):
        small(**bad)
