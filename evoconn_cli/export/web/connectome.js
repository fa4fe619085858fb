// What is connected to what, from packed bits.
"use strict";

class Connectome {
  constructor(header) {
    Object.assign(this, header);
    this.kernel = Object.fromEntries(header.groups.map((group) => [group.name, group]));
    this.episode = this.kernel.episode;
    this.width = { input: this.neurons, recurrent: this.neurons, output: this.actions };
    const all = [...Array(this.neurons).keys()];
    this.degrees = {
      in: all.map((post) => all.filter((pre) => this.has("recurrent", pre, post)).length),
      out: all.map((pre) => all.filter((post) => this.has("recurrent", pre, post)).length),
    };
  }

  type(neuron) { return this.types[neuron] > 0 ? "E" : "I"; }

  observationName(number) { return `observation ${number}${this.labels.observations[number] ? `, ${this.labels.observations[number]}` : ""}`; }

  actionName(number) { return `action ${number}${this.labels.actions[number] ? `, ${this.labels.actions[number]}` : ""}`; }

  spiked(time, neuron) {
    const at = time * this.neurons + neuron;
    return ((this.episode.spikes[at >> 3] >> (7 - (at & 7))) & 1) === 1;
  }

  has(kernel, pre, post) {
    const at = pre * this.width[kernel] + post;
    return ((this.kernel[kernel].bits[at >> 3] >> (7 - (at & 7))) & 1) === 1;
  }

  prob(kernel, pre, post) { return this.kernel[kernel].probs[pre * this.width[kernel] + post] / 255; }

  // 1 where an observation acts directly on a neuron, -1 where reversed, 0 where both or neither.
  observes(observation, neuron) {
    return Number(this.has("input", observation, neuron)) - Number(this.has("input", observation + this.observations, neuron));
  }

  // The connections of a neuron, by what is at their other end.
  of(neuron) {
    const order = this.orders.none;
    return {
      from: order.filter((pre) => this.has("recurrent", pre, neuron)),
      to: order.filter((post) => this.has("recurrent", neuron, post)),
      observations: [...Array(this.observations).keys()].filter((o) => this.observes(o, neuron) !== 0),
      actions: [...Array(this.actions).keys()].filter((a) => this.has("output", neuron, a)),
    };
  }
}
