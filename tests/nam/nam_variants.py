"""Networks as Neural Amp Modeler's own package configures them: one for each thing the format has.

Used where that package is installed: by make_nam_golden.py, and by the slow tests.
"""

from __future__ import annotations

from typing import Any

FILMS = (
    *("conv_pre_film", "conv_post_film", "input_mixin_pre_film", "input_mixin_post_film"),
    *("activation_pre_film", "activation_post_film", "layer1x1_post_film", "head1x1_post_film"),
)


def array(**changes: Any) -> dict[str, Any]:
    """One layer array, small."""
    head = {"out_channels": 1, "kernel_size": 1, "bias": True}
    usual = {"input_size": 1, "condition_size": 1, "channels": 4, "head": head}
    return {**usual, "kernel_size": 3, "dilations": [1, 2, 4], "activation": "Tanh", **changes}


def network(*arrays: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A network of layer arrays."""
    return {"layers_configs": list(arrays), "head_scale": 0.5, **changes}


def paired(name: str, primary: str, secondary: str) -> dict[str, str]:
    """A gated or blended activation."""
    return {"name": name, "primary": primary, "secondary": secondary}


def head(out_channels: int, kernel_size: int = 1, bias: bool = True) -> dict[str, Any]:
    """Head of a layer array."""
    return {"out_channels": out_channels, "kernel_size": kernel_size, "bias": bias}


_leaky = {"name": "LeakyReLU", "negative_slope": 0.2}
_films = {name: {"active": True, "shift": i % 2 == 0} for i, name in enumerate(FILMS)}

VARIANTS: dict[str, dict[str, Any]] = {
    "two-arrays": network(array(head=head(2, bias=False)), array(input_size=4, channels=2)),
    "gated": network(array(activation=paired("PairMultiply", "Tanh", "Sigmoid"))),
    "blended": network(array(activation=paired("PairBlend", "ReLU", "Sigmoid"))),
    "mixed": network(
        array(
            kernel_size=[2, 3, 5],
            activation=["Tanh", _leaky, paired("PairMultiply", "SiLU", "Hardswish")],
        )
    ),
    "films": network(
        array(
            bottleneck=6,
            groups_input=2,
            layer_1x1_config={"active": True, "groups": 2},
            head_1x1_config={"active": True, "out_channels": 4, "groups": 2},
            film_params=_films,
        )
    ),
    "wide-head": network(array(kernel_size=[6, 6, 15], activation=_leaky, head=head(1, 16))),
    "post-head": network(
        array(head=head(3, 2, bias=False)),
        head={"channels": 4, "activation": "ReLU", "out_channels": 1, "kernel_sizes": [3, 5]},
    ),
    "condition": network(
        array(condition_size=3),
        condition_dsp={"name": "WaveNet", "config": network(array(head=head(3)))},
    ),
    "no-layer1x1": network(array(layer_1x1_config={"active": False})),
    **{
        f"activation-{name}": network(array(activation=name, dilations=[1]))
        for name in (
            *("Hardtanh", "ReLU", "LeakyReLU", "PReLU", "Sigmoid", "SiLU", "Softsign"),
            *("Softsigmoid", "Hardswish", "LeakyHardtanh"),
        )
    },
}

CANNOT_LOAD = ("condition", "activation-PReLU")
"""What the package writes and cannot read again: it leaves ``condition_dsp`` out, and takes no
``negative_slope`` for a PReLU."""
