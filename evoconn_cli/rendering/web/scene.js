// The body in its scene, drawn by three.js; z points up.
"use strict";

class BodyScene {
  constructor(canvas, header) {
    this.header = header;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, preserveDrawingBuffer: true });
    this.renderer.setPixelRatio(Math.min(2, window.devicePixelRatio));
    this.renderer.shadowMap.enabled = true;
    this.renderer.shadowMap.type = THREE.PCFShadowMap;
    this.scene = new THREE.Scene();
    const background = color(header.colors.background);
    this.scene.background = background;
    this.scene.fog = new THREE.Fog(background, header.fog[0] * header.radius, header.fog[1] * header.radius);
    this.camera = new THREE.PerspectiveCamera(header.field_of_view, 1, 0.02 * header.radius, 60 * header.radius);
    this.camera.up.set(0, 0, 1);
    this.distance = this.fittingDistance();
    this.controls = new THREE.OrbitControls(this.camera, canvas);
    this.controls.enableDamping = true;
    this.follow(true);
    this.addLights();
    this.addFloor();
    this.bodies = Array.from({length: header.bodies}, () => this.scene.add(new THREE.Group()).children.at(-1));
    for (const shape of header.shapes) this.bodies[shape.body].add(meshOf(shape));
  }

  addLights() {
    const radius = this.header.radius;
    this.scene.add(new THREE.HemisphereLight(0xdde6f2, 0x4a4f58, 2.6));
    this.sun = new THREE.DirectionalLight(0xfff4e2, 3.2);
    this.sun.castShadow = true;
    this.sun.shadow.mapSize.set(2048, 2048);
    this.sun.shadow.normalBias = 0.01 * radius;
    const reach = 2.2 * radius;
    Object.assign(this.sun.shadow.camera, { left: -reach, right: reach, top: reach, bottom: -reach, near: 0.1 * radius, far: 12 * radius });
    this.scene.add(this.sun, this.sun.target);
  }

  addFloor() {
    const { square, radius, colors } = this.header;
    const pattern = document.createElement("canvas");
    pattern.width = pattern.height = 256;
    const pen = pattern.getContext("2d");
    for (const [x, y] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      pen.fillStyle = css(colors.floor[(x + y) % 2]);
      pen.fillRect(128 * x, 128 * y, 128, 128);
    }
    const texture = new THREE.CanvasTexture(pattern);
    texture.colorSpace = THREE.SRGBColorSpace;
    texture.wrapS = texture.wrapT = THREE.RepeatWrapping;
    texture.anisotropy = this.renderer.capabilities.getMaxAnisotropy();
    this.period = 2 * square;
    const repeats = Math.ceil((80 * radius) / this.period);
    texture.repeat.set(repeats, repeats);
    const size = repeats * this.period;
    this.floor = new THREE.Mesh(new THREE.PlaneGeometry(size, size), new THREE.MeshStandardMaterial({ map: texture, roughness: 0.9 }));
    this.floor.receiveShadow = true;
    this.scene.add(this.floor);
  }

  resize() {
    const { clientWidth, clientHeight } = this.renderer.domElement;
    if (!clientWidth || !clientHeight) return;
    this.renderer.setSize(clientWidth, clientHeight, false);
    this.camera.aspect = clientWidth / clientHeight;
    this.camera.updateProjectionMatrix();
    const before = this.distance;
    this.distance = this.fittingDistance();
    const { target } = this.controls;
    this.camera.position.sub(target).multiplyScalar(this.distance / before).add(target);
  }

  // The distance from which the body is in view, in narrow pictures too.
  fittingDistance() {
    const narrow = Math.min(1, this.camera.aspect) * Math.tan((this.header.field_of_view * Math.PI) / 360);
    return this.header.radius / Math.sin(Math.atan(narrow));
  }

  // While it follows the body, the camera cannot be moved sideways: the next frame would undo that.
  follow(follows) {
    this.follows = follows;
    this.controls.enablePan = !follows;
  }

  look(name) {
    const [azimuth, elevation] = this.header.views[name].map((degrees) => (degrees * Math.PI) / 180);
    const level = Math.cos(elevation) * this.distance;
    this.camera.position
      .set(-level * Math.cos(azimuth), -level * Math.sin(azimuth), -this.distance * Math.sin(elevation))
      .add(this.controls.target);
  }

  // Puts everything where it is at a moment.
  pose({ episode, step, fraction }) {
    const { positions, rotations, targets } = episode;
    const next = step + 1;
    const between = (array, width, index, axis) =>
      (1 - fraction) * array[step * width + 3 * index + axis] + fraction * array[next * width + 3 * index + axis];
    const count = this.bodies.length;
    this.bodies.forEach((body, index) => {
      body.position.set(...[0, 1, 2].map((axis) => between(positions, 3 * count, index, axis)));
      const here = 4 * (step * count + index), after = 4 * (next * count + index);
      const [w, x, y, z] = blend(rotations, here, after, fraction);
      body.quaternion.set(x, y, z, w).normalize();
    });
    const target = new THREE.Vector3(...[0, 1, 2].map((axis) => between(targets, 3, 0, axis)));
    const { floor } = this.header;
    const ground = floor.body === null ? floor.height : this.bodies[floor.body].position.z;
    this.floor.position.set(
      Math.round(target.x / this.period) * this.period, Math.round(target.y / this.period) * this.period, ground);
    this.sun.position.set(...this.header.sun).normalize().multiplyScalar(4 * this.header.radius).add(target);
    this.sun.target.position.copy(target);
    if (this.follows) {
      this.camera.position.add(target).sub(this.controls.target);
      this.controls.target.copy(target);
    }
  }

  // Returns whether the camera still moves.
  glide() {
    return this.controls.update();
  }

  draw() {
    this.renderer.render(this.scene, this.camera);
  }
}

// A quaternion and its negative are the same rotation: the nearer one is taken.
function blend(rotations, here, after, fraction) {
  let dot = 0;
  for (let axis = 0; axis < 4; axis++) dot += rotations[here + axis] * rotations[after + axis];
  const side = dot < 0 ? -1 : 1;
  return [0, 1, 2, 3].map((axis) => (1 - fraction) * rotations[here + axis] + fraction * side * rotations[after + axis]);
}

function meshOf(shape) {
  const [first, second] = shape.size;
  const geometry =
    shape.kind === "box" ? new THREE.BoxGeometry(...shape.size.map((half) => 2 * half))
    : shape.kind === "sphere" ? new THREE.SphereGeometry(first, 32, 20)
    : new THREE.CapsuleGeometry(first, 2 * second, 12, 32).rotateX(Math.PI / 2);
  const mesh = new THREE.Mesh(geometry, new THREE.MeshStandardMaterial({ color: color(shape.color), roughness: 0.55 }));
  const [w, x, y, z] = shape.rotation;
  mesh.position.set(...shape.position);
  mesh.quaternion.set(x, y, z, w);
  mesh.castShadow = mesh.receiveShadow = true;
  return mesh;
}

const css = ([red, green, blue], alpha = 1) => `rgba(${red}, ${green}, ${blue}, ${alpha})`;
const color = (rgb) => new THREE.Color(css(rgb).replace(/, 1\)$/, ")").replace("rgba", "rgb"));
