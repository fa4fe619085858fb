// The recording that the page carries: a JSON header and arrays, compressed, as base64.
"use strict";

const ARRAYS = { float32: Float32Array, int16: Int16Array, uint8: Uint8Array };

async function readRecording() {
  const text = document.getElementById("data").textContent;
  const compressed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(stream).arrayBuffer();
  const headerLength = new DataView(bytes).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, headerLength)));
  for (const episode of header.episodes) {
    for (const [name, array] of Object.entries(episode.arrays)) {
      episode[name] = new ARRAYS[array.type](bytes, header.start + array.offset, array.length);
    }
  }
  return header;
}

// Where each moment of the page's time lies: the episode, the state at or before it, and how far it is to the next.
class Timeline {
  constructor(header) {
    this.dt = header.dt;
    this.episodes = header.episodes;
    this.starts = [0];
    for (const episode of header.episodes) this.starts.push(this.starts.at(-1) + episode.steps * header.dt);
    this.duration = this.starts.at(-1);
  }

  moment(time) {
    let index = this.episodes.length - 1;
    while (index > 0 && time < this.starts[index]) index--;
    const steps = Math.min(this.episodes[index].steps, Math.max(0, (time - this.starts[index]) / this.dt + 1e-6));
    const step = Math.min(Math.floor(steps), this.episodes[index].steps - 1);
    return { index, episode: this.episodes[index], step, fraction: Math.max(0, steps - step - 1e-6) };
  }
}
