"""Upsampling of frames: linear, the same for every channel, and aligned with the frames."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from wavenet.nn import (
    FrameEncoder,
    FrameLift,
    SpeakerEmbedding,
    TransposedUpsamplingEncoder,
    UpsamplingEncoder,
)

EXACT = 1e-12


def test_a_lift_interpolates_between_the_centres_of_frames() -> None:
    frames = torch.tensor([[[10.0, 20.0, 60.0]]])
    lifted = FrameLift(4)(frames)[0, 0].tolist()  # centres at samples 2, 6, 10
    assert lifted == [10, 10, 10, 12.5, 15, 17.5, 20, 30, 40, 50, 60, 60]
    from_the_start = FrameLift(4, centre_samples=0)(frames)[0, 0].tolist()
    assert from_the_start == [10, 12.5, 15, 17.5, 20, 30, 40, 50, 60, 60, 60, 60]
    assert FrameLift(1)(frames)[0, 0].tolist() == [10, 20, 60]


@pytest.mark.parametrize("hop_samples", [1, 2, 5, 80, 200, 256])
def test_a_lift_has_weights_that_sum_to_one_and_is_exact_at_the_centres(hop_samples: int) -> None:
    for centre in {0, hop_samples // 2, hop_samples}:
        lift = FrameLift(hop_samples, centre_samples=centre)
        assert torch.allclose(lift.weights.sum(0), torch.ones(hop_samples))
        frames = torch.randn(2, 3, 7)
        lifted = lift(frames)
        assert lifted.shape == (2, 3, 7 * hop_samples)
        at_centres = lifted[..., centre::hop_samples]
        assert torch.allclose(at_centres, frames[..., : at_centres.shape[-1]], atol=1e-6)


def test_a_lift_commutes_with_a_projection_of_the_channels() -> None:
    lift, projection = FrameLift(5).double(), nn.Conv1d(3, 6, 1, bias=False).double()
    frames = torch.randn(2, 3, 8, dtype=torch.float64)
    difference = projection(lift(frames)) - lift(projection(frames))
    assert float(difference.detach().abs().max()) < EXACT


def test_a_lift_cuts_to_the_samples_asked_for_and_refuses_more_than_there_are() -> None:
    lift, frames = FrameLift(4), torch.randn(1, 2, 3)
    assert torch.equal(lift(frames, 9), lift(frames)[..., :9])
    with pytest.raises(ValueError, match="3 frames of 4 samples describe 12 samples, but 13 were"):
        lift(frames, 13)


def test_a_lift_keeps_the_type_of_the_frames() -> None:
    for dtype in (torch.bfloat16, torch.float64):
        assert FrameLift(4)(torch.randn(1, 2, 3, dtype=dtype)).dtype == dtype


def test_a_lift_has_nothing_to_store() -> None:
    assert FrameLift(4).state_dict() == {}


def test_a_centre_outside_of_the_hop_is_refused() -> None:
    with pytest.raises(ValueError, match="centre_samples=5 must be within the hop, 0 to 4"):
        FrameLift(4, centre_samples=5)
    with pytest.raises(ValueError, match="hop_samples=0 must be an integer of at least 1"):
        FrameLift(0)


@pytest.mark.parametrize("context", [0, 1, 2])
def test_an_encoder_has_its_context_on_both_sides(context: int) -> None:
    encoder = FrameEncoder(3, 5, context=context).double()
    frames = torch.randn(1, 3, 11, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(frames)[0, :, 5].sum(), frames)
    nonzero = gradient[0].abs().sum(0).nonzero().flatten().tolist()
    assert nonzero == list(range(5 - context, 6 + context))


def test_an_encoder_keeps_the_number_of_frames_and_takes_a_single_one() -> None:
    encoder = FrameEncoder(3, 5)
    for n_frames in (1, 2, 9):
        assert encoder(torch.randn(2, 3, n_frames)).shape == (2, 5, n_frames)


def test_an_encoder_repeats_the_outermost_frame() -> None:
    encoder = FrameEncoder(3, 5)
    frames = torch.randn(1, 3, 4)
    longer = torch.cat([frames[..., :1]] * 2 + [frames] + [frames[..., -1:]] * 2, dim=-1)
    assert torch.allclose(encoder(longer)[..., 2:-2], encoder(frames), atol=1e-6)


def test_a_speaker_is_one_column_of_the_table() -> None:
    embedding = SpeakerEmbedding(4, 6)
    column = embedding(torch.tensor([3, 0]))
    assert column.shape == (2, 6, 1)
    assert torch.equal(column[..., 0], embedding.table.weight[[3, 0]])


@pytest.mark.parametrize("wrong", [-1, 4])
def test_a_speaker_outside_of_the_table_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"speaker=\[0, {wrong}\] must be within 0 to 3"):
        SpeakerEmbedding(4, 6)(torch.tensor([0, wrong]))


# --- upsampling in steps ------------------------------------------------------------------------


def test_smoothing_kernels_with_one_tap_hold_each_frame() -> None:
    encoder = UpsamplingEncoder(2, 3, [2, 3])
    with torch.no_grad():
        encoder.conv.weight.copy_(torch.eye(2)[..., None])
        for smoothing in encoder.smoothings:
            smoothing.weight.zero_()
            smoothing.weight[..., smoothing.weight.shape[-1] // 2] = 1
        frames = torch.randn(4, 2, 5)
        samples = encoder(frames)
    assert torch.equal(samples[:, :2], frames.repeat_interleave(6, dim=-1))
    assert torch.equal(samples[:, 2], torch.zeros(4, 30))  # free for what else there is


@pytest.mark.parametrize(
    ("scales", "context", "reach"),
    [([4, 4, 4, 4], 2, 4), ([5, 4], 0, 2), ([7], 1, 2), ([], 3, 3), ([1, 1], 0, 2)],
)
def test_the_context_of_an_upsampling_is_the_range_of_frames_that_depend_on_a_frame(
    scales: list[int], context: int, reach: int
) -> None:
    encoder = UpsamplingEncoder(1, 1, scales, context=context).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(1)  # nothing cancels
        frames = torch.zeros(1, 1, 15, dtype=torch.float64)
        frames[..., 7] = 1
        hop = math.prod(scales)
        nonzero = encoder(frames)[0, 0].reshape(15, hop).sum(dim=1).nonzero().flatten().tolist()
    assert encoder.context == reach
    assert nonzero == list(range(7 - reach, 8 + reach))


@torch.no_grad()
def test_samples_of_a_transposed_upsampling_depend_on_their_own_frame_alone() -> None:
    encoder = TransposedUpsamplingEncoder(2, 3, [2, 3], band_kernel_size=3)
    frames = torch.rand(4, 2, 5)
    samples = encoder(frames)
    assert samples.shape == (4, 3, 30)
    assert float(samples.min()) >= 0  # each step ends in a ReLU
    assert torch.equal(samples[:, 2], torch.zeros(4, 30))
    frames[..., 3] += 1
    changed = (encoder(frames) != samples).any(dim=1).any(dim=0).nonzero().flatten().tolist()
    assert set(changed) <= set(range(18, 24))
    assert encoder.context == 0
