"""``MelRefinement`` keeps the contract of causal blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wavenet import MelConfig, MelRefinement
from wavenet.nn import State, map_state
from wavenet.testing import check_causal

SMALL = {"n_fft": 16, "win_samples": 8, "hop_samples": 2, "n_mels": 3}
CONFIGS: list[dict[str, object]] = [
    {},
    {"padding": "center"},
    {"power": 2.0, "log": "log10"},
    {"power_epsilon": 1e-3},
    {"win_samples": 7},
    {"win_samples": 4},
    {"win_samples": 16},
]


@pytest.mark.parametrize(
    ("changes", "passes"), [*((changes, 2) for changes in CONFIGS), ({}, 1), ({}, 4)]
)
def test_the_contract_is_kept(changes: dict[str, object], passes: int) -> None:
    config = MelConfig.from_dict({**MelConfig().to_dict(), **SMALL, **changes})
    check_causal(MelRefinement(config, passes))


def example(n_hops: int) -> tuple[MelRefinement, Tensor, Tensor]:
    """A block, ``[2, 1, T]`` and a target ``[2, 3, n_hops]``."""
    generator = torch.Generator().manual_seed(1)
    block = MelRefinement(MelConfig(**SMALL), 3)  # type: ignore[arg-type]
    x = 0.1 * torch.randn(2, 1, 2 * n_hops, generator=generator)
    return block, x, torch.randn(2, 3, n_hops, generator=generator) - 3


def test_a_target_may_be_held_as_one_column() -> None:
    block, x, frames = example(20)
    held = block(x, frames[..., :1])
    assert torch.equal(held, block(x, frames[..., :1].expand(-1, -1, x.shape[-1])))


def test_a_state_of_another_kind_is_refused() -> None:
    block, x, frames = example(2)
    right = block.init_state(2)
    longer = map_state(lambda part: torch.nn.functional.pad(part, (0, 1)), right)
    wrong: list[object] = [None, (), [*right], right[:1], block.init_state(3), longer]
    for state in wrong:
        with pytest.raises(ValueError, match=r"state = block\.init_state\(2\)"):
            block.stream_frames(x, state, frames)  # type: ignore[arg-type]


def test_silence_stays_silence_and_its_state_stays() -> None:
    block, _, frames = example(1)
    cond, state = frames, block.warm_state(2, frames)
    y, after = block.stream(torch.zeros(2, 1, 2), state, cond)
    assert float(y.abs().max()) == 0

    def same(one: State, other: State) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    assert same(after, state)


def test_half_precision_is_refined_in_single_precision() -> None:
    block, x, frames = example(30)
    half = block.stream_frames(
        x.bfloat16(), block.init_state(2, dtype=torch.bfloat16), frames.bfloat16()
    )[0]
    whole = block.stream_frames(x, block.init_state(2), frames)[0]
    assert half.dtype == torch.bfloat16
    assert float((half.float() - whole).abs().max()) < 0.05 * float(whole.abs().max())


def test_passes_must_be_at_least_one() -> None:
    with pytest.raises(ValueError, match="passes=0"):
        MelRefinement(MelConfig(), 0)
