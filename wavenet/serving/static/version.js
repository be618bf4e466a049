// One way in which the recording can be heard: a player, a spectrogram, and what makes it.

import { Spectrogram, wavOf } from "./sound.js";

const PLAY = "▶", STOP = "■";

export class Version {
  /** make(version, signal) makes the samples anew; null for what cannot be made. */
  constructor(title, make, players) {
    this.title = title;
    this.make = make;
    this.samples = new Float32Array(0);
    this.rate = 1;
    this.audio = new Audio();
    const copy = document.querySelector("#version").content.cloneNode(true);
    this.element = copy.querySelector("article");
    const find = (selector) => this.element.querySelector(selector);
    [this.playButton, this.makeButton, this.canvas] = [find(".play"), find(".make"), find("canvas")];
    [this.note, this.save] = [find(".note"), find(".save")];
    find("h3").textContent = title;
    this.canvas.setAttribute("aria-label", `Spectrogram: ${title}`);
    this.makeButton.hidden = make === null;
    this.makeButton.setAttribute("aria-label", `Make: ${title}`);
    this.makeButton.addEventListener("click", () =>
      this.element.dataset.state === "making" ? this.cancel() : this.remake());
    this.playButton.addEventListener("click", () => players.toggle(this));
    this.canvas.addEventListener("click", (event) => this.seek(event));
    this.audio.addEventListener("ended", () => this.shown());
    this.setState("empty", "");
    this.shown();
  }

  get ready() { return this.element.dataset.state === "ready"; }

  /** Of its sound; the player itself knows it only after it has begun to read it. */
  get seconds() { return this.samples.length / this.rate; }

  /** empty, making, ready or failed; and what to say of it. */
  setState(state, note) {
    this.element.dataset.state = state;
    this.note.textContent = note;
    this.note.classList.toggle("error", state === "failed");
    this.playButton.disabled = state !== "ready";
    this.canvas.hidden = state === "empty" || state === "failed";
    this.save.hidden = state !== "ready";
    this.makeButton.textContent = { making: "Stop", ready: "Again" }[state] ?? "Make";
  }

  /** Begin to show samples that come in parts. */
  begin(expected) {
    this.stop();
    this.setState("making", "being made ...");
    this.spectrogram = new Spectrogram(this.canvas, expected);
  }

  progress(samples) { this.spectrogram.add(samples); }

  /** All samples are there. */
  finish(samples, rate, note) {
    this.samples = samples;
    this.rate = rate;
    this.spectrogram = new Spectrogram(this.canvas, samples.length);
    this.spectrogram.add(samples);
    if (this.audio.src) URL.revokeObjectURL(this.audio.src);
    this.audio.src = URL.createObjectURL(new Blob([wavOf(samples, rate)], { type: "audio/wav" }));
    this.save.href = this.audio.src;
    this.save.download = `${this.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}.wav`;
    this.setState("ready", `${(samples.length / rate).toFixed(2)} s${note}`);
  }

  /** Make it again; what is being made is of no use any more. */
  async remake() {
    this.abort?.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    try {
      await this.make(this, signal);
    } catch (error) {
      if (!signal.aborted) this.setState("failed", error.message);
    }
  }

  /** Stop making it: the server frees the row when the connection ends. */
  cancel() {
    this.abort.abort();
    this.setState("empty", "stopped");
  }

  play(place) {
    this.audio.currentTime = place;
    this.audio.play().catch((error) => {  // stopped before it began
      if (error.name !== "AbortError") this.setState("failed", error.message);
    });
    const tick = () => {
      this.shown();
      if (!this.audio.paused) requestAnimationFrame(tick);
    };
    tick();
  }

  stop() { this.audio.pause(); this.shown(); }

  shown() {
    const playing = !this.audio.paused && !this.audio.ended;
    this.playButton.textContent = playing ? STOP : PLAY;
    this.playButton.setAttribute("aria-pressed", String(playing));
    this.playButton.setAttribute("aria-label", `${playing ? "Stop" : "Play"}: ${this.title}`);
    if (this.ready) this.spectrogram.show(this.audio.currentTime / (this.seconds || 1));
  }

  seek(event) {
    if (!this.ready) return;
    this.audio.currentTime = (event.offsetX / this.canvas.clientWidth) * this.seconds;
    this.shown();
  }
}

/** The versions, of which one plays at a time; another goes on at the same share of its length. */
export class Players {
  constructor() { this.versions = []; this.current = null; }

  toggle(version) {
    if (!version?.ready) return;
    if (this.current === version && !version.audio.paused) return version.stop();
    const before = this.current;
    const going = before !== null && before !== version && !before.audio.paused;
    const share = going ? before.audio.currentTime / (before.seconds || 1) : 0;
    before?.stop();
    this.current = version;
    for (const one of this.versions) one.element.classList.toggle("current", one === version);
    const own = version.audio.ended ? 0 : version.audio.currentTime;
    version.play(going ? share * version.seconds : own);
  }
}
