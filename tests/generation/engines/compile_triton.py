"""Compile the fused kernel of a model for an NVIDIA card that need not be here.

python compile_triton.py 90 nv bfloat16

prints bytes of shared memory, and products of matrix units.
"""

import re
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from wavenet import WaveNet, WaveNetConfig
from wavenet.generation import GenerationState
from wavenet.generation.engines.base import Request
from wavenet.generation.engines.triton import FusedEngine, engine, kernel

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64"}
PREDICTOR: dict[str, Any] = {
    "mel": "wavenet-16k",
    "distribution": "logistic_mixture",
    "distribution_size": 4,
    "linear_prediction": 16,
    "pitch_taps": 3,
}
MODELS = {
    "nv": WaveNetConfig.preset("nv"),
    "predictor": WaveNetConfig.preset("nv", **PREDICTOR),
    "two-samples": WaveNetConfig.preset("nv", **PREDICTOR, samples_per_step=2),
}


class Launches:
    """Replaces the kernel, and keeps what it is called with."""

    def __getitem__(self, grid: tuple[int]) -> Any:
        return self.launch

    def launch(self, *arguments: object, num_warps: int, **constants: object) -> None:
        self.arguments, self.constants, self.num_warps = arguments, constants, num_warps


def launch_of(config: WaveNetConfig, weights: torch.dtype) -> Launches:
    """The arguments of a launch of 16 rows."""
    model = WaveNet(config).eval()
    params = torch.zeros(16, model.distribution.n_params, 1)
    start = GenerationState.after(params, model.init_state(16))
    kernel.advance, engine.refusal = Launches(), lambda model: None
    frames = None
    if model.cond_channels is not None:
        frames = [torch.zeros(model.cond_channels, 2) for _ in range(16)]
    request = Request(frames, 0, 1.0, None, weights)
    given = torch.full((16, model.distribution.uniforms_per_sample, 4), 0.5)
    FusedEngine(model, request, start).run(given)
    return kernel.advance


def signature_type(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def main(architecture: int, model: str, weights: str) -> None:
    advance = kernel.advance
    called = launch_of(MODELS[model], getattr(torch, weights))
    given = iter(called.arguments)
    signature = {
        name: "constexpr" if name in called.constants else signature_type(next(given))
        for name in advance.arg_names
    }
    constants = {(advance.arg_names.index(name),): it for name, it in called.constants.items()}
    target = GPUTarget("cuda", architecture, 32)
    source, options = ASTSource(advance, signature, constants), {"num_warps": called.num_warps}
    compiled = triton.compile(source, target=target, options=options)
    products = re.findall(r"mma\.sync|wgmma\.mma_async", compiled.asm["ptx"])
    sys.stdout.write(f"{compiled.metadata.shared} {len(products)}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
