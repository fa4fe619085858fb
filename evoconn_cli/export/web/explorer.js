// What the mouse, the keys and the controls do.
"use strict";

const rgb = (css) => [1, 3, 5].map((at) => parseInt(css.slice(at, at + 2), 16));

class Explorer {
  constructor(header) {
    this.connectome = new Connectome(header);
    this.elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
    this.matrix = new Matrix(this.elements.matrix, this.connectome);
    this.hovered = null;
    this.picked = null;
    document.querySelector("h1").textContent = header.name;
    this.elements.about.textContent = header.about;
    this.elements.neuron.max = header.neurons - 1;
    this.elements.sort.replaceChildren(...Object.keys(header.orders).map((name) => new Option(name, name, false, name === header.sort)));
    this.elements.statistics.innerHTML = statisticsTable(this.connectome);
    this.elements.names.innerHTML = namesPanel(this.connectome);
    this.elements.names.hidden = !this.elements.names.innerHTML;
    this.matrix.arrange(header.orders[header.sort]);
    this.dress(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    this.listen();
  }

  listen() {
    const { matrix, sort, show, neuron, theme, picked } = this.elements;
    sort.addEventListener("change", () => { this.matrix.arrange(this.connectome.orders[sort.value]); this.paint(); this.raster(); });
    show.addEventListener("change", () => { this.matrix.show = show.value; this.paint(); });
    neuron.addEventListener("input", () => this.pick(neuron.value === "" ? null : Number(neuron.value)));
    theme.addEventListener("click", () => this.dress(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
    picked.addEventListener("click", (event) => { if (event.target.dataset.neuron) this.pick(Number(event.target.dataset.neuron)); });
    matrix.addEventListener("mousemove", (event) => this.hover(this.matrix.at(event.offsetX, event.offsetY)));
    matrix.addEventListener("mouseleave", () => this.hover(null));
    matrix.addEventListener("click", (event) => {
      const ends = this.matrix.at(event.offsetX, event.offsetY);
      if (ends) this.pick(ends.kernel === "input" ? ends.post : ends.pre);
    });
    document.addEventListener("keydown", (event) => this.press(event));
    window.addEventListener("resize", () => { this.matrix.layout(); this.draw(); this.raster(); });
  }

  press(event) {
    const step = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.pick(null);
    else if (step && this.picked !== null && !["SELECT", "INPUT"].includes(event.target.tagName)) {
      event.preventDefault();
      const count = this.connectome.neurons;
      this.pick(this.matrix.order[(this.matrix.place[this.picked] + step + count) % count]);
    }
  }

  dress(theme) {
    document.documentElement.dataset.theme = theme;
    this.colors = this.connectome.colors[theme];
    const style = getComputedStyle(document.documentElement);
    this.styles = Object.fromEntries(["background", "empty", "line", "text", "faint"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.matrix.layout();
    this.paint();
    this.panels();
  }

  paint() {
    const colors = Object.fromEntries(Object.entries(this.colors).map(([name, css]) => [name, rgb(css)]));
    this.matrix.paint(colors, rgb(this.styles.empty));
    this.draw();
  }

  draw() { this.matrix.draw(this); }

  panels() {
    const { connectome, colors, picked, elements } = this;
    elements.in.innerHTML = degreePlot(connectome, colors, "in", picked);
    elements.out.innerHTML = degreePlot(connectome, colors, "out", picked);
    elements.probs.innerHTML = probPlot(connectome);
    elements.actions.innerHTML = actionPlot(connectome, colors);
    elements.picked.innerHTML = pickedPanel(connectome, colors, picked);
    elements.legend.innerHTML = colorLegend(colors);
    elements.rates.innerHTML = ratePlot(connectome, colors);
    elements.currents.innerHTML = currentPlot(connectome, colors);
    this.raster();
  }

  raster() { drawRaster(this.elements.raster, this.connectome, this.colors, this.matrix.order, this.picked, this.styles); }

  pick(neuron) {
    const valid = Number.isInteger(neuron) && neuron >= 0 && neuron < this.connectome.neurons;
    this.picked = valid ? neuron : null;
    if (document.activeElement !== this.elements.neuron) this.elements.neuron.value = valid ? neuron : "";
    this.draw();
    this.panels();
  }

  hover(ends) {
    this.hovered = ends;
    this.elements.readout.textContent = ends ? this.words(ends) : "";
    this.draw();
  }

  words({ kernel, pre, post }) {
    const c = this.connectome, named = (neuron) => `neuron ${neuron} (${c.type(neuron)})`;
    const p = (from) => `p ${c.prob(kernel, from, post).toFixed(2)}`;
    if (kernel === "input") {
      const acts = { 1: "acts directly", "-1": "acts reversed", 0: c.has(kernel, pre, post) ? "acts both ways, so not at all" : "does not act" };
      return `${c.observationName(pre)} → ${named(post)}: ${acts[c.observes(pre, post)]}; x ${p(pre)}, −x ${p(pre + c.observations)}`;
    }
    const sign = c.type(pre) === "E" ? "+1" : "−1", target = kernel === "output" ? c.actionName(post) : named(post);
    return `${named(pre)} → ${target}: ${c.has(kernel, pre, post) ? `connected, sign ${sign}` : "not connected"}, ${p(pre)}`;
  }
}

// `#neuron=5` opens the page with that neuron picked.
unpack().then((header) => {
  window.explorer = new Explorer(header);
  const neuron = new URLSearchParams(location.hash.slice(1)).get("neuron");
  if (neuron !== null) window.explorer.pick(Number(neuron));
}).catch((error) => {
  const trouble = document.getElementById("trouble");
  trouble.textContent = `This page cannot be shown: ${error.message}`;
  trouble.hidden = false;
});
