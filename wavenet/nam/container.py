"""Several sizes of one model, of which a player chooses one: ``SlimmableContainer``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from wavenet.nam.model import NamModel
from wavenet.nam.network import NamWaveNet
from wavenet.nam.values import FormatError, short
from wavenet.nn.exact import saved_tensors
from wavenet.storage.checkpoint import write_checkpoint
from wavenet.storage.settings import to_dict

CONTAINER_ARCHITECTURE = "nam-container"
"""Name of this architecture in ``config.json``."""


@dataclass(frozen=True)
class Submodel:
    """One size.

    >>> size = Submodel(NamWaveNet(preset("nano")), max_value=0.5)
    >>> size.max_value, type(size.model).__name__
    (0.5, 'NamWaveNet')

    Attributes:
        model: the network.
        max_value: a player takes it for settings of its size slider up to here, from 0 to 1.
    """

    model: NamWaveNet | NamModel
    max_value: float

    @property
    def name(self) -> str:
        """``name`` in the model's metadata, or nothing."""
        return name_in(self.model.metadata)


@dataclass
class NamContainer:
    """The sizes of one model, and what the file says of them all.

    >>> sizes = tuple(Submodel(NamWaveNet(preset(name)), 1.0) for name in ("nano", "standard"))
    >>> container = NamContainer(sizes)
    >>> container.choose().past
    4092

    Attributes:
        submodels: the sizes, in the order of the file.
        metadata: of the file: the gear, its loudness and so on.
    """

    submodels: tuple[Submodel, ...]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rates = sorted({one.model.sample_rate for one in self.submodels})
        if len(rates) != 1:
            found = ", ".join(map(str, rates)) or "none"
            raise ValueError(f"models must have one sample rate, found {found}; give models of one")

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio, in Hz."""
        return self.submodels[0].model.sample_rate

    def choose(self, submodel: str | None = None) -> NamWaveNet | NamModel:
        """Return one size: by its name, by its position from 0 on, or the largest.

        Raises:
            FormatError: if there is no such size; the line names all.
        """
        names = [one.name for one in self.submodels]
        limits = [one.max_value for one in self.submodels]
        return self.submodels[position_of(submodel, names, limits)].model

    def save(self, folder: str | Path, *, provenance: dict[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors`` with all sizes.

        Args:
            folder: made if it is missing.
            provenance: origin of the weights (JSON values).

        Raises:
            ValueError: for a size that is no WaveNet.
        """
        for one in self.submodels:
            if not isinstance(one.model, NamWaveNet):
                one.model.save(folder)
        parts = nn.ModuleList(one.model for one in self.submodels)
        facts = self.description()
        facts["provenance"].update(provenance or {})
        write_checkpoint(folder, tensors=saved_tensors(parts), **facts)

    def description(self) -> dict[str, Any]:
        """Return architecture, configuration and origin, as ``config.json`` has them."""
        sizes = [
            {
                "max_value": one.max_value,
                "metadata": one.model.metadata,
                "config": to_dict(one.model.config),
            }
            for one in self.submodels
        ]
        return {
            "architecture": CONTAINER_ARCHITECTURE,
            "config": {"submodels": sizes},
            "provenance": {"nam_metadata": self.metadata},
        }


def name_in(metadata: Any) -> str:
    """Return the name in the metadata of a model, shortened; nothing if there is none."""
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name[:60] if isinstance(name, str) else ""


def position_of(submodel: str | None, names: Sequence[str], limits: Sequence[float]) -> int:
    """Return the position of a name, of a position as text, or of the largest ``max_value``.

    Raises:
        FormatError: if there is no such size; the line names all.
    """
    if submodel is None:
        return max(range(len(limits)), key=limits.__getitem__)
    if submodel in names:
        return names.index(submodel)
    if submodel.isdecimal() and len(submodel) < 9 and int(submodel) < len(names):
        return int(submodel)
    known = ", ".join(f"{i} ({name})" if name else str(i) for i, name in enumerate(names[:20]))
    raise FormatError(f"has no submodel {short(submodel)}; it has {known}")


def require_single(submodel: str | None) -> None:
    """Raise FormatError if one size is asked for where there is one model alone."""
    if submodel is not None:
        raise FormatError(f"holds one model alone, so there is no submodel {submodel!r}")
