// The recorded episode: spikes of all neurons, rates and currents; and what colours and numbers stand for.
"use strict";

function colorLegend(colors) {
  const words = { E: "from E", I: "from I", "+": "observation acts directly (x)", "-": "reversed (−x)" };
  return Object.entries(words).map(([name, text]) => `<span><i style="background:${colors[name]}"></i>${text}</span>`).join("");
}

function namesPanel({ labels }) {
  const list = (title, names) => names.length
    ? `<h2>${title}</h2><p>${names.map((name, number) => `${number}&nbsp;${escaped(name)}`).join(", ")}</p>` : "";
  return list("Observations", labels.observations) + list("Actions", labels.actions);
}

function drawRaster(canvas, connectome, colors, order, picked, styles) {
  const ratio = Math.min(2, window.devicePixelRatio), width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d"), steps = connectome.episode_steps, left = PLOT.left * width / PLOT.width;
  const wide = (width - left) / steps, tall = height / order.length;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.strokeStyle = styles.line;
  pen.strokeRect(left - 0.5, 0.5, width - left, height - 1);
  order.forEach((neuron, row) => {
    if (neuron === picked) {
      pen.fillStyle = styles.text;
      pen.fillText(neuron, left - 24, row * tall + tall / 2 + 3);
      pen.fillRect(left - 6, row * tall, 4, Math.max(2, tall));
    }
    pen.fillStyle = colors[connectome.type(neuron)];
    for (let time = 0; time < steps; time++) {
      if (connectome.spiked(time, neuron)) pen.fillRect(left + time * wide, row * tall, Math.max(1.2, wide), Math.max(1.2, tall));
    }
  });
}

// Lines over the time of the network: series is [name, color, values][].
function linePlot(connectome, title, series) {
  const { width, height, left, bottom, top } = PLOT, base = height - bottom;
  const values = series.flatMap(([, , of]) => Array.from(of)), low = Math.min(0, ...values), high = Math.max(1e-9, ...values);
  const y = (value) => base - ((value - low) / (high - low)) * (base - top);
  const x = (index) => left + ((index + 0.5) / connectome.episode_steps) * (width - left);
  const number = (value) => (Math.abs(value) < 10 ? value.toFixed(1) : value.toFixed(0));
  let body = scale(number(high)) + (low < 0 ? `<text x="${left - 6}" y="${base}" text-anchor="end">${number(low)}</text>` : "");
  body += `<line x1="${left}" x2="${width}" y1="${y(0)}" y2="${y(0)}" stroke="var(--line)"/>`;
  for (const [, color, of] of series) {
    body += `<polyline fill="none" stroke="${color}" points="${Array.from(of, (value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ")}"/>`;
  }
  const [start, end] = connectome.episode_ms;
  const marks = [[left, Math.round(start)], [width - 12, Math.round(end)]];
  const legend = series.map(([name, color]) => ` <span style="color:${color}">${name}</span>`).join("");
  return framed(title, "time of the network [ms]", marks, body).replace("</h2>", `${legend}</h2>`);
}

function ratePlot(connectome, colors) {
  const series = ["E", "I"].filter((name) => connectome.episode[`rate_${name}`]);
  return linePlot(connectome, "Rates [spikes/s per neuron]", series.map((name) => [name, colors[name], connectome.episode[`rate_${name}`]]));
}

function currentPlot(connectome, colors) {
  const series = [["E", colors.E], ["I", colors.I], ["input", "var(--text)"]].filter(([name]) => connectome.episode[`current_${name}`]);
  return linePlot(connectome, "Mean currents into a neuron", series.map(([name, color]) => [name, color, connectome.episode[`current_${name}`]]));
}
