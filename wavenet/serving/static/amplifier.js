// The microphone through an amplifier on the server, and back to the loudspeaker, block by block.

import { openMicrophone } from "./sound.js";

const $ = (id) => document.getElementById(id);
let live = null;

async function start(name, rate) {
  const address = new URL("process", document.baseURI);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  await new Promise((done, failed) => {
    socket.onopen = done;
    socket.onerror = () => failed(new Error("the server does not answer"));
  });
  socket.send(JSON.stringify({ model: name, input_type: "float32", output_type: "float32" }));
  const microphone = await openMicrophone(rate, (block) => {
    if (socket.readyState === WebSocket.OPEN && socket.bufferedAmount < 1 << 16) socket.send(block);
  });
  const player = new AudioWorkletNode(microphone.context, "player", { numberOfInputs: 0 });
  player.connect(microphone.context.destination);
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") return player.port.postMessage(new Float32Array(data));
    const facts = JSON.parse(data);
    $("amp-status").textContent = facts.error ?? `${rate / 1000} kHz, ${facts.latency_ms ?? 0} ms in the model`;
  };
  socket.onclose = stop;
  live = { socket, microphone };
}

function stop() {
  live?.microphone.stop();
  live?.socket.close();
  live = null;
  $("amp-live").textContent = "Play live";
  $("amp-live").setAttribute("aria-pressed", "false");
}

export function showAmplifiers(amplifiers) {
  const names = Object.keys(amplifiers);
  $("amp").hidden = names.length === 0;
  for (const name of names) $("amp-model").add(new Option(name, name));
  $("amp-live").addEventListener("click", async () => {
    if (live !== null) return stop();
    try {
      await start($("amp-model").value, amplifiers[$("amp-model").value]);
      $("amp-live").textContent = "Stop";
      $("amp-live").setAttribute("aria-pressed", "true");
    } catch (error) {
      $("amp-status").textContent = error.message;
      stop();
    }
  });
}
