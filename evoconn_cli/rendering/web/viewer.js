// Playing: the clock, the controls, and what they move.
"use strict";

const SPEEDS = [0.05, 0.1, 0.25, 0.5, 1, 2, 4];
const PLAY = "M7 4v16l13-8z", PAUSE = "M6 4h4v16H6zM14 4h4v16h-4z";

class Viewer {
  constructor(header) {
    this.header = header;
    this.timeline = new Timeline(header);
    this.time = 0;
    this.speed = header.speed;
    this.playing = false;
    this.elements = Object.fromEntries(
      ["play", "scrub", "clock", "speed", "view", "follow", "plots", "scene", "trouble"].map((id) => [id, document.getElementById(id)]));
    document.querySelector("#name h1").textContent = header.name;
    document.querySelector("#name p").textContent = header.about;
    for (const episode of header.episodes) {
      let total = 0;
      episode.totals = Array.from(episode.rewards, (reward) => (total += reward));
    }
    this.decimals = decimalsOf(Math.max(...header.episodes.map((episode) => greatestSize(episode.totals))));
    this.elements.plots.hidden = !header.overlay;
    this.plots = header.overlay ? new Plots(this.elements.plots, header, this.timeline) : null;
    try {
      this.scene = new BodyScene(this.elements.scene, header);
    } catch (error) {
      this.scene = null;
      this.elements.trouble.textContent = `The body cannot be drawn: ${error.message}`;
      this.elements.trouble.hidden = false;
    }
    this.fillControls();
    this.resize();
    this.scene?.pose(this.timeline.moment(0));
    this.scene?.look(header.camera);
    this.show();
    this.listen();
  }

  fillControls() {
    const { scrub, speed, view } = this.elements;
    scrub.max = this.timeline.duration;
    const speeds = [...new Set([...SPEEDS, this.speed])].sort((a, b) => a - b);
    speed.replaceChildren(...speeds.map((value) => new Option(`${value}x`, value, false, value === this.speed)));
    view.replaceChildren(...Object.keys(this.header.views).map((name) => new Option(name, name, false, name === this.header.camera)));
  }

  listen() {
    const { play, scrub, speed, view, follow } = this.elements;
    play.addEventListener("click", () => this.toggle());
    scrub.addEventListener("input", () => this.seek(Number(scrub.value)));
    speed.addEventListener("change", () => { this.speed = Number(speed.value); this.show(); });
    view.addEventListener("change", () => { this.scene?.look(view.value); this.show(); });
    follow.addEventListener("change", () => {
      this.scene?.follow(follow.checked);
      this.show();
    });
    window.addEventListener("resize", () => { this.resize(); this.show(); });
    document.addEventListener("keydown", (event) => {
      const { tagName, type } = event.target;
      if (event.altKey || event.ctrlKey || event.metaKey || tagName === "SELECT") return;
      const step = { ArrowLeft: -this.header.dt, ArrowRight: this.header.dt }[event.key];
      if (event.key === " " && tagName !== "BUTTON" && type !== "checkbox") { event.preventDefault(); this.toggle(); }
      else if (step) { event.preventDefault(); this.pause(); this.seek(this.time + step); }
      else if (event.key === "Home") this.seek(0);
    });
    requestAnimationFrame((now) => this.tick(now));
  }

  resize() {
    this.scene?.resize();
    this.plots?.resize();
  }

  toggle() { this.playing ? this.pause() : this.play(); }

  play() {
    if (this.time >= this.timeline.duration) this.time = 0;
    this.playing = true;
  }

  pause() {
    this.playing = false;
    this.show();
  }

  seek(time) {
    this.time = Math.min(this.timeline.duration, Math.max(0, time));
    this.show();
  }

  tick(now) {
    if (this.playing) {
      // A tab in the background gets no frames: no leap when it comes back.
      const passed = Math.min(0.1, (now - (this.last ?? now)) / 1000);
      this.time = Math.min(this.timeline.duration, this.time + passed * this.speed);
      if (this.time >= this.timeline.duration) this.pause();
    }
    this.last = now;
    const glides = this.scene?.glide();
    if (this.playing) this.show();
    else if (glides) this.scene.draw();
    requestAnimationFrame((next) => this.tick(next));
  }

  show() {
    const { play, scrub, clock } = this.elements;
    const moment = this.timeline.moment(this.time);
    const { episode, index, step, fraction } = moment;
    const count = this.header.episodes.length;
    const complete = Math.floor(step + fraction + 1e-3); // steps
    document.querySelector("#total strong").textContent = formatNumber(episode.totals[complete - 1] ?? 0, this.decimals);
    clock.textContent = `${((step + fraction) * this.header.dt).toFixed(2)} / ${(episode.steps * this.header.dt).toFixed(2)} s` +
      (count > 1 ? `, episode ${index + 1} of ${count}` : "");
    scrub.value = this.time;
    play.querySelector("path").setAttribute("d", this.playing ? PAUSE : PLAY);
    this.scene?.pose(moment);
    this.scene?.draw();
    this.plots?.draw(moment, this.speed);
  }
}

// `#t=1.5` opens the page at that second, paused; otherwise it plays.
unpack().then((header) => {
  window.viewer = new Viewer(header);
  const at = new URLSearchParams(location.hash.slice(1)).get("t");
  if (at === null) window.viewer.play();
  else window.viewer.seek(Number(at) || 0);
  document.body.dataset.ready = "yes";
}, (error) => {
  document.getElementById("trouble").textContent = `This page cannot be played by this browser: ${error.message}`;
  document.getElementById("trouble").hidden = false;
});
