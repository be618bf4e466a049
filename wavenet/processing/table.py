"""Columns of the integer tables that tell the compiled kernel of ``process`` what to run."""

OUTPUTS = 4
"""Number of channels that a convolution computes at a time."""

LAYER = 30
"""Kind of a fused layer of at most ``OUTPUTS`` channels; other kinds are those of ``nn.graph``."""

# Columns of the table of operations.
(
    KIND,
    SOURCE,  # buffer
    TARGET,  # buffer; of LAYER, the one that its output is added to
    IN,  # channels
    OUT,  # channels, of CONV and LAYER rounded up to OUTPUTS
    TAPS,
    DILATION,
    WEIGHT,  # index of the packed weights
    BIAS,  # index of the bias
    HISTORY,  # index of the history, or -1
    HISTORY_ROW,  # its row length
    POSITION,  # which position counts it
    ACCUMULATE,
    FACTOR,
    PHASE,
    SETTINGS,  # index of four settings, of one per channel, or of those of NORMALIZE
    MIX,  # buffer of the second input of CONV and LAYER, a projection
    MIX_IN,  # its channels; 0 for none
    MIX_WEIGHT,  # index of its packed weights
    ACTIVATION,  # kind of the activation of CONV and LAYER; 0 for none
    WIDTH,  # of LAYER: channels, not rounded up; of LSTM and GRU: units
    HEAD,  # of LAYER: buffer
    HEAD_ACCUMULATE,  # of LAYER: add to it instead of overwriting it
    RESIDUAL,  # of LAYER: index of the packed weights of its projection
    RESIDUAL_BIAS,  # of LAYER: index of its bias
) = range(25)
N_COLUMNS = 25

# Columns of the table of buffers.
START, ROW, RATE_UP, RATE_DOWN = range(4)
PLACE = 4
"""Their number: the kernel reads the table of buffers as one row."""

# The numbers whose address the kernel gets: addresses of arrays, their sizes, and the two ends.
(
    TABLE,
    N_STEPS,
    PLACES,
    WEIGHTS,
    N_WEIGHTS,
    DATA,
    N_DATA,
    POSITIONS,
    CAPACITY,  # samples of the input that the buffers have room for
    INPUT,  # buffer
    N_INPUTS,  # its channels
    OUTPUT,  # buffer of the first output
    N_OUTPUTS,
) = range(13)
N_HEAD = 13
