"""The streaming transform is torch.stft's, and its inverse gives the signal back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wavenet.nn import CausalISTFT, CausalSTFT, Chain
from wavenet.testing import check_causal

LENGTHS = pytest.mark.parametrize(
    ("n_fft", "hop_samples", "win_samples"), [(16, 4, 12), (16, 3, 10), (8, 4, 8), (16, 5, 16)]
)


def noise(n: int) -> Tensor:
    """``[2, 1, n]``, always the same."""
    return torch.randn(2, 1, n, generator=torch.Generator().manual_seed(3))


@LENGTHS
def test_both_keep_the_contract(n_fft: int, hop_samples: int, win_samples: int) -> None:
    for first_sample in (0, -3):
        check_causal(
            CausalSTFT(n_fft, hop_samples, win_samples=win_samples, first_sample=first_sample)
        )
    check_causal(CausalISTFT(n_fft, hop_samples, win_samples=win_samples))


@LENGTHS
@pytest.mark.parametrize("first_sample", [0, -2, -7])
def test_magnitudes_are_those_of_torch_stft(
    n_fft: int, hop_samples: int, win_samples: int, first_sample: int
) -> None:
    block = CausalSTFT(n_fft, hop_samples, win_samples=win_samples, first_sample=first_sample)
    x = noise(30 * hop_samples)
    real, imaginary = block(x).chunk(2, dim=1)
    left = (n_fft - win_samples) // 2  # torch puts a short window in the middle of n_fft
    window = torch.hann_window(win_samples)
    padded = torch.nn.functional.pad(x[:, 0], (left - first_sample, n_fft))
    expected = torch.stft(
        padded, n_fft, hop_samples, win_samples, window, center=False, return_complex=True
    ).abs()
    n = real.shape[-1] - block.delay_frames
    found = torch.complex(real, imaginary).abs()[..., block.delay_frames :]
    torch.testing.assert_close(found, expected[..., :n], atol=1e-5, rtol=1e-4)


@LENGTHS
def test_transform_and_inverse_are_a_delay(n_fft: int, hop_samples: int, win_samples: int) -> None:
    stft = CausalSTFT(n_fft, hop_samples, win_samples=win_samples)
    istft = CausalISTFT(n_fft, hop_samples, win_samples=win_samples)
    x = noise(30 * hop_samples)
    y, delay = Chain(stft, istft)(x), istft.delay_samples_behind(stft)
    torch.testing.assert_close(y[..., delay:], x[..., :-delay], atol=1e-5, rtol=1e-4)


def test_the_delay_is_a_window_rounded_up_to_whole_hops() -> None:
    assert CausalSTFT(1024, 200, win_samples=800).history_samples == 800


@pytest.mark.parametrize("state", [None, (), [torch.zeros(2, 1, 10)], (torch.zeros(2, 1, 9),)])
def test_a_state_of_another_kind_is_refused(state: object) -> None:
    with pytest.raises(ValueError, match=r"state = block\.init_state\(2\)"):
        CausalSTFT(8, 2, win_samples=6).stream(noise(4), state)  # type: ignore[arg-type]


def test_half_precision_is_transformed_in_single_precision() -> None:
    block = CausalSTFT(8, 2, win_samples=6)
    x = noise(40)
    half = block(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), block(x), atol=0.05, rtol=0.02)


def test_windows_that_hardly_overlap_have_no_inverse() -> None:
    with pytest.raises(ValueError, match="hop_samples=8 leaves samples"):
        CausalISTFT(8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_fft": 7, "hop_samples": 2}, "n_fft=7 must be even"),
        ({"n_fft": 8, "hop_samples": 0}, "hop_samples=0"),
        ({"n_fft": 8, "hop_samples": 2, "win_samples": 9}, "win_samples=9 must be at most"),
        ({"n_fft": 8, "hop_samples": 2, "first_sample": 1}, "first_sample=1 must be within -7"),
    ],
)
def test_wrong_lengths_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CausalSTFT(**arguments)


def test_the_transform_and_its_inverse_are_mapped_over_rows_by_vmap() -> None:
    chain, x = Chain(CausalSTFT(16, 4), CausalISTFT(16, 4)), torch.randn(3, 1, 32)
    rows = torch.func.vmap(lambda row: chain(row[None])[0])(x)
    torch.testing.assert_close(rows, chain(x))
