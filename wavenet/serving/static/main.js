// The page: what is recorded or dropped goes to the server, and comes back in several versions.

import { decoded, joined, openMicrophone, wavOf } from "./sound.js";
import { Players, Version } from "./version.js";
import { showAmplifiers } from "./amplifier.js";
import { showRun } from "./run.js";

const $ = (id) => document.getElementById(id);
const info = await (await fetch("info")).json();
const rate = info.sample_rate;
const players = new Players();
const source = { bytes: null, samples: null, name: "" };

// Settings

const NAMES = ["pitch", "formant", "speed", "temperature", "refine", "speaker", "seed"];
const factor = (input) => input.dataset.scale === "power" ? 2 ** input.value : Number(input.value);

function showSettings() {
  for (const input of document.querySelectorAll("#settings input[type=range]")) {
    const value = factor(input);
    const digits = input.step < 1 ? 2 : 0;
    const text = `${input.dataset.scale === "power" ? "× " : ""}${value.toFixed(digits)}`;
    document.querySelector(`output[for=${input.id}]`).textContent = text;
    input.setAttribute("aria-valuetext", text);
  }
}

/** The query of the settings; without those that the system does not know. */
function query(more = {}) {
  const given = { ...more };
  for (const name of NAMES) {
    const input = $(name);
    if (input.value === "" || (name === "speaker" && $("speaker-label").hidden)) continue;
    given[name] = input.dataset.scale === "power" ? factor(input).toFixed(4) : input.value;
  }
  return new URLSearchParams(given);
}

function prepareSettings() {
  $("model").textContent = `The network is ${info.model}, at ${rate / 1000} kHz.`;
  $("temperature").value = $("temperature").defaultValue = info.temperature;
  $("refine").value = $("refine").defaultValue = info.refine;
  $("speaker-label").hidden = info.speakers.length === 0;
  if (info.speaker_optional) $("speaker").add(new Option("any", ""));
  for (const name of info.speakers) $("speaker").add(new Option(name, name));
  showSettings();
  let waiting;
  const changed = () => {
    showSettings();
    clearTimeout(waiting);
    waiting = setTimeout(remakeAll, 300);
  };
  $("settings").addEventListener("input", changed);
  $("settings").addEventListener("reset", () => setTimeout(changed));
  $("settings").addEventListener("submit", (event) => event.preventDefault());
}

// Versions

async function post(path, parameters, signal) {
  const send = (body) => fetch(`${path}?${parameters}`, { method: "POST", body, signal });
  let answer = await send(source.bytes);
  if (answer.status === 415 && source.samples)  // the browser can read what the server cannot
    answer = await send(wavOf(source.samples, rate));
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
}

/** Read raw samples as they are made. */
async function received(version, answer, signal) {
  const speed = factor($("speed")), began = performance.now();
  version.begin((source.samples?.length ?? rate) / speed);
  const parts = [], reader = answer.body.getReader();
  let odd = new Uint8Array(0), samples = new Float32Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (signal.aborted) throw new DOMException("stopped", "AbortError");
    if (done) break;
    const bytes = new Uint8Array([...odd, ...value]);
    const whole = bytes.length & ~1;
    parts.push(Float32Array.from(new Int16Array(bytes.buffer.slice(0, whole)), (x) => x / 32768));
    odd = bytes.slice(whole);
    samples = joined(parts);
    version.progress(samples);
  }
  const seconds = (performance.now() - began) / 1000;
  version.finish(samples, rate, `, made in ${seconds.toFixed(1)} s`);
}

function maker(path, more) {
  return async (version, signal) => {
    if (source.bytes === null) throw new Error("record or choose a file first");
    version.stop();
    version.setState("making", "waiting for the server ...");
    await received(version, await post(path, query(more), signal), signal);
  };
}

function processed() {
  return async (version, signal) => {
    if (source.bytes === null) throw new Error("record or choose a file first");
    version.begin(source.samples?.length ?? rate);
    const answer = await post("process", new URLSearchParams({ model: $("amp-model").value }), signal);
    version.finish(await decoded(await answer.arrayBuffer(), rate), rate, "");
  };
}

