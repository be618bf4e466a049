"""The largest sizes that a configuration may have, wherever it comes from: a checkpoint, a recipe.

A size in a file may be arbitrarily large: a dilation, for example, needs no weight. These limits
are far beyond every known model, and bound what is allocated or looped over for a size alone. Sizes
that need weights are compared with the file of the weights as well
(``wavenet.model.from_checkpoint``).
"""

from __future__ import annotations

from wavenet.values.text import short

MAX_SAMPLE_RATE_HZ = 1_000_000
"""Largest sample rate; recorders for bats have 768,000."""
MAX_LAYERS = 2048
"""Largest number of layers of all stacks; WaveNets have 20 to 60."""
MAX_CHANNELS = 65_536
"""Width of any part of a network, or entries of a table."""
MAX_PAST_SAMPLES = 1 << 21
"""Largest past of all layers together: 131 s at 16 kHz. One layer of 2 taps may have half."""
MAX_STATE_VALUES = 1 << 24
"""Largest streaming state of one utterance, all channels together: 64 MiB in float32."""
MAX_REFINEMENT_PASSES = 1024
"""Passes of a refinement; more than 100 change next to nothing."""
MAX_FFT_SAMPLES = 65_536
"""Largest transform of a spectrogram: 1.4 s at 48 kHz."""
MAX_MEL_BANDS = 1024
"""Largest number of mel bands; 40 to 160 are usual."""
MAX_HOP_SAMPLES = 1 << 20
"""Largest hop of local features: 22 s at 48 kHz."""
MAX_UPSAMPLING_STEPS = 64
"""Largest number of upsampling steps; 20 of scale 2 make the longest hop."""
MAX_CONTEXT_FRAMES = 65_536
"""Largest number of context frames on each side."""
MAX_PREDICTION_ORDER = 512
"""Largest order of linear prediction, whose cost is quadratic; 16 to 32 are usual."""
MAX_SPEAKERS = 1 << 20
"""Largest number of speakers; the largest corpora have 100,000."""


def check_at_most(name: str, value: int, most: int) -> None:
    """Raise ValueError if a size is above its limit."""
    if value > most:
        raise ValueError(f"{name}={short(value)} must be at most {most}")
