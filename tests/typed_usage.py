"""What a type checker knows of a user's script: mypy reads this file, and nothing runs it.

``disallow_any_expr`` is set for it: an expression of type Any is an error.
"""

from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor

import wavenet
from wavenet.audio import read_audio
from wavenet.generation import GenerationState
from wavenet.nam import NamModel, NamWaveNet
from wavenet.nn import State

config = wavenet.WaveNetConfig.preset("tiny")
assert_type(config, wavenet.WaveNetConfig)
model = wavenet.WaveNet(config)
assert_type(model, wavenet.WaveNet)
assert_type(wavenet.WaveNet.from_pretrained("prompts-16k"), wavenet.WaveNet)
assert_type(wavenet.load("prompts-16k"), wavenet.WaveNet)
assert_type(wavenet.load("voice", mel=wavenet.MelConfig()), wavenet.WaveNet)
loaded = wavenet.load(Path("voice"), device="cpu", sample_rate=16000)
assert_type(loaded, wavenet.WaveNet | NamWaveNet | NamModel)
assert_type(wavenet.load("amp.nam"), wavenet.WaveNet | NamWaveNet | NamModel)
assert_type(loaded.sample_rate, int)
assert_type(loaded.past, int)
assert_type(loaded.init_state(1), State)
any_block: wavenet.Causal = loaded
if isinstance(loaded, wavenet.WaveNet):
    assert_type(wavenet.generate(loaded, duration_s=1.0), Tensor)
assert_type(model.past, int)
assert_type(wavenet.log_mel(torch.randn(16000), wavenet.MelConfig()), Tensor)
assert_type(read_audio("a.wav"), tuple[Tensor, int])
assert_type(wavenet.receptive_field(model), wavenet.ReceptiveField)
assert_type(wavenet.refine(torch.randn(9), torch.randn(80, 1), wavenet.MelConfig()), Tensor)

assert_type(wavenet.generate(model, duration_s=1.0), Tensor)
samples, state = wavenet.generate(model, duration_s=1.0, seed=1, return_state=True)
assert_type(samples, Tensor)
assert_type(state, GenerationState)
for part in wavenet.stream(model, duration_s=1.0):
    assert_type(part, Tensor)

conv = wavenet.CausalConv1d(1, 4, 3)
assert_type(conv.init_state(1), State)
assert_type(wavenet.Chain(conv), wavenet.Chain)
