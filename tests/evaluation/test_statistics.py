"""Means and their intervals."""

import sys

import numpy as np
import pytest

from wavenet.evaluation.statistics import Mean, mean_of


def test_the_interval_of_many_values_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = mean_of(list(values))
    assert found is not None
    assert found.mean == pytest.approx(values.mean())
    half = 1.96 * values.std(ddof=1) / 20
    assert found.low == pytest.approx(found.mean - half, abs=half / 10)
    assert found.high == pytest.approx(found.mean + half, abs=half / 10)


def test_the_same_values_have_the_same_interval() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    assert mean_of(values) == mean_of(values)


def test_no_interval_where_there_is_none() -> None:
    assert mean_of([]) is None
    assert mean_of([2.5]) == Mean(2.5, None, None, 1)
    assert mean_of([4.64] * 5) == Mean(4.64, 4.64, 4.64, 5)
    assert mean_of([0.0, 0.0]) == Mean(0.0, 0.0, 0.0, 2)


def test_without_scipy_there_are_means_without_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    assert mean_of([1.0, 2.0]) == Mean(1.5, None, None, 2)
