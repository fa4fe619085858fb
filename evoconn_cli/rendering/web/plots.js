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
    this.decimals = decimalsOf(Math.max(...header.episodes.map((e) => greatestSize(e.rewards))));
    this.rewards = [
      Math.min(0, ...header.episodes.map((e) => -maximum(e.rewards.map((r) => -r)))),
      Math.max(1e-6, ...header.episodes.map((e) => maximum(e.rewards))),
    ];
  }

  resize() {
    const ratio = (this.ratio = Math.min(2, window.devicePixelRatio));
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
    const reward = formatNumber(episode.rewards[moment.step], this.decimals, true);
    this.label(left, (middle + bottom) / 2, "reward", reward);
    if (!this.types.length) return;
    const rateTop = middle - gap - track, top = 16;
    this.box(left, rateTop, right, middle - gap);
    this.types.forEach((type, index) =>
      this.curve(episode.curves[index], type.color, [0, this.greatest], x, left, rateTop, right, middle - gap, now));
    const rate = this.types.reduce((sum, type, i) => sum + (type.count * episode.curves[i][moment.step]) / header.neurons.num, 0);
    this.label(left, rateTop + track / 2, "spikes/s", rate.toFixed(0));
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
    const grain = grainOf(this.types, header, (right - left) * (header.dt / past), Math.floor((bottom - top) * this.ratio));
    const column = (header.dt * grain.steps) / grain.perStep;
    const end = Math.min(numColumns(episode, grain), Math.round(now / column));
    const start = Math.max(0, Math.floor((now - past) / column));
    pen.save();
    pen.beginPath();
    pen.rect(left, top, right - left, bottom - top);
    pen.clip();
    pen.imageSmoothingEnabled = false;
    for (let tile = Math.floor(start / TILE); tile * TILE < end; tile++) {
      const from = tile * TILE, to = Math.min(end, from + TILE);
      const picture = this.tile(episode, grain, tile);
      const at = x(from * column), width = x(to * column) - at;
      pen.drawImage(picture, 0, 0, to - from, picture.height, at, top, width, bottom - top);
    }
    pen.restore();
    let y = top;
    for (const type of this.types) {
      const share = ((bottom - top) * Math.ceil(type.count / grain.together)) / grain.rows;
      if (share > 34) this.label(left, y + share / 2, type.name, String(type.count), type.color);
      y += share;
    }
  }

  // Pictures of the raster are made when they are first seen.
  tile(episode, grain, index) {
    const key = [...Object.values(grain), index].join();
    if (!episode.tiles.has(key)) {
      if (episode.tiles.size >= 32) episode.tiles.clear();
      episode.tiles.set(key, rasterPicture(episode, this.header, this.types, grain, index));
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

// Spikes of a neuron per second of network time [spikes/s], by type and step, averaged over five steps, that one the last.
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

// How fine a raster is: nothing in it is smaller than a pixel, since a picture that is shown smaller loses spikes.
// A column is `steps` steps or, where those are long, one of `perStep` parts of a step; a row is `together` neurons of a type.
function grainOf(types, header, columnsPerStep, mostRows) {
  const rowsOf = (together) => types.reduce((sum, type) => sum + Math.ceil(type.count / together), 0);
  let together = 1;
  while (rowsOf(together) > Math.max(mostRows, types.length)) together++;
  return {
    perStep: Math.max(1, Math.min(header.neurons.substeps, Math.floor(columnsPerStep))),
    steps: Math.max(1, Math.ceil(1 / columnsPerStep)),
    together,
    rows: rowsOf(together),
  };
}

const numColumns = (episode, { perStep, steps }) => Math.ceil((episode.steps * perStep) / steps);

function rasterPicture(episode, header, types, grain, tile) {
  const { num, substeps } = header.neurons;
  const { perStep, steps, together, rows } = grain;
  const bytes = Math.ceil(num / 8);
  const columns = Math.min(TILE, numColumns(episode, grain) - tile * TILE);
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, rows);
  const most = Math.max(1, 0.5 * Math.ceil((substeps * steps) / perStep));
  const startOf = (column) => Math.min(episode.steps * substeps, Math.ceil((column * substeps * steps) / perStep));
  for (let column = 0; column < columns; column++) {
    const first = startOf(tile * TILE + column), last = startOf(tile * TILE + column + 1);
    let row = 0;
    for (const type of types) {
      const end = type.first + type.count;
      for (let group = type.first; group < end; group += together, row++) {
        let count = 0;
        for (let neuron = group; neuron < Math.min(end, group + together); neuron++) {
          for (let s = first; s < last; s++) count += spikeAt(episode.spikes, bytes, s, neuron);
        }
        if (!count) continue;
        const at = 4 * (row * columns + column);
        image.data.set(type.color, at);
        image.data[at + 3] = 255 * Math.min(1, 0.55 + 0.45 * Math.sqrt(count / most));
      }
    }
  }
  pen.putImageData(image, 0, 0);
  return canvas;
}

const maximum = (values) => values.reduce((most, value) => Math.max(most, value), -Infinity);
