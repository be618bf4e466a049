"""The largest sizes that a configuration may have, wherever it comes from: a checkpoint, a recipe.

A size in a file costs its author nothing: a dilation, say, needs no weight. These bounds lie far
beyond every known model and keep what is allocated, or looped over, by a size alone within bounds;
sizes that ask for weights are compared with the file of the weights as well
(``wavenet.model.from_checkpoint``).
"""

from __future__ import annotations

MAX_SAMPLE_RATE_HZ = 1_000_000
"""Of recorders for bats: 768,000."""
MAX_LAYERS = 2048
"""All stacks counted; WaveNets have 20 to 60."""
MAX_CHANNELS = 65_536
"""Width of any part of a network, or entries of a table."""
MAX_PAST_SAMPLES = 1 << 21
"""Receptive field of all layers together: 131 s at 16 kHz. One layer of 2 taps reaches half."""
MAX_STATE_VALUES = 1 << 24
"""What streaming remembers, all channels counted, for one utterance: 64 MiB in float32."""
MAX_FFT_SAMPLES = 65_536
"""Of a spectrogram: 1.4 s at 48 kHz."""
MAX_MEL_BANDS = 1024
"""Usual are 40 to 160."""
MAX_HOP_SAMPLES = 1 << 20
"""Samples a frame of local features: 22 s at 48 kHz."""
MAX_UPSAMPLING_STEPS = 64
"""Each but a step of scale 1 at least doubles, so that 20 make the longest hop."""
MAX_CONTEXT_FRAMES = 65_536
"""On each side."""
MAX_PREDICTION_ORDER = 512
"""Of linear prediction, whose cost grows as the square; 16 to 32 are usual."""
MAX_SPEAKERS = 1 << 20
"""Speakers with a vector of their own: the largest corpora have 100,000."""


def check_at_most(name: str, value: int, most: int) -> None:
    """Raise ValueError if a size is larger than any that makes sense."""
    if value > most:
        shown = str(value) if value < 10**20 else f"{str(value)[:20]}..."
        raise ValueError(f"{name}={shown} must be at most {most}")
