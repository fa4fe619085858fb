// Where each moment of the page's time lies: the episode, the state at or before it, and how far it is to the next.
"use strict";

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
