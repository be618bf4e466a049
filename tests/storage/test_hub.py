"""A name is a folder first, then a repository of the Hub, of which no other file is ever taken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import wavenet
from wavenet.cli.main import main
from wavenet.storage import hub
from wavenet.storage.checkpoint import CheckpointError, read_config
from wavenet.training.finetune import with_speakers

CONFIG = wavenet.WaveNetConfig(
    layers_per_stack=2, stacks=1, residual_channels=4, skip_channels=6, distribution="gaussian"
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def lay_out(cache: Path, name: str, files: dict[str, bytes], *, revision: str = "main") -> Path:
    """A repository as the Hub's cache keeps it: blobs, snapshots of links to them, and refs."""
    root = cache / f"models--{name.replace('/', '--')}"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "refs" / revision).write_text(COMMIT)
    for number, (file, content) in enumerate(files.items()):
        blob = root / "blobs" / f"{number:040}"
        blob.write_bytes(content)
        (root / "snapshots" / COMMIT / file).symlink_to(Path("../../blobs") / blob.name)
    return root / "snapshots" / COMMIT


@pytest.fixture
def saved(tmp_path: Path) -> wavenet.WaveNet:
    """A model, whose checkpoint lies in ``saved``."""
    model = wavenet.WaveNet(CONFIG)
    model.save(tmp_path / "saved", provenance={"corpus": "toy"})
    return model


