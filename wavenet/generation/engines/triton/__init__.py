"""The fused GPU engine: thousands of samples in one launch of one Triton kernel; not measured yet.

kernel.py    the loop over samples and layers, one program for 16 rows
draws.py     from params to a sample        prediction.py   the linear predictor
engine.py    packs the weights, launches
"""

from wavenet.generation.engines.triton.engine import FusedEngine

__all__ = ["FusedEngine"]
