"""Muon: momentum whose matrices are made orthogonal, and Adam for all other parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from wavenet.model import WaveNet

NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
"""Coefficients of the quintic iteration of Jordan et al. 2024, "Muon"."""

ITERATIONS = 5
"""Of it, ibid.: singular values above 0.005 of the norm end between 0.65 and 1.25."""

MOMENTUM = 0.95
"""Ibid., with Nesterov's correction."""

RMS = 0.2
"""Root mean square of an update, as Adam's are (Liu et al. 2025, arXiv:2502.16982, equation 4)."""

FEWEST = 16
"""Rows and columns of a weight that is treated as a matrix."""


def orthogonal(matrices: Tensor) -> Tensor:
    """Return about the nearest matrices ``[N, rows, columns]`` whose singular values are 1.

    They are the U V^T of the singular value decomposition U S V^T of each, by Newton-Schulz
    iterations (Jordan et al. 2024); zeros stay zeros.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for weight matrices and Adam for the rest, at one learning rate (Jordan et al. 2024).

    A convolution's weight ``[out, in, kernel]`` counts as a matrix of ``out`` rows, which
    ``torch.optim.Muon`` (from torch 2.9 on) does not take. Updates of matrices have the size of
    Adam's, so that a learning rate for Adam serves for both.

    >>> layer = torch.nn.Linear(32, 32)
    >>> optimizer = Muon([layer.weight], [layer.bias], lr=0.002)

    Args:
        matrices: parameters of two and more dimensions: the weights of hidden layers.
        others: biases, embeddings, weights of the first and the last layer.
        lr: learning rate.
        betas: of Adam.
        eps: of Adam.

    Raises:
        ValueError: for a matrix of less than two dimensions.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        matrices = list(matrices)
        for matrix in matrices:
            if matrix.dim() < 2:
                raise ValueError(
                    f"matrices: a parameter of shape {list(matrix.shape)} is no matrix; "
                    "give it among others"
                )
        groups = [
            {"params": matrices, "orthogonal": True},
            {"params": list(others), "orthogonal": False},
        ]
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step; a ``closure`` computes the gradients first and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [each for each in group["params"] if each.grad is not None]
            if trained:
                (self._orthogonal_step if group["orthogonal"] else self._adam_step)(group, trained)
        return loss

    def _orthogonal_step(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        alike: dict[tuple[Any, ...], list[Tensor]] = {}
        for each in trained:
            alike.setdefault((each.shape, each.dtype, each.device), []).append(each)
        for same in alike.values():
            updates = orthogonal(torch.stack([self._momentum(each).flatten(1) for each in same]))
            size = group["lr"] * RMS * max(updates.shape[1:]) ** 0.5
            for each, update in zip(same, updates, strict=True):
                each.sub_(update.view_as(each), alpha=size)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """Update a parameter's average of gradients, and return Nesterov's step from it."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        average: Tensor = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(average, MOMENTUM)

    def _adam_step(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        for each in trained:
            state = self.state[each]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(each)
                state["exp_avg_sq"] = torch.zeros_like(each)
        states = [self.state[each] for each in trained]
        adam(
            trained,
            [each.grad for each in trained if each.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trained parameters that Muon treats as matrices, and all others.

    Matrices have at least ``FEWEST`` rows and columns. Embeddings are none, and neither are the
    first and the last layer of a ``WaveNet``: Adam trains them (Jordan et al. 2024).
    """
    apart: set[nn.Parameter] = set()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            apart.update(module.parameters())
        if isinstance(module, WaveNet):
            for end in (module.input_projection, module.head[-1]):
                apart.update(end.parameters())
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            matrix = parameter not in apart and _is_matrix(parameter)
            (matrices if matrix else others).append(parameter)
    return matrices, others


def _is_matrix(parameter: nn.Parameter) -> bool:
    rows = parameter.shape[0] if parameter.dim() > 1 else 0
    return rows >= FEWEST and parameter.numel() // rows >= FEWEST
