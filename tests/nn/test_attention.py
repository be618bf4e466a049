"""Attention over a window is torch's attention with a banded mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet import CausalConv1d, CausalConvTranspose1d, Chain, receptive_field
from wavenet.nn import CausalAttention, LayerNorm, Residual
from wavenet.testing import check_causal


def direct(block: CausalAttention, x: Tensor) -> Tensor:
    """torch's MultiheadAttention of x after silence, with one mask for all times."""
    channels, heads, window = block.in_channels, block.heads, block.window_samples
    theirs = nn.MultiheadAttention(channels, heads, bias=True, batch_first=True, dtype=x.dtype)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(block.inputs.weight[..., 0])
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(block.output.weight[..., 0])
        theirs.out_proj.bias.copy_(block.output.bias)
    padded = F.pad(x, (window - 1, 0)).transpose(1, 2)
    time = torch.arange(padded.shape[1])
    distance = time[:, None] - time
    mask = torch.full((heads, *distance.shape), -torch.inf, dtype=x.dtype)
    for j in range(window):
        mask[:, distance == j] = block.distance_bias.detach()[:, j, None]
    mask = mask.repeat(len(x), 1, 1)
    y = theirs(padded, padded, padded, attn_mask=mask, need_weights=False)[0]
    return y[:, window - 1 :].transpose(1, 2)


@pytest.mark.parametrize(("window", "n"), [(1, 7), (4, 3), (4, 4), (4, 18), (9, 40)])
def test_windowed_attention_is_torchs_with_a_banded_mask(window: int, n: int) -> None:
    block = CausalAttention(6, 3, window).double()
    nn.init.normal_(block.distance_bias)
    x = torch.randn(2, 6, n, dtype=torch.float64)
    torch.testing.assert_close(block(x), direct(block, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [1, 2, 7, 30])
def test_windows_of_every_length_keep_the_law(window: int) -> None:
    check_causal(CausalAttention(4, 2, window))


def test_attention_at_a_lower_rate_reaches_back_by_its_window_there() -> None:
    body = Chain(LayerNorm(4), CausalAttention(4, 2, 5))
    net = Chain(
        CausalConv1d(1, 4, 2, stride=2), Residual(body), CausalConvTranspose1d(4, 1, 2, stride=2)
    )
    assert body.past == 4
    assert receptive_field(net).samples == net.past + 1 == 1 + 1 + 2 * 4 + 1
    check_causal(net)


def test_sizes_that_no_attention_has_are_refused() -> None:
    with pytest.raises(ValueError, match="heads=4 must divide channels=6"):
        CausalAttention(6, 4, 8)
    with pytest.raises(ValueError, match="window_samples=0 must be an integer of at least 1"):
        CausalAttention(6, 3, 0)
