"""A model's way to a checkpoint folder and to the Hugging Face Hub, and from both."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from wavenet.nn.exact import saved_tensors
from wavenet.storage import hub
from wavenet.storage.checkpoint import CheckpointError, read_config, write_checkpoint
from wavenet.values.text import short

if TYPE_CHECKING:
    from wavenet.model.config import WaveNetConfig
    from wavenet.model.wavenet import WaveNet

ARCHITECTURE = "wavenet"
"""What ``config.json`` calls a ``WaveNet``."""


class Shared(nn.Module):
    """Methods of ``WaveNet`` that write and read checkpoints.

    ``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` have the names of
    ``huggingface_hub.ModelHubMixin``, and need its package only for what is on the Hub.

    >>> WaveNet(WaveNetConfig.preset("tiny")).save("my-model")
    >>> model = WaveNet.from_pretrained("my-model")
    >>> sorted(path.name for path in Path("my-model").iterdir())
    ['config.json', 'model.safetensors']
    """

    config: WaveNetConfig
    licences: Mapping[str, str]

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, device: torch.device | str = "cpu"
    ) -> WaveNet:
        """Return the model of a checkpoint, in evaluation mode.

        Args:
            name: a folder, the name of a bundled model, or ``owner/name`` on the Hub.
            revision: branch, tag or commit on the Hub.
            device: where the model goes.

        Raises:
            CheckpointError: as ``wavenet.load``, and for a checkpoint of another architecture.
        """
        from wavenet.model.from_checkpoint import from_checkpoint

        folder = hub.resolve(name, revision)
        content = read_config(folder)
        if content["architecture"] != ARCHITECTURE:
            raise CheckpointError(
                f"{name} has architecture {short(content['architecture'])}, expected "
                f"{ARCHITECTURE!r}; wavenet.load reads every architecture"
            )
        return from_checkpoint(folder, content, device)

    def save(self, folder: str | Path, *, provenance: dict[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``; see ``wavenet.storage.checkpoint``.

        Args:
            folder: made if it is missing.
            provenance: where the weights come from: corpus, steps, command, loss ... (JSON values).

        Raises:
            ValueError: for a model that ``config.json`` cannot describe, as a part of it is
                defined elsewhere: it would load as another one; or for one on the meta device.
        """
        from wavenet.model.exact import require_savable
        from wavenet.model.wavenet import WaveNet

        assert isinstance(self, WaveNet)
        require_savable(self)
        write_checkpoint(
            folder,
            architecture=ARCHITECTURE,
            config=self.config.to_dict(),
            tensors=saved_tensors(self),
            provenance=provenance,
            licences=self.licences,
        )

    save_pretrained = save

    def push(
        self, name: str, *, private: bool = False, provenance: dict[str, Any] | None = None
    ) -> str:
        """Put the model on the Hugging Face Hub as ``owner/name``; see ``wavenet.push``.

        Returns the address of the commit.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder, provenance=provenance)
            return hub.push(folder, name, private=private)

    push_to_hub = push
