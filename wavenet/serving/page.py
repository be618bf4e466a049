"""The page at ``/``, what it has to know of the server, and the previews of a training run."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from wavenet import __version__
from wavenet.evaluation.baselines import why_unavailable
from wavenet.serving.limits import RequestError
from wavenet.serving.service import Service
from wavenet.serving.vocode import BASELINES

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_PREVIEWS = "samples"
"""Folder of a training run with a folder of clips for each step."""
_HEADERS = {
    "content-security-policy": "; ".join(
        ("default-src 'self'", "media-src 'self' blob:", "connect-src 'self' blob:")
    ),
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
}


async def index(service: Service, request: Request) -> Response:
    """Answer with the page."""
    return _file("index.html")


async def asset(service: Service, request: Request) -> Response:
    """Answer with a file that the page needs."""
    return _file(request.path_params["name"])


def _file(name: str) -> Response:
    folder = files("wavenet.serving") / "static"
    known = {one.name: one for one in folder.iterdir() if one.is_file()}
    if name not in known:
        raise RequestError(404, f"no file {name[:40]!r}")
    kind = _TYPES[name.rpartition(".")[2]]
    return Response(known[name].read_bytes(), media_type=kind, headers=_HEADERS)


async def info(service: Service, request: Request) -> Response:
    """Answer with what can be asked of this server."""
    config, limits = service.model.config, service.limits
    found: dict[str, Any] = {
        "version": __version__,
        "model": service.name,
        "sample_rate": config.sample_rate,
        "mel": service.mel.to_dict(),
        "speakers": list(config.speaker_names) or list(map(str, range(config.speakers))),
        "speaker_optional": config.unconditional,
        "temperature": config.temperature,
        "refine": config.refinement_passes if service.refine is None else service.refine,
        "baselines": {key: why_unavailable(key) for key in BASELINES},
        "amplifiers": {name: int(model.sample_rate) for name, model in service.amplifiers.items()},
        "run": service.run is not None,
        "max_seconds": limits.max_seconds,
        "max_bytes": limits.max_bytes,
    }
    return JSONResponse(found)


async def previews(service: Service, request: Request) -> Response:
    """Answer with the clips of the training run, by step; the recordings come first."""
    folders = sorted(one for one in _samples(service).glob("*") if one.is_dir())
    steps = [
        {"name": folder.name, "clips": {one.stem: f"run/{folder.name}/{one.name}" for one in clips}}
        for folder in folders
        if (clips := sorted(folder.glob("*.wav")))
    ]
    return JSONResponse({"steps": steps})


async def preview(service: Service, request: Request) -> Response:
    """Answer with one clip."""
    folder, name = request.path_params["step"], request.path_params["name"]
    found = [one for one in _samples(service).glob("*/*.wav") if one.parts[-2:] == (folder, name)]
    if not found:
        raise RequestError(404, "the run has no such clip")
    return FileResponse(found[0], media_type="audio/wav")


def _samples(service: Service) -> Path:
    """Return the folder of a run's previews."""
    if service.run is None:
        raise RequestError(404, "no run is shown; start the server with --run")
    return service.run / _PREVIEWS
