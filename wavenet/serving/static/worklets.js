// Runs in the audio thread: blocks from the microphone, and blocks to the loudspeaker.

const BLOCK = 256;
const HELD = 2 * BLOCK, MOST = 16 * BLOCK, RING = 1 << 15;  // samples

class Capture extends AudioWorkletProcessor {
  constructor() { super(); this.block = new Float32Array(BLOCK); this.filled = 0; }

  process([[channel]]) {
    if (channel === undefined) return true;
    this.block.set(channel, this.filled);
    this.filled += channel.length;
    if (this.filled === BLOCK) {
      this.port.postMessage(this.block.slice());
      this.filled = 0;
    }
    return true;
  }
}

/** Plays blocks as they come. Some are held before it begins, and again after it had none left. */
class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new Float32Array(RING);
    this.read = this.written = this.gaps = this.calls = 0;
    this.playing = false;
    this.port.onmessage = ({ data }) => this.take(data);
  }

  take(block) {
    for (const x of block) this.ring[this.written++ % RING] = x;
    if (this.written - this.read > MOST) this.read = this.written - HELD;  // too late: skip
  }

  process(_, [[channel]]) {
    const waiting = this.written - this.read;
    if (this.playing && waiting < channel.length) { this.playing = false; this.gaps++; }
    if (!this.playing && waiting >= HELD) this.playing = true;
    if (this.playing)
      for (let i = 0; i < channel.length; i++) channel[i] = this.ring[this.read++ % RING];
    if (++this.calls % 64 === 0)
      this.port.postMessage({ waiting: this.written - this.read, gaps: this.gaps });
    return true;
  }
}

registerProcessor("capture", Capture);
registerProcessor("player", Player);
