"""wavenet.audio.resampling: a signal in blocks becomes what the whole signal does."""

from __future__ import annotations

import numpy as np
import torch

from wavenet.audio.resampling import BlockResampler, resample


def test_blocks_are_resampled_as_a_whole_is() -> None:
    x = np.random.default_rng(0).normal(size=(9000, 2)).astype(np.float32)
    resampler = BlockResampler(16000, 48000, 2)
    pieces = [resampler(part) for part in np.array_split(x, 7)]
    joined = np.concatenate([*pieces, resampler(x[:0], last=True)])
    whole = resample(torch.from_numpy(x.T.copy()), 16000, 48000).numpy().T
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=1e-5)
