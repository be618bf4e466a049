"""``wavenet mel``: compute the log-mel spectrogram of a recording."""

from __future__ import annotations

import argparse

from wavenet.cli.options import MODEL_HELP, any_name, audio_name
from wavenet.cli.standard_streams import print_result
from wavenet.storage.pretrained import DEFAULT_VOICE


def add_arguments(mel: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    mel.add_argument("source", type=audio_name, metavar="IN", help="read this recording")
    mel.add_argument(
        "out", type=any_name, metavar="OUT.npz", help="write the mel and its settings to this file"
    )
    which = mel.add_mutually_exclusive_group()
    which.add_argument(
        "--mel-config",
        type=any_name,
        metavar="NAME|FILE",
        help="compute the mel with these settings: wavenet-16k, tacotron2, hifigan, "
        "bigvgan-24k, a JSON file of settings, or the configuration of HiFi-GAN, BigVGAN, VITS or "
        "Matcha-TTS",
    )
    which.add_argument(
        "--model",
        type=any_name,
        metavar="MODEL",
        help=f"compute the mel with this model's settings: {MODEL_HELP} (default: {DEFAULT_VOICE})",
    )


def run(options: argparse.Namespace) -> int:
    """Write a mel, and print its size."""
    from wavenet.audio.blocks import count_samples, read_blocks
    from wavenet.audio.opening import require_no_folder
    from wavenet.features import mel_filterbank
    from wavenet.features.acoustic_configs import read_mel_config
    from wavenet.features.mel_files import mel_blocks, require_npz, write_mel
    from wavenet.loading import load_wavenet
    from wavenet.storage.files import require_writable
    from wavenet.storage.paths import require_other_file

    require_no_folder(options.source)
    require_npz(options.out)
    require_other_file(options.out, options.source)
    require_writable(options.out)
    if options.mel_config is not None:
        config = read_mel_config(options.mel_config)
        filterbank = mel_filterbank(config)
    else:
        chosen = options.model or DEFAULT_VOICE
        model = load_wavenet(chosen)
        if model.config.mel is None:
            raise ValueError(f"{chosen} takes no mel; give --mel-config, such as wavenet-16k")
        config, filterbank = model.config.mel, model.mel_filterbank
    n_samples = count_samples(options.source, config.sample_rate)
    frames = mel_blocks(read_blocks(options.source, config.sample_rate), config, filterbank)
    n_frames = write_mel(options.out, frames, config, n_samples)
    print_result(
        f"{options.out}: {config.n_mels} bands x {n_frames} frames, "
        f"{n_samples / config.sample_rate:.3f} s at {config.sample_rate} Hz"
    )
    return 0
