"""The page in a real browser: a file is spoken, sliders change it, no other server is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Browser, find_browser
from served import RATE, Server, running, tone_file

from wavenet import WaveNet
from wavenet.nam import NamWaveNet, preset

BROWSER = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium"),
]
NETWORK, PULSES, AMPLIFIER = 1, 2, 4
SECONDS = 0.6


@pytest.fixture(scope="module")
def served_page(voice: WaveNet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an amplifier, and a run of two steps."""
    run = tmp_path_factory.mktemp("run")
    for step in ("step-000100", "step-000200"):
        (run / "samples" / step).mkdir(parents=True)
        tone_file(run / "samples" / step / "clip.wav", 0.2)
    torch.manual_seed(0)
    amplifier = NamWaveNet(preset("nano")).eval()
    with running(voice, amplifiers={"amp": amplifier}, run=run) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert BROWSER is not None
    with Browser(BROWSER, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def tab(browser: Browser, served_page: Server, tmp_path: Path) -> Iterator[Browser]:
    """The page, on which a file has been chosen and spoken."""
    browser.problems.clear()
    browser.requests.clear()
    browser.open(f"http://127.0.0.1:{served_page.port}/", 1100, 900)
    browser.wait_for("document.body.dataset.state === 'ready'")
    document = browser.call("DOM.getDocument")["root"]["nodeId"]
    chosen = browser.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    path = str(tone_file(tmp_path / "tone.flac", SECONDS))
    browser.call("DOM.setFileInputFiles", nodeId=chosen, files=[path])
    wait_until_made(browser, NETWORK)
    browser.wait_for("document.querySelectorAll('#clips .version .save[href]').length === 1")
    yield browser
    assert browser.problems == []
    own = f"http://127.0.0.1:{served_page.port}/", f"blob:http://127.0.0.1:{served_page.port}/"
    assert browser.requests
    assert [address for address in browser.requests if not address.startswith(own)] == []


def version(number: int) -> str:
    return f"document.querySelectorAll('#versions .version')[{number}]"


def wait_until_made(tab: Browser, number: int) -> None:
    tab.wait_for(f"['ready', 'failed'].includes({version(number)}.dataset.state)")
    assert tab.run(f"{version(number)}.querySelector('.note').textContent").startswith("0.")


def heard(tab: Browser, number: int) -> tuple[int, float]:
    """Samples and largest value of what a version's file decodes to."""
    found: dict[str, Any] = tab.run(
        f"""(async () => {{
          const file = await fetch({version(number)}.querySelector('.save').href);
          const context = new OfflineAudioContext(1, 1, {RATE});
          const sound = await context.decodeAudioData(await file.arrayBuffer());
          const peak = sound.getChannelData(0).reduce((a, x) => Math.max(a, Math.abs(x)), 0);
          return {{ length: sound.length, peak }};
        }})()"""
    )
    return found["length"], found["peak"]


def move(tab: Browser, slider: str, value: float) -> None:
    tab.run(
        f"""(() => {{
          const input = document.getElementById('{slider}');
          input.value = {value};
          input.dispatchEvent(new Event('input', {{ bubbles: true }}));
        }})()"""
    )


def test_a_file_is_spoken_and_a_slider_changes_it(tab: Browser) -> None:
    for number in (0, NETWORK):
        length, peak = heard(tab, number)
        assert length == round(SECONDS * RATE)
        assert peak > 0.01
    move(tab, "speed", 1)  # twice as fast
    tab.wait_for(f"{version(NETWORK)}.querySelector('.note').textContent.startsWith('0.30 s')")
    length, peak = heard(tab, NETWORK)
    assert length == round(SECONDS * RATE / 2)
    assert peak > 0.01
    assert tab.run("document.querySelector('output[for=speed]').textContent") == "× 2.00"


def test_copies_without_the_network_and_through_the_amplifier_are_made_on_demand(
    tab: Browser,
) -> None:
    for number in (PULSES, AMPLIFIER):
        assert tab.run(f"{version(number)}.dataset.state") == "empty"
        tab.run(f"{version(number)}.querySelector('.make').click()")
        wait_until_made(tab, number)
        assert heard(tab, number)[0] == round(SECONDS * RATE)


def test_the_keyboard_plays_and_switches(tab: Browser) -> None:
    pressed = f"{version(NETWORK)}.querySelector('.play').getAttribute('aria-pressed')"
    tab.run("document.activeElement.blur()")
    tab.press("2")
    tab.wait_for(f"{pressed} === 'true'")
    tab.press("1")
    tab.wait_for(f"{pressed} === 'false' && {version(0)}.classList.contains('current')")


def test_the_microphone_plays_through_the_amplifier_until_it_is_stopped(
    tab: Browser, served_page: Server
) -> None:
    """The browser's microphone beeps; the keyboard starts and stops it, and nothing is left."""
    shown = "document.getElementById('amp-live').getAttribute('aria-pressed')"
    status = "document.getElementById('amp-status').textContent"
    numbers = "document.getElementById('amp-numbers').textContent"
    tab.run("document.activeElement.blur()")
    for _ in range(2):
        tab.press("a")
        tab.wait_for(f"{shown} === 'true' && {numbers}.startsWith('48 kHz; microphone to loud')")
        for level in ("in", "out"):
            tab.wait_for(f"document.getElementById('amp-level-{level}').value > 0.001")
        tab.press("a")
        tab.wait_for(f"{shown} === 'false' && {status}.startsWith('Through headphones')")
    deadline = time.monotonic() + 20
    ended = b'wavenet_requests_total{endpoint="process",status="499"} 2.0'
    while ended not in served_page.service.metrics.text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_amplifier_that_cannot_begin_says_why(tab: Browser) -> None:
    status = "document.getElementById('amp-status').textContent"
    tab.run("document.getElementById('amp-model').add(new Option('gone', 'gone'))")
    tab.run("document.getElementById('amp-model').value = 'gone'")
    tab.run("document.getElementById('amp-live').click()")
    tab.wait_for(f"{status} === \"model='gone' must be one of amp\"")
    assert tab.run("document.getElementById('amp-live').getAttribute('aria-pressed')") == "false"


def test_the_run_shows_the_clips_of_its_steps(tab: Browser) -> None:
    move(tab, "step", 0)
    note = "document.querySelector('#clips .version .note').textContent"
    tab.wait_for(f"{note} === '0.20 s, step-000100'")


def test_every_control_has_a_name_and_a_phone_needs_no_scrolling_sideways(tab: Browser) -> None:
    nameless = tab.run(
        """[...document.querySelectorAll('button, input, select, canvas, a')].filter((one) =>
          !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    tab.call(
        "Emulation.setDeviceMetricsOverride",
        width=360,
        height=800,
        deviceScaleFactor=1,
        mobile=True,
    )
    tab.wait_for("innerWidth === 360")
    assert tab.run("document.documentElement.scrollWidth") <= 360
