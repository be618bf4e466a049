"""Causal blocks to import into any model. They need nothing but torch."""

from wavenet.nn.activations import FastTanh, LeakyHardtanh, Snake, Softsigmoid, with_fast_tanh
from wavenet.nn.attention import CausalAttention
from wavenet.nn.branches import Concat, Parallel, Residual
from wavenet.nn.causal import Causal, UnboundedPastError
from wavenet.nn.chain import Chain, Select
from wavenet.nn.conditioning import (
    FrameEncoder,
    FrameLift,
    LiftedFrames,
    SpeakerEmbedding,
    TransposedUpsamplingEncoder,
    UpsamplingEncoder,
)
from wavenet.nn.convolution import CausalConv1d, CausalConvTranspose1d
from wavenet.nn.delay import Delay
from wavenet.nn.film import FiLM
from wavenet.nn.gradients import StateGradientWarning, through_states
from wavenet.nn.linear_prediction import LinearPrediction
from wavenet.nn.normalization import BatchNorm, LayerNorm, RMSNorm
from wavenet.nn.ragged import stream_rows
from wavenet.nn.recurrent import GRU, LSTM
from wavenet.nn.refinement import MelRefinement
from wavenet.nn.residual import DilatedStack, GatedResidualBlock
from wavenet.nn.separable import DepthwiseSeparableConv1d
from wavenet.nn.state import (
    State,
    clone_state,
    detach_state,
    flatten_state,
    map_state,
    reset_rows,
    select_rows,
    unflatten_state,
)
from wavenet.nn.stft import CausalISTFT, CausalSTFT
from wavenet.nn.temporal import TemporalBlock
from wavenet.nn.timing import Latency, latency

__all__ = [
    "GRU",
    "LSTM",
    "BatchNorm",
    "Causal",
    "CausalAttention",
    "CausalConv1d",
    "CausalConvTranspose1d",
    "CausalISTFT",
    "CausalSTFT",
    "Chain",
    "Concat",
    "Delay",
    "DepthwiseSeparableConv1d",
    "DilatedStack",
    "FastTanh",
    "FiLM",
    "FrameEncoder",
    "FrameLift",
    "GatedResidualBlock",
    "Latency",
    "LayerNorm",
    "LeakyHardtanh",
    "LiftedFrames",
    "LinearPrediction",
    "MelRefinement",
    "Parallel",
    "RMSNorm",
    "Residual",
    "Select",
    "Snake",
    "Softsigmoid",
    "SpeakerEmbedding",
    "State",
    "StateGradientWarning",
    "TemporalBlock",
    "TransposedUpsamplingEncoder",
    "UnboundedPastError",
    "UpsamplingEncoder",
    "clone_state",
    "detach_state",
    "flatten_state",
    "latency",
    "map_state",
    "reset_rows",
    "select_rows",
    "stream_rows",
    "through_states",
    "unflatten_state",
    "with_fast_tanh",
]
