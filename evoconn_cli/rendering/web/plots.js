// The spike raster, the rates and the rewards up to the present, which is at the right edge.
"use strict";

const WINDOW = 2.4; // seconds of playing that fit into the plots
const TILE = 2048; // columns of the raster in one picture

class Plots {
  constructor(canvas, header, timeline) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.header = header;
    this.timeline = timeline;
    this.types = typesOf(header.neurons, header.colors);
    for (const episode of header.episodes) {
      episode.curves = this.types.length ? ratesOf(episode, header.neurons, this.types) : [];
      episode.tiles = new Map();
    }
    this.greatest = Math.max(1, ...header.episodes.flatMap((e) => e.curves.map((curve) => maximum(curve))));
    this.rewards = [
      Math.min(0, ...header.episodes.map((e) => -maximum(e.rewards.map((r) => -r)))),
      Math.max(1e-6, ...header.episodes.map((e) => maximum(e.rewards))),
    ];
  }

  resize() {
    const ratio = Math.min(2, window.devicePixelRatio);
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  draw(moment, speed) {
    const { pen, width, height, header } = this;
    if (!width || !height) return;
    pen.fillStyle = css(header.colors.background);
    pen.fillRect(0, 0, width, height);
    const left = 116, right = width - 22, gap = 10;
    const track = Math.max(24, Math.min(60, 0.14 * height));
    const bottom = height - 16, middle = bottom - track;
    const past = WINDOW * speed; // seconds of simulation
    const { episode } = moment;
    const now = (moment.step + moment.fraction) * header.dt;
    const x = (time) => right - ((now - time) / past) * (right - left);
    this.box(left, middle, right, bottom);
    this.curve(episode.rewards, header.colors.reward, this.rewards, x, left, middle, right, bottom, now);
    const reward = episode.rewards[moment.step];
    this.label(left, (middle + bottom) / 2, "reward", (reward < 0 ? "" : "+") + reward.toFixed(2));
    if (!this.types.length) return;
    const rateTop = middle - gap - track, top = 16;
    this.box(left, rateTop, right, middle - gap);
    this.types.forEach((type, index) =>
      this.curve(episode.curves[index], type.color, [0, this.greatest], x, left, rateTop, right, middle - gap, now));
    const rate = this.types.reduce((sum, type, i) => sum + (type.count * episode.curves[i][moment.step]) / header.neurons.num, 0);
    this.label(left, rateTop + track / 2, "rate", `${rate.toFixed(0)} Hz`);
    this.raster(episode, x, now, past, left, top, right, rateTop - gap);
  }

  box(left, top, right, bottom) {
    this.pen.fillStyle = css(this.header.colors.track);
    this.pen.fillRect(left, top, right - left, bottom - top);
  }

  label(left, center, name, value, tint = null) {
    const { pen, header } = this;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.fillStyle = css(tint ?? header.colors.faint);
    pen.font = "13px system-ui, sans-serif";
    pen.fillText(name, left - 12, center - 9);
    pen.fillStyle = css(tint ?? header.colors.text);
    pen.font = "15px system-ui, sans-serif";
    pen.fillText(value, left - 12, center + 10);
  }

  curve(values, rgb, [low, high], x, left, top, right, bottom, now) {
    const { pen, header } = this;
    const first = Math.max(0, Math.floor((now - (right - left) / (x(1) - x(0))) / header.dt) - 1);
    const last = Math.min(values.length - 1, Math.floor(now / header.dt));
    const y = (value) => bottom - 4 - ((value - low) / (high - low)) * (bottom - top - 8);
    pen.save();
    pen.beginPath();
    pen.rect(left, top, right - left, bottom - top);
    pen.clip();
    pen.beginPath();
    for (let step = first; step <= last; step++) pen.lineTo(x((step + 0.5) * header.dt), y(values[step]));
    pen.strokeStyle = css(rgb);
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.stroke();
    pen.restore();
  }

  raster(episode, x, now, past, left, top, right, bottom) {
    const { pen, header } = this;
    this.box(left, top, right, bottom);
    // Columns are as fine as the window shows, and no finer than sub-steps.
    const perStep = Math.max(1, Math.min(header.neurons.substeps, Math.round((right - left) * (header.dt / past))));
    const column = header.dt / perStep;
    const end = Math.min(episode.steps * perStep, Math.round(now / column));
    const start = Math.max(0, Math.floor((now - past) / column));
    pen.save();
    pen.beginPath();
    pen.rect(left, top, right - left, bottom - top);
    pen.clip();
    pen.imageSmoothingEnabled = false;
    for (let tile = Math.floor(start / TILE); tile * TILE < end; tile++) {
      const from = tile * TILE, to = Math.min(end, from + TILE);
      const picture = this.tile(episode, perStep, tile);
      const at = x(from * column), width = x(to * column) - at;
      pen.drawImage(picture, 0, 0, to - from, picture.height, at, top, width, bottom - top);
    }
    pen.restore();
    let y = top;
    for (const type of this.types) {
      const share = ((bottom - top) * type.count) / header.neurons.num;
      if (share > 34) this.label(left, y + share / 2, type.name, String(type.count), type.color);
      y += share;
    }
  }

  // Pictures of the raster are made when they are first seen.
  tile(episode, perStep, index) {
    const key = `${perStep}:${index}`;
    if (!episode.tiles.has(key)) {
      if (episode.tiles.size >= 32) episode.tiles.clear();
      episode.tiles.set(key, rasterPicture(episode, this.header, this.types, perStep, index));
    }
    return episode.tiles.get(key);
  }
}

