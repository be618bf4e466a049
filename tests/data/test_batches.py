"""wavenet.data.batches: who computes what has nothing to do with what a step sees."""

from __future__ import annotations

import numpy as np
import pytest

from wavenet.data import Batches, Corpus, Utterance, WindowPlan, Windows


@pytest.fixture
def windows() -> Windows:
    """20 windows of 100 samples, from recordings that are in part shorter."""
    draw = np.random.default_rng(0)
    lengths = [30, 70, 150, 400]
    parts = [Utterance(str(n), draw.integers(-99, 99, n, dtype=np.int16), "") for n in lengths]
    plan = WindowPlan(length=100, warm_up=10, hop=1, context_frames=0, mel=None, speakers=())
    return Windows(Corpus(tuple(parts), 8000), plan, n_windows=20, seed=0)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("per_step", [1, 2])
def test_a_step_sees_its_windows_once_each_however_they_are_dealt(
    windows: Windows, processes: int, per_step: int
) -> None:
    dealt = [
        Batches(windows, 6, per_step=per_step, process=i, processes=processes)
        for i in range(processes)
    ]
    assert {len(batches) for batches in dealt} == {3 * per_step}
    for step in range(3):
        turns = range(step * per_step, (step + 1) * per_step)
        seen = [i for batches in dealt for turn in turns for i in batches.indices(turn)]
        assert sorted(seen) == list(range(6 * step, 6 * step + 6))


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("per_step", [1, 2])
def test_the_parts_of_a_step_weigh_its_samples_alike(
    windows: Windows, processes: int, per_step: int
) -> None:
    """The mean over parts of (sum / samples) is the sum over the step divided by its samples."""
    (whole,) = (Batches(windows, 20)[i] for i in range(1))
    inside = whole["mask"][:, 0, -100:]
    assert inside.sum() == whole["samples"] < 20 * 100
    expected = (whole["x"][:, 0, -100:] * inside).sum() / inside.sum()
    parts = [
        Batches(windows, 20, per_step=per_step, process=i, processes=processes)[turn]
        for i in range(processes)
        for turn in range(per_step)
    ]
    means = [
        float((part["x"][:, 0, -100:] * part["mask"][:, 0, -100:]).sum() / part["samples"])
        for part in parts
    ]
    assert np.mean(means) == pytest.approx(float(expected), rel=1e-5)  # sums in float32


def test_a_part_without_a_window_is_an_error_with_the_number_needed(
    windows: Windows,
) -> None:
    with pytest.raises(ValueError, match="batch_size=3 leaves a part .* 2 processes in 2 .* to 4"):
        Batches(windows, 3, per_step=2, processes=2)


def test_batches_end_with_the_last_whole_step(windows: Windows) -> None:
    batches = Batches(windows, 6, per_step=2)
    for index in (-1, 6):
        with pytest.raises(IndexError, match=f"index={index} must be within 0 to 5"):
            batches[index]
