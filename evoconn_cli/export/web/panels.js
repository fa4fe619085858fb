// The panels beside the matrix: a neuron's connections, distributions, the table of statistics.
"use strict";

const PLOT = { width: 260, height: 130, left: 34, bottom: 34, top: 24 };

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

function framed(title, xLabel, marks, body) {
  const { width, height, left, bottom, top } = PLOT;
  const ticks = marks.map(([x, text]) => `<text x="${x}" y="${height - bottom + 14}" text-anchor="middle">${escaped(text)}</text>`).join("");
  return `<h2>${escaped(title)}</h2><svg viewBox="0 ${top - 8} ${width} ${height - top + 8}" role="img" aria-label="${escaped(title)}">${body}` +
    `<line x1="${left}" x2="${width}" y1="${height - bottom}" y2="${height - bottom}" stroke="var(--line)"/>${ticks}` +
    `<text x="${(left + width) / 2}" y="${height - 4}" text-anchor="middle">${escaped(xLabel)}</text></svg>`;
}

function scale(most) { return `<text x="${PLOT.left - 6}" y="${PLOT.top + 4}" text-anchor="end">${escaped(most)}</text>`; }

// Bars beside each other: series is [color, counts][], over edges that are evenly spaced.
function histogram(title, xLabel, edges, series, { ticks, mark = null, unit = "" }) {
  const { width, height, left, bottom } = PLOT, base = height - bottom;
  const most = Math.max(1e-9, ...series.flatMap(([, counts]) => counts));
  const bin = (width - left) / (edges.length - 1);
  const x = (value) => left + ((value - edges[0]) / (edges.at(-1) - edges[0])) * (width - left);
  let body = scale(unit ? `${(100 * most).toFixed(0)}${unit}` : most);
  for (const [color, counts] of series) {
    counts.forEach((count, index) => {
      const tall = (count / most) * (base - PLOT.top);
      if (count) body += `<rect x="${left + index * bin}" y="${base - tall}" width="${Math.max(0.5, bin - 0.5)}" height="${tall}" fill="${color}" fill-opacity="0.6"/>`;
    });
  }
  if (mark !== null) body += `<line x1="${x(mark)}" x2="${x(mark)}" y1="${PLOT.top - 6}" y2="${base}" stroke="var(--text)" stroke-width="2"/>`;
  return framed(title, xLabel, ticks.map((value) => [x(value), value]), body);
}

function degreePlot(connectome, colors, way, picked) {
  const degrees = connectome.degrees[way];
  const low = Math.min(...degrees), high = Math.max(...degrees), wide = Math.max(1, Math.ceil((high - low + 1) / 30));
  const bins = Math.ceil((high - low + 1) / wide);
  const edges = Array.from({ length: bins + 1 }, (_, index) => low - 0.5 + index * wide);
  const series = ["E", "I"].map((type) => {
    const counts = new Array(bins).fill(0);
    degrees.forEach((degree, neuron) => { if (connectome.type(neuron) === type) counts[Math.floor((degree - low) / wide)]++; });
    return [colors[type], counts];
  });
  const mark = picked === null ? null : degrees[picked];
  const ticks = [...new Set([low, Math.round((low + high) / 2), high])];
  return histogram(way === "in" ? "In-degree" : "Out-degree", "recurrent connections", edges, series, { ticks, mark });
}

function probPlot(connectome) {
  const bins = 32, edges = Array.from({ length: bins + 1 }, (_, index) => index / bins);
  const probs = connectome.kernel.recurrent.probs, counts = new Array(bins).fill(0);
  for (const p of probs) counts[Math.min(bins - 1, Math.floor((p * bins) / 255))]++;
  const shares = counts.map((count) => count / probs.length);
  return histogram("Probabilities", "of recurrent connections", edges, [["var(--faint)", shares]], { ticks: [0, 0.5, 1], unit: " %" });
}

function actionPlot(connectome, colors) {
  const { width, height, left, bottom } = PLOT, base = height - bottom;
  const counts = Array.from({ length: connectome.actions }, (_, action) => ({ E: 0, I: 0, action }));
  for (let neuron = 0; neuron < connectome.neurons; neuron++) {
    for (const count of counts) if (connectome.has("output", neuron, count.action)) count[connectome.type(neuron)]++;
  }
  const most = Math.max(1, ...counts.flatMap(({ E, I }) => [E, I])), slot = (width - left) / counts.length;
  let body = scale(most);
  counts.forEach((count, index) => ["E", "I"].forEach((type, side) => {
    const tall = (count[type] / most) * (base - PLOT.top), wide = Math.min(18, 0.4 * slot);
    body += `<rect x="${left + (index + 0.5) * slot + (side - 1) * wide}" y="${base - tall}" width="${wide}" height="${tall}" fill="${colors[type]}"><title>${escaped(connectome.actionName(index))}: ${count[type]} ${type}</title></rect>`;
  }));
  const every = Math.ceil(counts.length / 10);
  const marks = counts.flatMap((_, index) => (index % every ? [] : [[left + (index + 0.5) * slot, index]]));
  return framed("Onto actions", "connections from E and I neurons, by action", marks, body);
}

function pickedPanel(connectome, colors, neuron) {
  if (neuron === null) return "<h2>No neuron picked</h2><p>Click into the matrix, or write a number: its row and column stay, and its connections are listed here. Arrow keys go on to the next one, Escape ends it.</p>";
  const { from, to, observations, actions } = connectome.of(neuron), type = connectome.type(neuron);
  const count = (list, name) => list.filter((n) => connectome.type(n) === name).length;
  const chips = (list, p) => list.map((n) =>
    `<button data-neuron="${n}" style="background:${colors[connectome.type(n)]}" title="neuron ${n}, p ${p(n).toFixed(2)}">${n}</button>`).join("") || "none";
  const words = (list, text, title) => list.map((n) => `<span title="${escaped(title(n))}">${text(n)}</span>`).join("") || "none";
  return `<h2>Neuron ${neuron}, ${type === "E" ? "excitatory" : "inhibitory"}, community ${connectome.communities[neuron]}</h2>` +
    `<div class="label">onto it: ${from.length} connections, ${count(from, "E")} E and ${count(from, "I")} I</div>` +
    `<div class="chips" id="from">${chips(from, (n) => connectome.prob("recurrent", n, neuron))}</div>` +
    `<div class="label">from it: ${to.length} connections, ${count(to, "E")} E and ${count(to, "I")} I</div>` +
    `<div class="chips" id="to">${chips(to, (n) => connectome.prob("recurrent", neuron, n))}</div>` +
    `<div class="label">observations, direct (+) or reversed (−)</div>` +
    `<div class="chips" id="observations">${words(observations, (o) => (connectome.observes(o, neuron) > 0 ? "+" : "−") + o, (o) => connectome.observationName(o))}</div>` +
    `<div class="label">actions</div><div class="chips" id="acts">${words(actions, (a) => a, (a) => connectome.actionName(a))}</div>`;
}

function statisticsTable(connectome) {
  const sections = connectome.statistics.map((rows) =>
    `<tbody>${rows.map((row) => `<tr>${row.map((text) => `<td>${escaped(text)}</td>`).join("")}</tr>`).join("")}</tbody>`);
  return `<thead><tr><th></th><th>value</th><th>${connectome.random_graphs} random graphs</th><th>z</th></tr></thead>${sections.join("")}`;
}
