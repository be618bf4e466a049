// The microphone through an amplifier on the server, and back to the loudspeaker, block by block.

import { openMicrophone } from "./sound.js";

const $ = (id) => document.getElementById(id);
const SHOWN_EVERY_MS = 250, MOST_BUFFERED = 1 << 16;  // bytes on their way to the server
const HEADPHONES = "Through headphones: the loudspeaker would feed back.";
let live = null;  // what runs, or begins to

/** A socket that has taken the settings, and what the server says of the model. */
async function connected(name, session) {
  const address = new URL("process", document.baseURI);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = session.socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  const facts = await new Promise((done, failed) => {
    socket.onopen = () =>
      socket.send(JSON.stringify({ model: name, input_type: "float32", output_type: "float32" }));
    socket.onmessage = ({ data }) => done(JSON.parse(data));
    socket.onerror = socket.onclose = () => failed(new Error("the server does not answer"));
  });
  if (facts.error) throw new Error(facts.error);
  return facts;
}

function amplified(context, db) {
  const node = context.createGain();
  node.gain.value = 10 ** (db.value / 20);
  return node;
}

function peak(samples) { return samples.reduce((most, x) => Math.max(most, Math.abs(x)), 0); }

async function start(name, session) {
  const facts = await connected(name, session);
  const rate = facts.sample_rate, sent = [];
  let dropped = 0, trip_ms = 0, held = { waiting: 0, gaps: 0 }, shown = 0, loudest = [0, 0];
  const { socket } = session;
  const microphone = session.microphone = await openMicrophone(rate, (block) => {
    loudest[0] = Math.max(loudest[0], peak(block));
    if (socket.readyState !== WebSocket.OPEN || socket.bufferedAmount > MOST_BUFFERED) return dropped++;
    sent.push(performance.now());
    socket.send(block);
  }, (context) => (session.input = amplified(context, $("amp-input"))));
  if (live !== session) return microphone.stop();  // stopped meanwhile
  const { context } = microphone;
  const player = new AudioWorkletNode(context, "player", { numberOfInputs: 0 });
  session.output = amplified(context, $("amp-output"));
  player.connect(session.output).connect(context.destination);
  $("amp-status").textContent = "";
  player.port.onmessage = ({ data }) => { held = data; };
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") return stop(JSON.parse(data).error ?? "");
    const block = new Float32Array(data), now = performance.now();
    player.port.postMessage(block);
    trip_ms += 0.1 * (now - sent.shift() - trip_ms);
    loudest[1] = Math.max(loudest[1], peak(block));
    if (now - shown < SHOWN_EVERY_MS) return;
    shown = now;
    [$("amp-level-in").value, $("amp-level-out").value] = loudest;
    loudest = [0, 0];
    const device_ms = 1000 * ((context.baseLatency ?? 0) + (context.outputLatency ?? 0));
    const own_ms = (1000 * block.length) / rate + trip_ms + (1000 * held.waiting) / rate;
    $("amp-numbers").textContent = `${rate / 1000} kHz; microphone to loudspeaker ` +
      `${Math.round(own_ms + device_ms + facts.latency_ms)} ms, of which ${facts.latency_ms} in the model, ` +
      `${Math.round(trip_ms)} to the server and back; gaps: ${held.gaps + dropped}`;
  };
  socket.onclose = () => { if (live === session) stop("The server has ended it."); };
}

function stop(text = HEADPHONES) {
  const session = live;
  live = null;
  if (session?.socket) {
    session.socket.onclose = session.socket.onerror = session.socket.onmessage = null;
    session.socket.close();
  }
  session?.microphone?.stop();
  $("amp-live").textContent = "Play live";
  $("amp-live").setAttribute("aria-pressed", "false");
  $("amp-status").textContent = text;
  $("amp-numbers").textContent = "";
  $("amp-level-in").value = $("amp-level-out").value = 0;
}

async function toggle() {
  if (live !== null) return stop();
  const session = live = { socket: null, microphone: null };
  $("amp-live").textContent = "Stop";
  $("amp-live").setAttribute("aria-pressed", "true");
  $("amp-status").textContent = "beginning ...";
  try {
    await start($("amp-model").value, session);
  } catch (error) {
    if (live === session) stop(error.message);
  }
}

function showGain(input) {
  const text = `${input.value > 0 ? "+" : ""}${input.value} dB`;
  document.querySelector(`output[for=${input.id}]`).textContent = text;
  input.setAttribute("aria-valuetext", text);
}

export function showAmplifiers(amplifiers) {
  const names = Object.keys(amplifiers);
  $("amp").hidden = $("amp-key").hidden = names.length === 0;
  for (const name of names) $("amp-model").add(new Option(name, name));
  $("amp-live").addEventListener("click", toggle);
  $("amp-live").disabled = !navigator.mediaDevices?.getUserMedia;
  $("amp-model").addEventListener("change", async () => {
    if (live === null) return;
    stop();
    await toggle();
  });
  for (const [id, node] of [["amp-input", "input"], ["amp-output", "output"]]) {
    showGain($(id));
    $(id).addEventListener("input", () => {
      showGain($(id));
      if (live?.[node]) live[node].gain.value = 10 ** ($(id).value / 20);
    });
  }
}