function typesOf(neurons, colors) {
  if (!neurons) return [];
  if (neurons.excitatory === null) return [{ name: "neurons", first: 0, count: neurons.num, color: colors.untyped }];
  return [
    { name: "excitatory", first: 0, count: neurons.excitatory, color: colors.excitatory },
    { name: "inhibitory", first: neurons.excitatory, count: neurons.num - neurons.excitatory, color: colors.inhibitory },
  ].filter((type) => type.count);
}

const spikeAt = (spikes, bytes, substep, neuron) => (spikes[substep * bytes + (neuron >> 3)] >> (7 - (neuron & 7))) & 1;

// Spikes of a neuron per second of network time [Hz], by type and step, averaged over the five steps before.
function ratesOf(episode, neurons, types) {
  const bytes = Math.ceil(neurons.num / 8), seconds = (neurons.substeps * neurons.substep_ms) / 1000;
  return types.map((type) => {
    const rates = new Float32Array(episode.steps);
    for (let step = 0; step < episode.steps; step++) {
      let count = 0;
      for (let s = step * neurons.substeps; s < (step + 1) * neurons.substeps; s++) {
        for (let n = type.first; n < type.first + type.count; n++) count += spikeAt(episode.spikes, bytes, s, n);
      }
      rates[step] = count / (type.count * seconds);
    }
    return rates.map((_, step) => {
      const recent = rates.subarray(Math.max(0, step - 4), step + 1);
      return recent.reduce((sum, rate) => sum + rate, 0) / recent.length;
    });
  });
}

function rasterPicture(episode, header, types, perStep, tile) {
  const { num, substeps } = header.neurons;
  const bytes = Math.ceil(num / 8);
  const columns = Math.min(TILE, episode.steps * perStep - tile * TILE);
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = num;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, num);
  const most = Math.max(1, 0.5 * Math.ceil(substeps / perStep));
  for (let column = 0; column < columns; column++) {
    const whole = tile * TILE + column, step = Math.floor(whole / perStep), part = whole % perStep;
    const first = step * substeps + Math.ceil((part * substeps) / perStep);
    const last = step * substeps + Math.ceil(((part + 1) * substeps) / perStep);
    for (const type of types) {
      for (let neuron = type.first; neuron < type.first + type.count; neuron++) {
        let count = 0;
        for (let s = first; s < last; s++) count += spikeAt(episode.spikes, bytes, s, neuron);
        if (!count) continue;
        const at = 4 * (neuron * columns + column);
        image.data.set(type.color, at);
        image.data[at + 3] = 255 * Math.min(1, 0.55 + 0.45 * Math.sqrt(count / most));
      }
    }
  }
  pen.putImageData(image, 0, 0);
  return canvas;
}

const maximum = (values) => values.reduce((most, value) => Math.max(most, value), -Infinity);
