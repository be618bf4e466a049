"""wavenet.training.muon: orthogonal updates for matrices, Adam's for the rest."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from training_runs import SMALL, checkpoint_bits

import wavenet
from wavenet.training import ConfigError, TrainingConfig
from wavenet.training.muon import RMS, Muon, orthogonal, split_parameters
from wavenet.training.run import train
from wavenet.training.schedule import make_optimizer


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 80), (2, 128, 24)])
def test_singular_values_end_near_1_and_their_vectors_stay(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    diagonal = u.mT @ orthogonal(matrices) @ v.mT  # in the basis of the singular vectors
    values = diagonal.diagonal(dim1=1, dim2=2)
    large = values[s > 0.005 * s.norm(dim=1, keepdim=True)]
    assert len(large) >= 16
    assert float(large.min()) > 0.65
    assert float(values.max()) < 1.25
    assert float((diagonal - torch.diag_embed(values)).abs().max()) < 1e-4


def test_the_scale_of_a_gradient_does_not_matter_and_zeros_stay_zeros() -> None:
    matrices = torch.randn(1, 20, 30)
    assert torch.allclose(orthogonal(matrices * 1e-6), orthogonal(matrices), atol=1e-5)
    assert not orthogonal(torch.zeros(1, 20, 30)).any()


def test_an_update_of_a_matrix_is_as_large_as_one_of_adam() -> None:
    weight = nn.Parameter(torch.zeros(64, 96, 2))
    weight.grad = torch.randn_like(weight)
    Muon([weight], [], lr=0.01).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.01 * RMS, rel=0.15)


def test_the_others_move_as_adam_moves_them() -> None:
    layer = nn.Linear(3, 5)
    twin = copy.deepcopy(layer)
    optimizers = (
        Muon([], layer.parameters(), lr=0.01, betas=(0.9, 0.95)),
        torch.optim.Adam(twin.parameters(), lr=0.01, betas=(0.9, 0.95)),
    )
    for step in range(4):
        for net, optimizer in zip((layer, twin), optimizers, strict=True):
            optimizer.zero_grad()
            net(torch.full((2, 3), step + 1.0)).square().sum().backward()
            optimizer.step()
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(layer.bias, twin.bias)


def test_a_closure_computes_the_gradients() -> None:
    weight = nn.Parameter(torch.ones(16, 16))
    optimizer = Muon([weight], [], lr=0.01)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = weight.square().sum()
        value.backward()
        return value.detach()

    assert float(optimizer.step(loss)) == 256
    assert float(loss()) < 256


def test_a_vector_is_refused_as_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"shape \[7\] is no matrix; give it among others"):
        Muon([torch.zeros(7)], [], lr=0.1)


def test_matrices_are_the_weights_of_the_layers_but_the_first_and_the_last() -> None:
    config = wavenet.WaveNetConfig(
        layers_per_stack=2,
        stacks=1,
        residual_channels=16,
        skip_channels=24,
        distribution="mu_law",
        one_hot_input=True,
        cond_channels=4,
        speakers=20,
    )
    model = wavenet.WaveNet(config)
    model.stack.blocks[-1].residual_projection.requires_grad_(False)
    matrices, others = split_parameters(model)
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    names = {name_of[each] for each in matrices}
    layers = {
        f"stack.blocks.{n}.{part}.weight"
        for n in range(2)
        for part in ("conv", "residual_projection", "skip_projection")
    }
    assert names >= layers - {"stack.blocks.1.residual_projection.weight"} | {"head.1.weight"}
    assert all(name.endswith("weight") for name in names)
    rest = {name_of[each] for each in others}
    assert rest >= {"input_projection.weight", "head.3.weight", "speaker_embedding.table.weight"}
    trained = {name_of[each] for each in model.parameters() if each.requires_grad}
    assert names | rest == trained
    assert not names & rest


def muon_config(tones: Path) -> TrainingConfig:
    return TrainingConfig(
        corpus=str(tones),
        model=SMALL,
        optimizer="muon",
        adam_beta2=0.95,
        window_s=0.02,
        batch_size=2,
        validation_windows=3,
        max_steps=8,
        warmup_steps=2,
        validate_every=4,
        checkpoint_every=4,
        listen_every=0,
        trainer={"accelerator": "cpu", "enable_progress_bar": False},
    )


def test_the_configuration_makes_it() -> None:
    model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny", layers_per_stack=2, stacks=1))
    optimizer = make_optimizer(model, TrainingConfig(optimizer="muon", adam_beta2=0.9))
    assert isinstance(optimizer, Muon)
    assert [group["lr"] for group in optimizer.param_groups] == [0.002, 0.002]
    assert optimizer.param_groups[1]["betas"] == (0.9, 0.9)


def test_a_run_that_is_resumed_ends_with_the_same_bits(tones: Path, tmp_path: Path) -> None:
    config, whole, resumed = muon_config(tones), tmp_path / "whole", tmp_path / "resumed"
    result = train(config, whole)
    assert result.bits_after < result.bits_before
    shutil.copytree(whole, resumed)
    first, last = sorted((resumed / "checkpoints").iterdir())
    last.unlink()
    assert first.name.startswith("step-00000004")
    train(config, resumed, resume=True)
    ends = [sorted((out / "checkpoints").iterdir())[-1] for out in (whole, resumed)]
    assert checkpoint_bits(ends[0]) == checkpoint_bits(ends[1])


def test_another_optimizer_is_another_run(tones: Path, tmp_path: Path) -> None:
    config = muon_config(tones)
    train(config, tmp_path)
    other = TrainingConfig(**{**vars(config), "optimizer": "adam"})
    with pytest.raises(ConfigError, match="optimizer=muon, but the configuration now has"):
        train(other, tmp_path, resume=True)


def test_an_unknown_optimizer_is_named() -> None:
    with pytest.raises(ConfigError, match="optimizer='sgd' must be adam or muon"):
        TrainingConfig(optimizer="sgd")  # type: ignore[arg-type]