@pytest.fixture
def hub_cache(tmp_path: Path, saved: wavenet.WaveNet, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache without a network, holding ann/voice, at main and at v1."""
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="the extra hub is not installed"
    )
    files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    lay_out(tmp_path / "cache", "ann/voice", files)
    lay_out(tmp_path / "cache", "ann/voice", {}, revision="v1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def test_a_model_is_loaded_by_its_name_on_the_hub_from_the_cache(
    hub_cache: Path, saved: wavenet.WaveNet
) -> None:
    for revision in (None, "main", "v1", COMMIT):
        loaded = wavenet.load("ann/voice", revision=revision)
        assert loaded.config == CONFIG
        expected = saved.state_dict()
        assert all(torch.equal(part, expected[key]) for key, part in loaded.state_dict().items())


def test_the_class_loads_by_the_names_of_the_hubs_own_library(
    hub_cache: Path, saved: wavenet.WaveNet, tmp_path: Path
) -> None:
    saved.save_pretrained(tmp_path / "again")
    for name in ("ann/voice", "hf://ann/voice", tmp_path / "again"):
        loaded = wavenet.WaveNet.from_pretrained(name)
        assert not loaded.training
        expected = saved.state_dict()
        assert all(torch.equal(part, expected[key]) for key, part in loaded.state_dict().items())
    assert wavenet.WaveNet.from_pretrained("prompts-16k").licences
    content = json.loads((tmp_path / "again" / "config.json").read_text())
    content["architecture"] = "nam"
    (tmp_path / "again" / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="again has architecture 'nam', expected 'wavenet'"):
        wavenet.WaveNet.from_pretrained(tmp_path / "again")


def test_the_command_line_takes_the_name_as_well(
    hub_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "ann/voice", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["corpus"] == "toy"


def test_a_folder_of_that_name_comes_first(hub_cache: Path, tmp_path: Path) -> None:
    other = wavenet.WaveNet(CONFIG.replace(residual_channels=5))
    other.save(tmp_path / "ann" / "voice")
    assert wavenet.load("ann/voice").config == other.config
    with pytest.raises(ValueError, match="revision='v1' of ann/voice: only what is on the Hub has"):
        wavenet.load("ann/voice", revision="v1")


@pytest.mark.parametrize(
    "name",
    ["voice", "./ann/voice", "/ann/voice", "ann/voice/x", "../voice", "a nn/voice", Path("a/b")],
)
def test_what_is_no_owner_and_name_is_a_folder(name: str | Path) -> None:
    assert hub.resolve(name) == Path(name)


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(hub_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    with pytest.raises(CheckpointError, match="ann/voice holds no config.json; name the folder"):
        wavenet.load("ann/voice")
    assert wavenet.load("hf://ann/voice").config == CONFIG
    assert wavenet.load("ann/voice", revision="v1").config == CONFIG


def test_an_address_of_the_hub_is_never_a_folder(hub_cache: Path, tmp_path: Path) -> None:
    other = wavenet.WaveNet(CONFIG.replace(residual_channels=5))
    other.save(tmp_path / "ann" / "voice")
    assert wavenet.load("hf://ann/voice").config == CONFIG
    with pytest.raises(ValueError, match="hf://saved is no repository of the Hub; give hf://owner"):
        wavenet.load("hf://saved")
    with pytest.raises(CheckpointError, match="^hf://ann/nobody could not be fetched from the Hug"):
        wavenet.load("hf://ann/nobody")


def test_a_log_line_names_the_repository_of_the_hub(
    hub_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="wavenet"):
        wavenet.load("ann/voice")
    (line,) = caplog.messages
    assert line.startswith("hf://ann/voice is a model of the Hugging Face Hub, kept in ")


def test_a_name_of_neither_a_folder_nor_a_repository_is_an_error_of_one_line(
    hub_cache: Path,
) -> None:
    for name, revision in (("ann/nobody", None), ("ann/voice", "v9")):
        with pytest.raises(CheckpointError) as caught:
            wavenet.load(name, revision=revision)
        assert f"{name} is no folder here, and could not be fetched from the Hugg" in str(
            caught.value
        )
        assert "\n" not in str(caught.value)


def test_without_the_package_the_line_names_the_extra(
    tmp_path: Path, saved: wavenet.WaveNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError) as caught:
        wavenet.load("ann/nobody")
    assert str(caught.value) == (
        "ann/nobody is no folder here, and could not be fetched from the Hugging Face Hub without "
        "huggingface_hub; pip install 'wavenet-audio[hub]'"
    )
    with pytest.raises(
        ModuleNotFoundError, match=r"needs huggingface_hub; pip install '.*\[hub\]'"
    ):
        saved.push("ann/voice")


class Recorder:
    """Stands for the service: keeps what would have been sent."""

    sent: dict[str, bytes]
    calls: list[tuple[str, dict[str, Any]]]

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        Recorder.calls.append((repo_id, {"private": private}))

    def upload_folder(
        self, *, repo_id: str, folder_path: str, allow_patterns: list[str], commit_message: str
    ) -> str:
        Recorder.sent = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        assert sorted(allow_patterns) == sorted(Recorder.sent)
        return f"https://hub/{repo_id}/commit/{COMMIT}"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """Record of pushes, instead of the service."""
    package = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
    monkeypatch.setattr(package, "HfApi", Recorder)
    Recorder.calls, Recorder.sent = [], {}
    return Recorder


def test_what_was_pushed_can_be_loaded_by_its_name(
    service: type[Recorder], hub_cache: Path, saved: wavenet.WaveNet
) -> None:
    address = saved.push("ann/other", private=True, provenance={"steps": 7})
    assert address == f"https://hub/ann/other/commit/{COMMIT}"
    assert service.calls == [("ann/other", {"private": True})]
    assert sorted(service.sent) == ["README.md", "config.json", "model.safetensors"]
    lay_out(hub_cache, "ann/other", service.sent)
    assert torch.equal(wavenet.load("ann/other").head[3].weight, saved.head[3].weight)


def test_a_model_card_has_usage_and_provenance(
    service: type[Recorder], tmp_path: Path, saved: wavenet.WaveNet
) -> None:
    wavenet.push(tmp_path / "saved", "ann/voice")
    card = service.sent["README.md"].decode()
    assert card.startswith("---\nlibrary_name: wavenet-audio\n")
    assert 'model = wavenet.load("hf://ann/voice")' in card
    assert "| residual_channels | `4` |" in card
    assert "- corpus: `toy`" in card
    assert card == hub.model_card("ann/voice", read_config(tmp_path / "saved"))


def test_a_card_of_ones_own_is_kept_and_nothing_else_is_sent(
    service: type[Recorder], tmp_path: Path, saved: wavenet.WaveNet
) -> None:
    (tmp_path / "saved" / "README.md").write_text("mine")
    (tmp_path / "saved" / "secret.txt").write_text("not for the world")
    wavenet.push(tmp_path / "saved", "ann/voice")
    assert service.sent["README.md"] == b"mine"
    assert sorted(service.sent) == ["README.md", "config.json", "model.safetensors"]


def test_a_voice_is_pushed_with_its_card_its_licence_and_its_attribution(
    service: type[Recorder],
) -> None:
    wavenet.push("prompts-16k", "ann/voice")
    shipped = wavenet.storage.pretrained.voice_folder("prompts-16k")
    for name in ("LICENSE-CC-BY-SA-3.0.txt", "ATTRIBUTION.txt", "model.safetensors"):
        assert service.sent[name] == (shipped / name).read_bytes()
    card = service.sent["README.md"].decode()
    assert "\nlicense: cc-by-sa-3.0\n" in card.split("---")[1]
    assert (shipped / "MODEL_CARD.md").read_text() in card


def test_a_loaded_voice_keeps_its_licence_where_it_is_saved_trained_on_or_pushed(
    service: type[Recorder], tmp_path: Path
) -> None:
    texts = {"LICENSE-CC-BY-SA-3.0.txt", "ATTRIBUTION.txt"}
    model = wavenet.load("prompts-16k")
    assert model.licences.keys() == texts
    model.push("ann/voice")
    assert texts < service.sent.keys()
    with_speakers(model, ["eve"]).save(tmp_path / "more")
    assert wavenet.load(tmp_path / "more").licences == model.licences
    assert wavenet.WaveNet(model.config).licences == {}


def test_a_licence_without_an_identifier_of_the_hub_is_linked(
    service: type[Recorder], tmp_path: Path, saved: wavenet.WaveNet
) -> None:
    (tmp_path / "saved" / "LICENSE.txt").write_text("ask me")
    (tmp_path / "saved" / "NOTICE").write_text("made by ann")
    wavenet.push(tmp_path / "saved", "ann/voice")
    assert {"LICENSE.txt", "NOTICE"} < service.sent.keys()
    card = service.sent["README.md"].decode()
    assert 'license: other\nlicense_link: "LICENSE.txt"\n' in card
    assert "Licence and attribution: LICENSE.txt, NOTICE" in card


def test_what_is_pushed_names_no_local_folder_and_no_command(
    service: type[Recorder], saved: wavenet.WaveNet
) -> None:
    origin = {
        "command": "wavenet train --corpus /data/ann/secret --out runs/x",
        "training": {"corpus": "/data/ann/secret/voices", "cache": "~/scratch/x", "seed": 3},
        "note": "begun from C:\\Users\\ann\\first and file:///data/ann/second, see https://x.org/ann",
    }
    saved.push("ann/voice", provenance=origin)
    pushed = json.loads(service.sent["config.json"])["provenance"]
    del pushed["versions"]
    assert pushed == {
        "training": {"corpus": "voices", "cache": "x", "seed": 3},
        "note": "begun from first and second, see https://x.org/ann",
    }
    for text in (service.sent["README.md"].decode(), service.sent["config.json"].decode()):
        assert "secret" not in text
        assert "wavenet train" not in text


def test_a_card_shows_settings_and_origin_as_plain_text(
    service: type[Recorder], saved: wavenet.WaveNet
) -> None:
    saved.push("ann/voice", provenance={"a|b": "`<b>`\x1b[31m\n# no heading"})
    assert "- a\\|b: `'<b>'\\x1b[31m\\n# no heading`\n" in service.sent["README.md"].decode()


def test_what_is_no_checkpoint_or_no_name_is_not_pushed(
    service: type[Recorder], tmp_path: Path, saved: wavenet.WaveNet
) -> None:
    with pytest.raises(ValueError, match="name='voice' is no repository of the Hub; give owner/na"):
        wavenet.push(tmp_path / "saved", "voice")
    with pytest.raises(CheckpointError, match="holds no config.json"):
        wavenet.push(tmp_path, "ann/voice")
    (tmp_path / "saved" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model.safetensors is missing; the checkpoint is in"):
        wavenet.push(tmp_path / "saved", "ann/voice")
    assert not service.calls


@pytest.mark.slow
def test_the_environment_of_the_hub_is_respected(hub_cache: Path, repository: Path) -> None:
    script = "import wavenet; print(wavenet.load('ann/voice').config.residual_channels)"
    moved = hub_cache.parent / "moved"
    shutil.copytree(hub_cache, moved, symlinks=True)
    environment = {
        "HF_HUB_CACHE": str(moved),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(repository),
        "HOME": str(hub_cache.parent),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "4\n"
