"""Causal blocks to import into any model. They need nothing but torch."""

from wavenet.nn.activations import FastTanh, LeakyHardtanh, Softsigmoid
from wavenet.nn.causal import Causal, UnboundedPastError
from wavenet.nn.chain import Chain, Select
from wavenet.nn.conditioning import (
    FrameEncoder,
    FrameLift,
    LiftedFrames,
    SpeakerEmbedding,
    UpsamplingEncoder,
)
from wavenet.nn.convolution import CausalConv1d, CausalConvTranspose1d
from wavenet.nn.linear_prediction import LinearPrediction
from wavenet.nn.recurrent import GRU, LSTM
from wavenet.nn.refinement import MelRefinement
from wavenet.nn.residual import DilatedStack, GatedResidualBlock
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

__all__ = [
    "GRU",
    "LSTM",
    "Causal",
    "CausalConv1d",
    "CausalConvTranspose1d",
    "CausalISTFT",
    "CausalSTFT",
    "Chain",
    "DilatedStack",
    "FastTanh",
    "FrameEncoder",
    "FrameLift",
    "GatedResidualBlock",
    "LeakyHardtanh",
    "LiftedFrames",
    "LinearPrediction",
    "MelRefinement",
    "Select",
    "Softsigmoid",
    "SpeakerEmbedding",
    "State",
    "UnboundedPastError",
    "UpsamplingEncoder",
    "clone_state",
    "detach_state",
    "flatten_state",
    "map_state",
    "reset_rows",
    "select_rows",
    "unflatten_state",
]
