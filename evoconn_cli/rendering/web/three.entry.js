// What the page uses of three.js; three.js beside this file is built from it (see three.md).
export {
  BoxGeometry, CanvasTexture, CapsuleGeometry, Color, DirectionalLight, Fog, Group, HemisphereLight, Mesh,
  MeshStandardMaterial, PCFShadowMap, PerspectiveCamera, PlaneGeometry, RepeatWrapping, REVISION, Scene,
  SphereGeometry, SRGBColorSpace, Vector3, WebGLRenderer
} from 'three';
export { OrbitControls } from 'three/addons/controls/OrbitControls.js';
