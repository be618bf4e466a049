"""The listening page in a real browser: it plays, sorts, obeys the keys and asks no network."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find_browser

from wavenet import MelConfig, WaveNet, WaveNetConfig
from wavenet.cli.main import main

BROWSER = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium"),
]
# Of each utterance: recording, model, its network alone, Griffin-Lim, quantiser.
VERSIONS = 5
CURRENT = "document.querySelector('.version.current audio')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """Three sentences, vocoded by an untrained model."""
    folder = tmp_path_factory.mktemp("page")
    corpus = folder / "speech"
    corpus.mkdir()
    for name in ("conf-onlyone", "conf-invalid", "dir-nomore"):
        os.symlink(samples / "prompts-en" / f"{name}.flac", corpus / f"{name}.flac")
    config = WaveNetConfig(
        layers_per_stack=4, stacks=1, residual_channels=8, skip_channels=8, mel=MelConfig()
    )
    WaveNet(config).save(folder / "model")
    given = ["evaluate", str(folder / "model"), str(corpus), "--out", str(folder / "report")]
    less = ["--baselines", "griffin_lim,quantiser", "--metrics", "pesq,stoi"]
    assert main([*given, *less]) == 0
    return folder / "report" / "index.html"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    assert BROWSER is not None
    with Browser(BROWSER, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def desktop(tab: Any, page: Path) -> Iterator[Any]:
    tab.problems.clear()
    tab.requests.clear()
    tab.open(page, 1280, 900)
    yield tab
    assert tab.problems == []
    assert tab.requests == []


def test_every_player_knows_its_duration_and_every_picture_is_there(desktop: Any) -> None:
    assert desktop.run("document.querySelectorAll('audio').length") == 3 * VERSIONS
    for number in range(3):
        utterance = f"document.querySelectorAll('.utterance')[{number}]"
        desktop.run(f"{utterance}.scrollIntoView()")
        players = f"[...{utterance}.querySelectorAll('audio')]"
        desktop.wait_for(f"{players}.every((audio) => audio.duration > 0)")
        written = desktop.run(f"parseFloat({utterance}.querySelector('h3 small').textContent)")
        durations = desktop.run(f"{players}.map((audio) => audio.duration)")
        assert durations == pytest.approx([written] * VERSIONS, abs=0.051)  # written with one digit
    widths = desktop.run("[...document.images].map((image) => image.naturalWidth)")
    assert len(widths) == 3 * VERSIONS
    assert min(widths) > 50


def test_a_table_sorts_up_and_down_and_keeps_what_has_no_value_last(desktop: Any) -> None:
    rows = "[...document.querySelector('table').tBodies[0].rows].map((r) => r.cells[0].innerText)"
    heads = "[...document.querySelectorAll('table')[0].tHead.rows[0].cells]"
    mcd = f"{heads}.find((head) => head.textContent.includes('MCD'))"
    before = desktop.run(rows)
    desktop.run(f"{mcd}.querySelector('button').click()")
    assert desktop.run(f"{mcd}.ariaSort") == "ascending"  # the best first
    best_first = desktop.run(rows)
    assert best_first[-1].endswith(", network alone")  # it has learnt nothing
    desktop.run(f"{mcd}.querySelector('button').click()")
    assert desktop.run(rows) == best_first[::-1]
    desktop.run(f"{heads}[1].querySelector('button').click()")  # bits: the model's alone
    assert desktop.run(rows)[0] == before[0]
    assert desktop.run(f"{heads}.filter((head) => head.ariaSort).length") == 1


def test_keys_play_switch_in_place_and_move(desktop: Any) -> None:
    desktop.press("j")
    desktop.press(" ")
    desktop.wait_for(f"{CURRENT}.currentTime > 0.3")
    desktop.press("4")  # the fourth version, from there
    # A key may be handled a moment after it was sent, so what follows from one is waited for.
    desktop.wait_for(f"{CURRENT}.ariaLabel.endsWith(', Griffin-Lim')")
    desktop.wait_for(f"!{CURRENT}.paused && {CURRENT}.currentTime > 0.3")
    playing = "[...document.querySelectorAll('audio')].filter((audio) => !audio.paused).length"
    assert desktop.run(playing) == 1
    desktop.press(" ")
    desktop.wait_for(f"{playing} === 0")
    assert not desktop.run(f"{CURRENT}.ended")
    desktop.press("0")
    desktop.wait_for(f"{CURRENT}.currentTime === 0")
    desktop.press("ArrowRight")
    desktop.wait_for(f"{CURRENT}.currentTime === 1")
    desktop.press("ArrowLeft")
    desktop.wait_for(f"{CURRENT}.currentTime === 0")
    index = "[...document.querySelectorAll('.utterance')].findIndex((u) => u.matches('.current'))"
    desktop.press("j")
    desktop.wait_for(f"{index} === 1")
    assert desktop.run(f"{CURRENT}.ariaLabel").endswith(", Griffin-Lim")
    desktop.press("k")
    desktop.press("k")
    desktop.wait_for(f"{index} === 0")


def test_a_sound_that_was_stopped_at_once_does_not_take_the_place_back(desktop: Any) -> None:
    """Browsers report a play after it has been asked for, and maybe after the next key."""
    index = "[...document.querySelectorAll('.utterance')].findIndex((u) => u.matches('.current'))"
    for _ in range(8):
        desktop.press("k")
        desktop.press("k")
        desktop.press("1")
        desktop.press("3")
        desktop.press(" ")
        desktop.press("j")
        desktop.wait_for(f"{index} === 1")
        later = "new Promise((done) => setTimeout(done, 100))"
        desktop.run(f"{later}.then(() => 0)")
        assert desktop.run(index) == 1


def test_a_picture_is_played_from_where_it_is_pressed(desktop: Any) -> None:
    desktop.run("document.querySelector('.utterance').scrollIntoView()")
    box = desktop.run(
        "(({x, y, width, height}) => [x, y, width, height])"
        "(document.querySelector('.picture').getBoundingClientRect())"
    )
    place = {"x": box[0] + box[2] / 2, "y": box[1] + box[3] / 2, "button": "left", "clickCount": 1}
    for kind in ("mousePressed", "mouseReleased"):
        desktop.call("Input.dispatchMouseEvent", type=kind, **place)
    desktop.wait_for(f"{CURRENT} && {CURRENT}.currentTime >= {CURRENT}.duration * 0.49")


def test_every_player_and_picture_has_a_name_for_who_does_not_see(desktop: Any) -> None:
    assert desktop.run("[...document.querySelectorAll('audio')].every((a) => a.ariaLabel)")
    labels = desktop.run("[...document.querySelectorAll('audio')].map((a) => a.ariaLabel)")
    assert len(set(labels)) == 3 * VERSIONS
    assert desktop.run("[...document.images].every((image) => image.alt)")
    assert desktop.run("document.documentElement.lang") == "en"


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_nothing_hangs_over_the_side(tab: Any, page: Path, width: int) -> None:
    tab.open(page, width, 844)
    assert tab.run("document.documentElement.scrollWidth") == width
    assert tab.run("[...document.querySelectorAll('audio')].every((a) => a.clientWidth >= 250)")


def test_without_scripts_it_still_shows_and_plays_everything(tab: Any, page: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(page, 1280, 900)
        tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    names = [node.get("name", {}).get("value", "") for node in tree]
    assert sum("Griffin-Lim" in name for name in names) > 3
    assert not any(name.startswith("Keys:") for name in names)
