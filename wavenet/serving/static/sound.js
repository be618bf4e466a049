// Samples in the browser: WAV files, the microphone, and spectrograms.

/** The bytes of a 16-bit WAV file of mono samples in [-1, 1]. */
export function wavOf(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) =>
    view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(x * 32768))), true));
  return view.buffer;
}

/** The mean of the channels of an audio file, at a rate. */
export async function decoded(bytes, rate) {
  const audio = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  const mono = new Float32Array(audio.length);
  for (let c = 0; c < audio.numberOfChannels; c++)
    audio.getChannelData(c).forEach((x, i) => { mono[i] += x / audio.numberOfChannels; });
  return mono;
}

export function joined(parts) {
  const all = new Float32Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) { all.set(part, at); at += part.length; }
  return all;
}

/** The microphone: blocks of samples to a function, until stop() is called.
 * before(context), where it is given, makes a node that they pass through. */
export async function openMicrophone(rate, onBlock, before = null) {
  const processing = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const media = await navigator.mediaDevices.getUserMedia({ audio: processing });
  const context = new AudioContext(rate ? { sampleRate: rate } : {});
  const stop = () => { media.getTracks().forEach((track) => track.stop()); context.close(); };
  try {
    await context.audioWorklet.addModule("page/worklets.js");
    const source = context.createMediaStreamSource(media);
    const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    capture.port.onmessage = (event) => onBlock(event.data);
    (before === null ? source : source.connect(before(context))).connect(capture);
    return { context, source, rate: context.sampleRate, stop };
  } catch (error) {
    stop();
    throw error;
  }
}

const SIZE = 1024;
const window_ = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
const cosines = Float32Array.from({ length: SIZE / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / SIZE));
const sines = Float32Array.from({ length: SIZE / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / SIZE));
const reversed = Uint16Array.from({ length: SIZE }, (_, i) =>
  parseInt(i.toString(2).padStart(10, "0").split("").reverse().join(""), 2));
const re = new Float32Array(SIZE), im = new Float32Array(SIZE);

/** Magnitudes in dB of the bins of a window about a sample (radix-2 FFT, decimation in time). */
function spectrumAt(samples, centre) {
  for (let i = 0; i < SIZE; i++) {
    re[reversed[i]] = window_[i] * (samples[centre - SIZE / 2 + i] ?? 0);
    im[i] = 0;
  }
  for (let half = 1; half < SIZE; half *= 2) {
    const stride = SIZE / (2 * half);
    for (let begin = 0; begin < SIZE; begin += 2 * half)
      for (let k = 0; k < half; k++) {
        const a = begin + k, b = a + half, c = cosines[k * stride], s = sines[k * stride];
        const x = re[b] * c + im[b] * s, y = im[b] * c - re[b] * s;
        re[b] = re[a] - x; im[b] = im[a] - y; re[a] += x; im[a] += y;
      }
  }
  return Float32Array.from({ length: SIZE / 2 }, (_, i) =>
    10 * Math.log10(re[i] * re[i] + im[i] * im[i] + 1e-9));
}

const STOPS = [[8, 6, 15], [62, 15, 114], [148, 38, 128], [222, 73, 104], [254, 159, 109], [252, 253, 191]];
const PALETTE = Array.from({ length: 256 }, (_, i) => {
  const at = (i / 256) * (STOPS.length - 1), low = Math.floor(at), share = at - low;
  return STOPS[low].map((c, k) => Math.round(c + share * (STOPS[low + 1][k] - c)));
});
const FLOOR_DB = -45, RANGE_DB = 90;

/** A spectrogram that is drawn as its samples come, in a picture one column per pixel. */
export class Spectrogram {
  constructor(canvas, expected) {
    this.canvas = canvas;
    this.canvas.width = Math.max(200, Math.round(canvas.clientWidth || 600));
    this.canvas.height = 160;
    this.context = canvas.getContext("2d");
    this.picture = this.context.createImageData(this.canvas.width, this.canvas.height);
    for (let i = 0; i < this.picture.data.length; i += 4)
      this.picture.data.set([...STOPS[0], 255], i);
    this.expected = Math.max(1, expected);
    this.column = 0;
    this.show(0);
  }

  /** Draw the columns of the samples that are there by now. */
  add(samples) {
    const { width, height } = this.canvas;
    const perColumn = this.expected / width;
    while (this.column < width && (this.column + 0.5) * perColumn < samples.length) {
      const levels = spectrumAt(samples, Math.round((this.column + 0.5) * perColumn));
      for (let y = 0; y < height; y++) {
        const bin = Math.floor(((height - 1 - y) / height) * levels.length);
        const level = (levels[bin] - FLOOR_DB) / RANGE_DB;
        const shade = PALETTE[Math.max(0, Math.min(255, Math.round(255 * level)))];
        this.picture.data.set(shade, 4 * (y * width + this.column));
      }
      this.column++;
    }
    this.show(0);
  }

  /** Show the picture, and where it is being played, from 0 to 1. */
  show(place) {
    this.context.putImageData(this.picture, 0, 0);
    if (place <= 0) return;
    this.context.fillStyle = "rgba(255, 255, 255, .85)";
    this.context.fillRect(Math.round(place * this.canvas.width) - 1, 0, 2, this.canvas.height);
  }
}
