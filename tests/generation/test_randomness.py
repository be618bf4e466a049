"""The uniforms of a row depend on its seed and on time, and on nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from wavenet.generation.randomness import (
    UniformSource,
    row_seeds,
    shaped_uniforms,
    uniforms,
)

KNOWN = [
    [0.011546790599822998, 0.24154919385910034, 0.11142581701278687, 0.5644146800041199],
    [0.763846218585968, 0.1870625615119934, 0.7040374875068665, 0.999407947063446],
]
"""The first draws of seed 0, and draws 4096 to 4099 of seed 2**100 + 7."""


def test_every_uniform_lies_inside_the_open_interval() -> None:
    drawn = uniforms(0, 0, 2_000_000)
    assert drawn.dtype == np.float32
    assert 0 < drawn.min() < 1e-5
    assert 1 - 1e-5 < drawn.max() < 1
    # (k + 1/2) / 2**23: the half keeps the ends away, and float32 holds every one of them exactly.
    steps = drawn.astype(np.float64) * 2**23
    assert np.array_equal(steps % 1, np.full_like(steps, 0.5))


def test_uniforms_are_uniform_and_neither_time_nor_seeds_are_correlated() -> None:
    n = 200_000
    drawn = uniforms(5, 0, n).astype(np.float64)
    counts = np.histogram(drawn, bins=100, range=(0, 1))[0]
    chi_squared = float((((counts - n / 100) ** 2) / (n / 100)).sum())
    assert chi_squared < 150  # 99 degrees of freedom: beyond this in one of 1000 draws
    for other in (drawn[1:], uniforms(6, 0, n), uniforms(5, n, n)):
        correlation = np.corrcoef(drawn[: len(other)], other)[0, 1]
        assert abs(correlation) < 5 / n**0.5


def test_the_uniforms_of_a_seed_are_these_for_ever() -> None:
    """A published sound can be made again: these numbers may change with a new format alone."""
    assert uniforms(0, 0, 4).tolist() == KNOWN[0]
    assert uniforms(2**100 + 7, 4096, 4).tolist() == KNOWN[1]


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4, 7, 4095, 4096, 10_001])
def test_draws_do_not_depend_on_where_one_begins(first: int) -> None:
    whole = uniforms(3, 0, 12_000)
    for count in (0, 1, 5, 1000):
        assert np.array_equal(uniforms(3, first, count), whole[first : first + count])


@pytest.mark.parametrize("per_sample", [1, 2, 3])
@pytest.mark.parametrize("cut", [[1] * 50, [10_000], [4096, 4096, 1], [3, 4093, 4100, 7], [0, 5]])
def test_draws_do_not_depend_on_how_they_are_cut(per_sample: int, cut: list[int]) -> None:
    source = UniformSource([3, 9], per_sample)
    joined = torch.cat([source.take(n) for n in cut], dim=-1)
    n = sum(cut)
    assert joined.shape == (2, per_sample, n)
    for row, seed in enumerate((3, 9)):
        expected = uniforms(seed, 0, n * per_sample).reshape(n, per_sample).T
        assert np.array_equal(joined[row].numpy(), expected)


def test_a_row_takes_up_its_seed_at_its_own_time() -> None:
    later = UniformSource([3, 3, 4], 2, times=[0, 5, 4097]).take(6)
    for row, (seed, time) in enumerate([(3, 0), (3, 5), (4, 4097)]):
        whole = UniformSource([seed], 2).take(time + 6)
        assert torch.equal(later[row], whole[0, :, time:])


def test_a_row_does_not_depend_on_the_batch_it_stands_in() -> None:
    batch = UniformSource([8, 2, 2**80], 2).take(9)
    for row, seed in enumerate([8, 2, 2**80]):
        assert torch.equal(batch[row : row + 1], UniformSource([seed], 2).take(9))
    assert not torch.equal(batch[0], batch[1])


def test_numpys_and_torchs_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state()
    UniformSource(row_seeds(None, 2), 1).take(10)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("seed", "rows", "expected"),
    [
        (5, 3, [5, 6, 7]),
        (0, 1, [0]),
        ([4, 4, 1], 3, [4, 4, 1]),
        ((7,), 1, [7]),
        (np.int64(5), 2, [5, 6]),
        (2**127, 1, [2**127]),
    ],
)
def test_a_seed_counts_up_over_the_rows_and_a_list_is_taken_as_it_is(
    seed: int | Sequence[int], rows: int, expected: list[int]
) -> None:
    assert row_seeds(seed, rows) == expected


def test_no_seed_draws_another_one_each_time() -> None:
    first, second = row_seeds(None, 2), row_seeds(None, 2)
    assert first[1] == first[0] + 1
    assert first != second


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, "seed=-1 must not be negative"),
        ([1, -2], r"seed=\[1, -2\] must not be negative"),
        ([1, 2, 3], "seed has 3 values for 2 rows; give one int, or one per row"),
        ([1], "seed has 1 values for 2 rows"),
        (1.5, "seed=1.5 must be an integer, or one for each row"),
        ([1, 1.0], r"seed=\[1, 1.0\] must be an integer"),
        ("12", "seed='12' must be an integer"),
        (True, "seed=True must be an integer"),
        ([], r"seed=\[\] must be an integer"),
    ],
)
def test_wrong_seeds_are_named(seed: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row_seeds(seed, 2)


# --- noise shaping ---


@pytest.mark.parametrize("per_sample", [1, 2])
def test_shaping_filters_the_noise_of_the_last_uniform_and_leaves_the_others(
    per_sample: int,
) -> None:
    n, b = 10_000, 0.5
    plain = shaped_uniforms(4, 0, n, per_sample, 0.0)
    shaped = shaped_uniforms(4, 0, n, per_sample, b)
    assert np.array_equal(shaped[:, :-1], plain[:, :-1])
    assert shaped[0, -1] == plain[0, -1]
    normal = statistics.NormalDist()
    z = [normal.inv_cdf(float(u)) for u in plain[:, -1]]
    expected = [normal.cdf((z[t] - b * z[t - 1]) / (1 + b * b) ** 0.5) for t in range(1, n)]
    assert np.abs(shaped[1:, -1] - expected).max() <= 2.0**-23


def test_shaped_uniforms_are_uniform_and_have_the_correlation_of_the_filter() -> None:
    n, b = 200_000, 0.5
    shaped = shaped_uniforms(5, 0, n, 1, b)[:, 0].astype(np.float64)
    assert 0 < shaped.min() < shaped.max() < 1
    counts = np.histogram(shaped, bins=100, range=(0, 1))[0]
    assert float((((counts - n / 100) ** 2) / (n / 100)).sum()) < 150
    noise = torch.special.ndtri(torch.from_numpy(shaped)).numpy()
    for lag, expected in ((1, -b / (1 + b * b)), (2, 0.0), (3, 0.0)):
        assert np.corrcoef(noise[lag:], noise[:-lag])[0, 1] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("cut", [[1] * 50, [10_000], [4096, 4096, 1], [3, 4093, 4100, 7], [0, 5]])
def test_shaped_uniforms_do_not_depend_on_how_they_are_cut_or_where_one_begins(
    cut: list[int],
) -> None:
    whole = shaped_uniforms(9, 0, 15_000, 2, 0.7)
    for begin in (0, 1, 777, 4095, 4096):
        source = UniformSource([9], 2, [begin], shaping=0.7)
        joined = torch.cat([source.take(n) for n in cut], dim=-1)
        assert np.array_equal(joined[0].T.numpy(), whole[begin : begin + sum(cut)])


def test_seeds_of_rows_come_in_any_array() -> None:
    for given in ([3, 9], np.array([3, 9]), torch.tensor([3, 9]), [np.int64(3), torch.tensor(9)]):
        assert row_seeds(given, 2) == [3, 9]
    assert row_seeds(np.uint64(2**63 + 1), 2) == [2**63 + 1, 2**63 + 2]
    for wrong in (np.array([0.5]), torch.tensor([True]), np.array([])):
        with pytest.raises(ValueError, match="must be an integer, or one for each row"):
            row_seeds(wrong, 1)  # type: ignore[arg-type]
