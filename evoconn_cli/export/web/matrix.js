// The matrix of all connections: observations above, the recurrent network in the middle, actions at the right.
"use strict";

const MARGIN = 24, GAP = 6;

class Matrix {
  constructor(canvas, connectome) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.connectome = connectome;
    this.show = "bits";
  }

  arrange(order) {
    this.order = order;
    this.place = new Array(order.length);
    order.forEach((neuron, index) => { this.place[neuron] = index; });
  }

  // Where the three kernels are drawn, in pixels of the page, and how many cells they have.
  layout() {
    const { neurons, observations, actions } = this.connectome;
    const strip = (size) => Math.min(0.3, Math.max(0.09, size / neurons));
    const width = this.canvas.clientWidth;
    const side = Math.max(80, Math.min((width - MARGIN - GAP) / (1 + strip(actions)), (window.innerHeight - 130) / (1 + strip(observations))));
    const top = side * strip(observations);
    this.areas = {
      input: { x: MARGIN, y: 0, width: side, height: top, columns: neurons, rows: observations },
      recurrent: { x: MARGIN, y: top + GAP, width: side, height: side, columns: neurons, rows: neurons },
      output: { x: MARGIN + side + GAP, y: top + GAP, width: side * strip(actions), height: side, columns: actions, rows: neurons },
    };
    const height = top + GAP + side + MARGIN, ratio = Math.min(2, window.devicePixelRatio);
    this.canvas.style.height = `${height}px`;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  // Row and column of a kernel as the numbers of what they stand for.
  ends(name, row, column) {
    return { kernel: name, pre: name === "input" ? row : this.order[row], post: name === "output" ? column : this.order[column] };
  }

  // What is at a point of the canvas, or null.
  at(x, y) {
    for (const [name, area] of Object.entries(this.areas)) {
      const column = Math.floor(((x - area.x) / area.width) * area.columns);
      const row = Math.floor(((y - area.y) / area.height) * area.rows);
      if (column >= 0 && column < area.columns && row >= 0 && row < area.rows) return this.ends(name, row, column);
    }
    return null;
  }

  // The middle of a cell on the canvas: the reverse of `at`.
  cell({ kernel, pre, post }) {
    const area = this.areas[kernel];
    const row = kernel === "input" ? pre : this.place[pre], column = kernel === "output" ? post : this.place[post];
    return [area.x + ((column + 0.5) / area.columns) * area.width, area.y + ((row + 0.5) / area.rows) * area.height];
  }

  // How much of which colour a cell has.
  value({ kernel, pre, post }) {
    const c = this.connectome;
    const color = (sign) => (kernel === "input" ? (sign > 0 ? "+" : "-") : c.type(pre));
    if (this.show === "bits") {
      const value = kernel === "input" ? c.observes(pre, post) : Number(c.has(kernel, pre, post));
      return [color(value), Math.abs(value)];
    }
    if (kernel !== "input") return [color(1), c.prob(kernel, pre, post)];
    const net = c.prob(kernel, pre, post) - c.prob(kernel, pre + c.observations, post);
    return [color(net), Math.abs(net)];
  }

  paint(colors, empty) {
    this.pictures = {};
    for (const [name, area] of Object.entries(this.areas)) {
      const canvas = document.createElement("canvas");
      canvas.width = area.columns;
      canvas.height = area.rows;
      const pen = canvas.getContext("2d"), image = pen.createImageData(area.columns, area.rows);
      for (let row = 0, at = 0; row < area.rows; row++) {
        for (let column = 0; column < area.columns; column++, at += 4) {
          const [color, share] = this.value(this.ends(name, row, column));
          for (let part = 0; part < 3; part++) image.data[at + part] = empty[part] + share * (colors[color][part] - empty[part]);
          image.data[at + 3] = 255;
        }
      }
      pen.putImageData(image, 0, 0);
      this.pictures[name] = canvas;
    }
  }

  draw({ hovered, picked, styles, colors }) {
    const { pen, connectome, areas } = this;
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const [name, area] of Object.entries(areas)) {
      // With fewer pixels than neurons, a pixel is the mean of its cells: otherwise some would not be drawn.
      pen.imageSmoothingEnabled = area.width * Math.min(2, window.devicePixelRatio) < area.columns;
      pen.drawImage(this.pictures[name], area.x, area.y, area.width, area.height);
      pen.strokeStyle = styles.line;
      pen.lineWidth = 1;
      pen.strokeRect(area.x - 0.5, area.y - 0.5, area.width + 1, area.height + 1);
    }
    if (picked !== null) this.veil(picked, styles.background);
    if (hovered) this.cross(hovered, styles.text);
    const excitatory = connectome.types.filter((type) => type > 0).length / connectome.neurons;
    const main = areas.recurrent;
    pen.font = "600 14px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (const [name, from, share] of [["E", 0, excitatory], ["I", excitatory, 1 - excitatory]]) {
      if (!share) continue;
      pen.fillStyle = colors[name];
      pen.fillText(name, main.x + main.width * (from + share / 2), main.y + main.height + 13);
      pen.fillText(name, 10, main.y + main.height * (from + share / 2));
    }
    pen.fillStyle = styles.faint;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "right"; // the strip may be narrower than the word, and the canvas ends beside it
    pen.fillText("actions", areas.output.x + areas.output.width, main.y + main.height + 13);
    pen.textAlign = "center";
    pen.save();
    pen.translate(10, areas.input.y + areas.input.height / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText("obs.", 0, 0);
    pen.restore();
  }

  // Covers all but the row and the column of a neuron.
  veil(neuron, color) {
    const { pen, areas } = this, place = this.place[neuron], count = this.connectome.neurons;
    const cover = (x, y, width, height) => pen.fillRect(x, y, Math.max(0, width), Math.max(0, height));
    pen.fillStyle = color;
    pen.globalAlpha = 0.75;
    for (const [name, { x, y, width, height }] of Object.entries(areas)) {
      const left = x + (place / count) * width, right = x + ((place + 1) / count) * width;
      const above = y + (place / count) * height, below = y + ((place + 1) / count) * height;
      if (name === "output") { cover(x, y, width, above - y); cover(x, below, width, y + height - below); continue; }
      if (name === "input") { cover(x, y, left - x, height); cover(right, y, x + width - right, height); continue; }
      for (const [from, to] of [[y, above], [below, y + height]]) {
        cover(x, from, left - x, to - from);
        cover(right, from, x + width - right, to - from);
      }
    }
    pen.globalAlpha = 1;
  }

  cross(ends, color) {
    const area = this.areas[ends.kernel], [x, y] = this.cell(ends), { pen } = this;
    pen.strokeStyle = color;
    pen.globalAlpha = 0.6;
    pen.beginPath();
    pen.moveTo(area.x, y); pen.lineTo(area.x + area.width, y);
    pen.moveTo(x, area.y); pen.lineTo(x, area.y + area.height);
    pen.stroke();
    pen.globalAlpha = 1;
  }
}