const recording = new Version("Recording", null, players);
const network = new Version("Network", maker("vocode", { format: "pcm" }), players);
const TITLES = { pulses: "No network: pulses, refined", noise: "No network: noise, refined", griffin_lim: "Griffin-Lim" };
const others = ["pulses", "griffin_lim"].map((system) => {
  const version = new Version(TITLES[system], maker("baseline", { system, format: "pcm" }), players);
  if (info.baselines[system] !== null) {
    version.setState("failed", info.baselines[system]);
    version.makeButton.disabled = true;
  }
  return version;
});
if (Object.keys(info.amplifiers).length) others.push(new Version("Amplifier", processed(), players));
players.versions = [recording, network, ...others];
players.versions.forEach((version) => $("versions").append(version.element));

function remakeAll() {
  if (source.bytes === null) return;
  network.remake();
  for (const version of others)
    if (version.ready) version.setState("empty", "the settings have changed");
}

/** Take bytes of a file, and have them spoken. */
async function take(bytes, name) {
  Object.assign(source, { bytes, name, samples: null });
  $("source").textContent = name;
  $("status").textContent = "";
  for (const version of others) if (!version.makeButton.disabled) version.setState("empty", "");
  try {
    source.samples = await decoded(bytes.slice(0), rate);
    recording.finish(source.samples, rate, "");
  } catch {
    recording.setState("empty", name.endsWith(".npz") ? "a mel, without a recording" : "");
  }
  await network.remake();
}

// Where recordings come from

$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  if (file) await take(await file.arrayBuffer(), file.name);
});
for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
  });
document.addEventListener("drop", async (event) => {
  const [file] = event.dataTransfer.files;
  if (file) await take(await file.arrayBuffer(), file.name);
});

let microphone = null, blocks = [];

async function record() {
  if (microphone !== null) {
    const { rate: own } = microphone;
    microphone.stop();
    microphone = null;
    $("record").textContent = "Record";
    $("record").setAttribute("aria-pressed", "false");
    $("meter").hidden = true;
    if (blocks.length) await take(wavOf(joined(blocks), own), "your recording");
    return;
  }
  blocks = [];
  try {
    microphone = await openMicrophone(null, (block) => blocks.push(block));
  } catch (error) {
    $("status").textContent = `The microphone cannot be used: ${error.message}`;
    return;
  }
  $("record").textContent = "Stop";
  $("record").setAttribute("aria-pressed", "true");
  showMeter(microphone);
}

function showMeter({ context, source: input }) {
  const analyser = context.createAnalyser();
  input.connect(analyser);
  const canvas = $("meter"), levels = new Uint8Array(analyser.frequencyBinCount);
  canvas.hidden = false;
  const draw = canvas.getContext("2d");
  const tick = () => {
    if (context.state === "closed" || microphone === null) return;
    analyser.getByteFrequencyData(levels);
    draw.clearRect(0, 0, canvas.width, canvas.height);
    draw.fillStyle = "#de4968";
    for (let i = 0; i < 100; i++) {
      const height = (canvas.height * levels[2 * i]) / 255;
      draw.fillRect((i * canvas.width) / 100, canvas.height - height, canvas.width / 100 - 1, height);
    }
    requestAnimationFrame(tick);
  };
  tick();
}

$("record").addEventListener("click", record);
$("record").disabled = !navigator.mediaDevices?.getUserMedia;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (["INPUT", "SELECT"].includes(event.target.tagName) && event.target.type !== "range") return;
  const number = Number(event.key);
  if (event.key === "r" || event.key === "R") record();
  else if (event.key === "a" || event.key === "A") $("amp-live").click();
  else if (number >= 1 && number <= players.versions.length) players.toggle(players.versions[number - 1]);
  else if (event.key === " " && !["BUTTON", "A"].includes(event.target.tagName)) {
    event.preventDefault();
    players.toggle(players.current ?? (network.ready ? network : recording));
  }
});

prepareSettings();
showAmplifiers(info.amplifiers);
if (info.run) showRun(players, rate);
document.body.dataset.state = "ready";
