// Runs in the audio thread: blocks from the microphone, and blocks to the loudspeaker.

const BLOCK = 512;

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

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.waiting = [];
    this.port.onmessage = (event) => {
      this.waiting.push(...event.data);
      if (this.waiting.length > 8 * BLOCK) this.waiting.splice(0, this.waiting.length - 2 * BLOCK);
    };
  }

  process(_, [[channel]]) {
    if (this.waiting.length >= channel.length) channel.set(this.waiting.splice(0, channel.length));
    return true;
  }
}

registerProcessor("capture", Capture);
registerProcessor("player", Player);
