"""Search spaces: what is drawn lies in them, and stands for a net that can be built."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import BadInput
from tutelage.jobs.specs import divided, options_in, typed
from tutelage.randomness import generator
from tutelage.students import resnet as resnet_net
from tutelage.students import vit as vit_net
from tutelage.students.space import SPACES, Space, resnet, vit

SMALL = Space({"width": (4, 8), "norm": (True, False), "word": ("a", "b", "c")}, "cnn:width={width},norm={norm}")


def built(spec, **sizes):
    name, text = divided(spec)
    function = {"resnet": resnet_net, "vit": vit_net}[name]
    return function(**typed(options_in(text, spec), function, name), **sizes)


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_whatever_is_drawn_changed_or_crossed_can_be_built(name, seed):
    """A candidate that cannot be built would end a search in the middle of the night."""
    space = SPACES[name](**({"size": 14} if name == "vit" else {"widths": (3, 5), "blocks": (1, 2)}))
    draw = generator(seed)
    first, second = space.sample(draw), space.sample(draw)
    for each in (first, space.mutate(first, draw), space.cross(first, second, draw)):
        assert space.decode(space.encode(each)) == each
        net = built(space.written(each), **({"size": 14} if name == "vit" else {}))
        assert net(torch.rand(2, 1, 14, 14)).shape == (2, 10)


def test_a_mutation_changes_one_choice_and_a_cross_none_that_both_share():
    draw = generator(3)
    for _ in range(50):
        first, second = SMALL.sample(draw), SMALL.sample(draw)
        changed = SMALL.mutate(first, draw)
        assert sum(a != b for a, b in zip(SMALL.encode(first), SMALL.encode(changed), strict=True)) == 1
        child = SMALL.cross(first, second, draw)
        assert all(child[key] in (first[key], second[key]) for key in child)


def test_draws_are_even_and_repeat_by_seed():
    """A choice that is drawn more often than the others would pass for a good one."""
    draw = generator(0)
    drawn = [SMALL.sample(draw) for _ in range(1200)]
    for word in "abc":
        assert sum(each["word"] == word for each in drawn) == pytest.approx(400, abs=60)
    assert SMALL.sample(generator(5)) == SMALL.sample(generator(5))


def test_every_candidate_is_listed_once():
    listed = [SMALL.encode(each) for each in SMALL.every()]
    assert len(listed) == len(set(listed)) == SMALL.size == 12
    assert SMALL.written({"width": 4, "norm": True, "word": "a"}) == "cnn:width=4,norm=True"


def test_the_card_s_space_has_its_64_nets():
    space = resnet(blocks=(1, 3, 5, 7), widths=16, grows=2)
    assert len({space.written(each) for each in space.every()}) == 64
    assert space.written(next(space.every())) == "resnet:blocks=[1,1,1],widths=[16,32,64]"


def test_patches_cut_the_images():
    assert vit(size=8).choices["patch"] == [4, 2, 1]
    assert vit(size=28).choices["patch"] == [14, 7, 4, 2]
    assert vit(size=14, patches=[7]).choices["patch"] == [7]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space({}, "cnn"), "no choices"),
        (lambda: Space({"width": ()}, "cnn"), "expected a few values"),
        (lambda: Space({"width": "abc"}, "cnn"), "expected a few values"),
        (lambda: Space({"width": (4, 4)}, "cnn"), "each once"),
        (lambda: Space({"width": ([1],)}, "cnn"), "numbers or words"),
        (lambda: Space({"width": (4,)}, "cnn:width={with}"), "cannot write"),
        (lambda: Space({"width": (4,)}, lambda c: c["w"]), "cannot write"),
        (lambda: Space({"width": (4,)}, lambda c: 3), "expected a text"),
        (lambda: SMALL.encode({"width": 5, "norm": True, "word": "a"}), "is no candidate"),
        (lambda: resnet(blocks="x"), "numbers above 0"),
        (lambda: resnet(blocks=[]), "numbers above 0"),
        (lambda: resnet(widths=[0]), "numbers above 0"),
        (lambda: resnet(grows=[0.5]), "at least 1"),
        (lambda: resnet(stages=0), "1 to 8 stages"),
        (lambda: vit(size=8, patches=[3]), "expected some of"),
        (lambda: vit(size=1), "do not cut"),
        (lambda: vit(widths=[10], heads=[4]), "divide every width"),
    ],
)
def test_spaces_that_cannot_be_are_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()
