"""Three hundred networks: what the formula says is what the gradient shows, in every one."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from wavenet.receptive_fields import receptive_field

random_networks = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).with_name("random_networks.py")))
)

N_NETWORKS = 300


@pytest.mark.slow
def test_formula_equals_gradient_in_300_random_networks_of_one_and_two_dimensions() -> None:
    finite, said_in_words, images = 0, [], 0
    for seed in range(N_NETWORKS):
        torch.manual_seed(seed)
        network, shape = random_networks.random_network(seed)
        images += len(shape) == 4
        try:
            field = receptive_field(network, input_shape=shape, method="trace", verify=True)
        except ValueError as error:
            said_in_words.append(f"seed {seed}: {error}")
            continue
        finite += field.is_finite
        assert field.is_finite or field.unbounded, seed
    assert images == N_NETWORKS // 3
    assert N_NETWORKS - finite <= N_NETWORKS // 20
    assert [words for words in said_in_words if "cannot trace" not in words] == []


def test_the_gradient_alone_measures_the_field_of_the_formula() -> None:
    compared = 0
    for seed in range(0, 40, 2):
        torch.manual_seed(seed)
        network, shape = random_networks.random_network(seed)
        by_formula = receptive_field(network, input_shape=shape, method="trace")
        measured = receptive_field(network, input_shape=shape, method="gradient")
        assert measured.samples == by_formula.samples, seed
        if measured.stride is not None and None not in (
            measured.stride if isinstance(measured.stride, tuple) else (measured.stride,)
        ):
            assert measured.stride == by_formula.stride, seed
            assert measured.look_back == by_formula.look_back, seed
            assert measured.look_ahead == by_formula.look_ahead, seed
            compared += 1
    assert compared >= 12
