// The data that the page carries: a JSON header and arrays, compressed, as base64.
"use strict";

const ARRAYS = { float32: Float32Array, int16: Int16Array, uint8: Uint8Array };

async function unpack() {
  const text = document.getElementById("data").textContent;
  const compressed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(stream).arrayBuffer();
  const headerLength = new DataView(bytes).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, headerLength)));
  for (const group of header[header.packed]) {
    for (const [name, array] of Object.entries(group.arrays)) {
      group[name] = new ARRAYS[array.type](bytes, header.start + array.offset, array.length);
    }
  }
  return header;
}
