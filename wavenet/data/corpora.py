"""Known corpora: their folders, files and speakers.

A corpus is a folder, a manifest, or one of those named here, which are in a folder of the user's as
their archives unpack (``data.archives``), and as torchaudio.datasets unpacks them.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wavenet.data.archives import ARCHIVES
from wavenet.data.audiofolder import is_metadata, list_audio, read_metadata
from wavenet.data.manifest import MANIFEST_SUFFIXES, read_manifest
from wavenet.data.recordings import (
    AUDIO_SUFFIXES,
    CorpusError,
    Listing,
    Recording,
    is_beside_sound,
    is_hidden,
    list_folder,
    tell_of_files_beside,
)
from wavenet.data.shard_index import INDEX_NAME
from wavenet.storage.download import DownloadError, Published, check, download
from wavenet.storage.files import locked
from wavenet.storage.object_store import is_url
from wavenet.storage.unpacking import unpack
from wavenet.values.text import short

logger = logging.getLogger("wavenet")


@dataclass(frozen=True)
class Layout:
    """Layout of a named corpus on disk.

    Attributes:
        folder: of one part, below the user's; ``{part}`` is replaced by the part's name.
        pattern: of its audio files, below that.
        otherwise: pattern of the files of speakers without files that match ``pattern``.
        speaker: name of the speaker, from the part and the path below ``folder``.
        base: folder, below the user's, to which the archive of a part is unpacked.
        parts: existing parts; all that are on disk are used unless some are named.
        held_out: parts for evaluation, used only when they are named.
        fetched: parts that ``download`` fetches unless some are named.
        home: source of a corpus that cannot be downloaded; it is laid out like any folder.
    """

    folder: str
    pattern: str
    speaker: Callable[[str, Path], str]
    base: str = ""
    parts: tuple[str, ...] = ("",)
    held_out: tuple[str, ...] = ()
    fetched: tuple[str, ...] = ("",)
    otherwise: str = ""
    home: str = ""


_TRAIN = ("train-clean-100", "train-clean-360", "train-other-500")


def _libritts(folder: str) -> Layout:
    return Layout(
        f"{folder}/{{part}}",
        "*/*/*.wav",
        lambda _, path: path.parts[0],
        parts=_TRAIN,
        held_out=("dev-clean", "dev-other", "test-clean", "test-other"),
        fetched=_TRAIN[:1],
    )


LAYOUTS = {
    "LJSPEECH": Layout("LJSpeech-1.1", "wavs/*.wav", lambda *_: "LJ"),
    # Every sentence was recorded by two microphones. As torchaudio, this takes the second, except
    # for the speakers who have the first alone (p280, p315), whom torchaudio leaves out.
    "VCTK": Layout(
        "VCTK-Corpus-0.92",
        "wav48_silence_trimmed/*/*_mic2.flac",
        lambda _, path: path.parts[1],
        base="VCTK-Corpus-0.92",
        otherwise="wav48_silence_trimmed/*/*_mic1.flac",
    ),
    "LIBRITTS": _libritts("LibriTTS"),
    "LIBRITTS_R": _libritts("LibriTTS_R"),
    "CMUARCTIC": Layout(
        "ARCTIC/cmu_us_{part}_arctic",
        "wav/*.wav",
        lambda part, _: part,
        base="ARCTIC",
        parts=tuple(ARCHIVES["CMUARCTIC"]),
        fetched=tuple(ARCHIVES["CMUARCTIC"]),
    ),
    "YESNO": Layout("waves_yesno", "*.wav", lambda *_: "yesno"),
    "SPEECHCOMMANDS": Layout(
        "SpeechCommands/speech_commands_v0.02",
        "*/*_nohash_*.wav",
        lambda _, path: path.name.partition("_nohash_")[0],
        base="SpeechCommands/speech_commands_v0.02",
    ),
    "PROMPTS": Layout(
        "prompts",
        "*/*",
        lambda _, path: path.parts[0],
        home="decode Debian's packages asterisk-core-sounds-*-g722 to its folders en, es, fr ...",
    ),
}


def find_corpus(corpus: str, *, root: str | Path = "corpora", download: bool = False) -> Listing:
    """List the recordings of a corpus.

    >>> for who in ("ann", "bob"):
    ...     wavenet.audio.write_audio(f"wavs/{who}/a.wav", torch.randn(8000) / 10, 16000)
    >>> [(each.name, each.speaker) for each in find_corpus("wavs").recordings]
    [('ann/a.wav', 'ann'), ('bob/a.wav', 'bob')]

    Args:
        corpus: a folder, also one with metadata (``data.audiofolder``), an audio file, a manifest,
            or one of ``LAYOUTS``, optionally with parts: ``LIBRITTS/dev-clean``,
            ``CMUARCTIC/bdl,slt``.
        root: folder of the named corpora.
        download: fetch missing ones.

    Raises:
        CorpusError: if there is no such corpus, or nothing in it, or it cannot be fetched.
    """
    if is_url(corpus):
        raise CorpusError(
            f"corpus={short(corpus)} is a URL, which `wavenet train` alone reads; name the folder "
            "that it was written from"
        )
    name, _, parts = corpus.partition("/")
    if name in LAYOUTS:
        return _find_named(name, tuple(filter(None, parts.split(","))), Path(root), download)
    if Path(corpus).suffix.lower() in MANIFEST_SUFFIXES and not Path(corpus).is_dir():
        return read_metadata(corpus) if is_metadata(corpus) else read_manifest(corpus)
    if Path(corpus).is_file() and Path(corpus).suffix.lower() in AUDIO_SUFFIXES:
        return Listing(Path(corpus), (Recording(Path(corpus).name, Path(corpus), ""),))
    if not Path(corpus).is_dir():
        near = difflib.get_close_matches(name.upper(), LAYOUTS, n=1, cutoff=0.8)
        raise CorpusError(
            f"corpus={corpus!r} is not a folder; name one with audio files, a file, a manifest "
            f"({' or '.join(MANIFEST_SUFFIXES)}), or one of {', '.join(LAYOUTS)}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    try:
        return list_audio(corpus)
    except CorpusError as error:
        if not (Path(corpus) / INDEX_NAME).is_file():
            raise
        raise CorpusError(
            f"corpus={short(corpus)} holds shards, which `wavenet train` alone reads; name the "
            "folder that they were written from"
        ) from error


def _find_named(name: str, asked: tuple[str, ...], root: Path, download: bool) -> Listing:
    layout = LAYOUTS[name]
    known = layout.parts + layout.held_out
    for part in asked:
        if part not in known:
            parts = f"its parts are {', '.join(known)}" if known != ("",) else "it has no parts"
            raise CorpusError(f"corpus='{name}/{part}': {name} has no such part; {parts}")
    if download:
        for part in asked or layout.fetched:
            if not _folder(layout, root, part).is_dir():
                _fetch(name, part, root)
    present = [part for part in asked or layout.parts if _folder(layout, root, part).is_dir()]
    missing = sorted(set(asked) - set(present)) if asked else []
    if missing or not present:
        wanted = _folder(layout, root, (missing or list(layout.fetched))[0])
        remedy = layout.home or "set download to true, or corpus_root to its folder"
        raise CorpusError(f"corpus={name}: there is no {wanted}; {remedy}")
    found = [recording for part in present for recording in _list_part(layout, root, part)]
    if not found:
        folder = _folder(layout, root, present[0])
        raise CorpusError(f"corpus={name}: {folder} holds no {layout.pattern}; fetch it again")
    found.sort(key=lambda recording: recording.name)
    return Listing(_folder(layout, root, present[0]), tuple(found))


def _folder(layout: Layout, root: Path, part: str) -> Path:
    return root / layout.folder.format(part=part)


def _list_part(layout: Layout, root: Path, part: str) -> Iterable[Recording]:
    folder = _folder(layout, root, part)
    if layout.home:  # laid out like any folder
        yield from list_folder(folder).recordings
        return
    speakers = set()
    for path, speaker in _matching(layout, folder, part, layout.pattern):
        speakers.add(speaker)
        yield Recording(path.relative_to(root).as_posix(), path, speaker)
    if not layout.otherwise:
        return
    others = set()
    for path, speaker in _matching(layout, folder, part, layout.otherwise):
        if speaker not in speakers:
            others.add(speaker)
            yield Recording(path.relative_to(root).as_posix(), path, speaker)
    if others:
        logger.info(
            "%s holds no %s of %s; %s is used instead",
            folder,
            layout.pattern,
            ", ".join(sorted(others)),
            layout.otherwise,
        )


def _matching(layout: Layout, folder: Path, part: str, pattern: str) -> Iterator[tuple[Path, str]]:
    """Yield visible files of a pattern with their speakers; log the number of those of macOS."""
    found = list(folder.glob(pattern))
    tell_of_files_beside(sum(is_beside_sound(path.name) for path in found), folder)
    for path in found:
        if not is_hidden(path.name):
            yield path, layout.speaker(part, path.relative_to(folder))


def _fetch(name: str, part: str, root: Path) -> None:
    """Download and unpack to a temporary folder, then move it: the result is always complete.

    An archive that lies in the root is unpacked instead. A downloaded one is kept until it is
    unpacked, so that an interrupted run does not download it again.

    Raises:
        CorpusError: if the corpus cannot be downloaded, or its archive is not the published one.
    """
    layout = LAYOUTS[name]
    if name not in ARCHIVES:
        raise CorpusError(f"corpus={name} cannot be downloaded; {layout.home}")
    beside, target = root / ".download", _folder(layout, root, part)
    try:
        with locked(root / ".download.lock"):
            if target.is_dir():  # another process was faster
                return
            unpacked = _folder(layout, beside, part)
            archive = _archive(ARCHIVES[name][part], root, beside)
            _unpack_whole(archive, beside / layout.base, unpacked)
            target.parent.mkdir(parents=True, exist_ok=True)
            unpacked.rename(target)
            _clear(beside, archive.name)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(
            f"corpus={name} cannot be fetched into corpus_root={str(root)!r}: {reason}; try again, "
            "or unpack it there yourself"
        ) from error


def _archive(file: Published, root: Path, beside: Path) -> Path:
    """Return the archive that lies in the root, or download it."""
    given = root / file.name
    if given.is_file():
        check(file, given)
        return given
    kept = beside / file.name
    if kept.is_file():
        with contextlib.suppress(DownloadError):
            check(file, kept)
            return kept
        kept.unlink()  # damaged since it was downloaded, as by a power failure
    try:
        return download(file, kept)
    finally:
        _remove_if_empty(beside)


def _clear(beside: Path, archive: str) -> None:
    """Remove an archive and what was unpacked; downloads of other archives are kept."""
    others = {file.name for parts in ARCHIVES.values() for file in parts.values()} - {archive}
    for path in list(beside.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name.removesuffix(".part") not in others:
            path.unlink()
    _remove_if_empty(beside)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _unpack_whole(archive: Path, base: Path, unpacked: Path) -> None:
    """Unpack to ``base``; what is there already, or of an archive that fails, is removed.

    Raises:
        ValueError: if the archive does not contain the folder ``unpacked``.
    """
    shutil.rmtree(unpacked, ignore_errors=True)  # incomplete: else it would have been moved
    try:
        unpack(archive, base)
    except BaseException:
        shutil.rmtree(unpacked, ignore_errors=True)
        raise
    if not unpacked.is_dir():
        raise ValueError(f"{archive.name} contains no folder {unpacked.name}")
