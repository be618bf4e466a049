"""Compile the fused kernel of the nv preset for an NVIDIA card that need not be here.

python compile_triton.py 90      prints bytes of shared memory, and products of matrix units
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


class Launches:
    """Replaces the kernel, and keeps what it is called with."""

    def __getitem__(self, grid: tuple[int]) -> Any:
        return self.launch

    def launch(self, *arguments: object, num_warps: int, **constants: object) -> None:
        self.arguments, self.constants, self.num_warps = arguments, constants, num_warps


def launch_of_nv() -> Launches:
    """The arguments of a launch of the nv preset in bfloat16."""
    model = WaveNet(WaveNetConfig.preset("nv")).eval()
    start = GenerationState.after(torch.zeros(16, 256, 1), model.init_state(16))
    kernel.advance, engine.refusal = Launches(), lambda model: None
    request = Request(None, 0, 1.0, None, torch.bfloat16)
    FusedEngine(model, request, start).run(torch.full((16, 1, 4), 0.5))
    return kernel.advance


def signature_type(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def main(architecture: int) -> None:
    advance = kernel.advance
    called = launch_of_nv()
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
    main(int(sys.argv[1]))
