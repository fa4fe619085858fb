from __future__ import annotations

import ast
import copy
import os
import sys
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
from paths import PACKAGE
from rendering_cases import brax_bodies, make_episode

from evoconn_cli.config.registry import names
from evoconn_cli.drawing.colors import shape_color
from evoconn_cli.errors import EvoconnError
from evoconn_cli.rendering import mujoco as mujoco_renderer
from evoconn_cli.rendering.camera import FIELD_OF_VIEW, CameraPath, View, floor_height
from evoconn_cli.rendering.clock import Clock, Moment, pose_at
from evoconn_cli.rendering.mujoco import MujocoRenderer, make_mjcf
from evoconn_cli.rendering.shapes import TaskBodies, bodies_of, square_size
from evoconn_cli.tasks import Shape
from evoconn_cli.tasks.brax_compat import import_brax_envs
from evoconn_cli.tasks.brax_v1 import brax_v1_environment, brax_v1_shapes

BRAX_V1_TASKS = names("task", hidden=False)


@pytest.fixture(scope="session")
def mujoco():
    """The module, set up so that later tests can draw with it where this machine can."""
    return mujoco_renderer.import_mujoco(mujoco_renderer.find_backend()[0] or "disable")


@pytest.fixture(scope="session")
def backend():
    found, reasons = mujoco_renderer.find_backend()
    if found is None:
        pytest.skip(f"no GL on this machine: {reasons}")
    return found


def random_poses(num_bodies: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    rotations = rng.normal(size=(num_bodies, 4))
    return rng.normal(size=(num_bodies, 3)), rotations / np.linalg.norm(rotations, axis=-1, keepdims=True)


# What is drawn is what Brax simulates


@pytest.mark.parametrize("name", BRAX_V1_TASKS)
def test_colliders_are_where_brax_has_them(name, mujoco):
    config = brax_v1_environment(name).sys.config
    bodies = brax_bodies(name)
    from brax import math as brax_math
    from brax.physics.base import vec_to_arr

    positions, rotations = random_poses(len(config.bodies))
    model = mujoco.MjModel.from_xml_string(make_mjcf(bodies, width=64, height=48, radius=1.0, floor_height=None))
    data = mujoco.MjData(model)
    assert model.nmocap == len(config.bodies)
    data.mocap_pos[:], data.mocap_quat[:] = positions, rotations
    mujoco.mj_kinematics(model, data)
    colliders = [(index, collider) for index, body in enumerate(config.bodies) for collider in body.colliders]
    assert model.ngeom == len(colliders) == len(bodies.shapes)
    for geom, (body, collider) in enumerate(colliders):
        # As Brax's own image renderer composes them.
        offset = brax_math.rotate(np.asarray(vec_to_arr(collider.position)), rotations[body])
        turned = brax_math.quat_mul(rotations[body], brax_math.euler_to_quat(vec_to_arr(collider.rotation)))
        axes = np.stack([brax_math.rotate(axis, turned) for axis in np.eye(3)], axis=-1)
        np.testing.assert_allclose(data.geom_xpos[geom], positions[body] + offset, atol=1e-5)
        np.testing.assert_allclose(data.geom_xmat[geom].reshape(3, 3), axes, atol=1e-5)


@pytest.mark.parametrize("name", ["ant", "humanoid", "pusher"])
def test_capsules_end_where_brax_lets_them_touch(name, mujoco):
    config = brax_v1_environment(name).sys.config
    bodies = brax_bodies(name)
    from brax.physics.base import vec_to_arr
    from brax.physics.geometry import CapsuleEnd

    checked = 0
    for index, body in enumerate(copy.deepcopy(config).bodies):
        if len(body.colliders) == 1 and body.colliders[0].WhichOneof("type") == "capsule":
            body.colliders[0].capsule.end = 0  # that is, both of them
            ends = np.asarray(CapsuleEnd([body], brax_v1_environment(name).sys.body).end)[0]
            (shape,) = [shape for shape in bodies.shapes if shape.body == index]
            reach = ends.max(axis=0) - np.asarray(vec_to_arr(body.colliders[0].position))
            half = shape.size[1] if shape.kind == "capsule" else 0.0
            assert np.linalg.norm(reach) == pytest.approx(half, abs=1e-5)
            checked += 1
    assert checked >= 4


def test_every_kind_of_shape_is_in_some_task():
    kinds = {shape.kind for name in BRAX_V1_TASKS for shape in brax_bodies(name).shapes}
    assert kinds == {"capsule", "sphere", "box", "plane"}


def test_a_task_of_brax_brings_its_bodies(brax_task):
    assert bodies_of(brax_task("hopper"), 5) == brax_bodies("hopper")
    assert brax_task("reacher").is_planar


def test_a_collider_that_cannot_be_drawn_is_named():
    import_brax_envs()
    from brax.physics import config_pb2

    config = config_pb2.Config(bodies=[dict(name="hill", colliders=[dict(heightMap=dict(size=1.0))])])
    with pytest.raises(ValueError, match="heightMap.*hill"):
        brax_v1_shapes(config)


def test_a_floor_is_put_under_tasks_that_have_none(mujoco):
    bodies = brax_bodies("acrobot")
    episode = make_episode(bodies, 20)
    ground = floor_height(bodies, [episode])
    assert ground is not None
    assert ground < episode.positions[..., 2].min() - 0.05
    xml = make_mjcf(bodies, width=64, height=48, radius=1.0, floor_height=ground)
    model = mujoco.MjModel.from_xml_string(xml)
    assert model.geom_pos[0][2] == pytest.approx(ground)
    assert floor_height(brax_bodies("hopper"), [episode]) is None


# The camera


@pytest.mark.parametrize("camera", ["track", "side", "front"])
@pytest.mark.parametrize("name", BRAX_V1_TASKS)
def test_every_camera_sees_all_of_every_body(name, camera):
    bodies = brax_bodies(name)
    for speed in (0.0, 0.05):
        episode = make_episode(bodies, 60, speed=speed)
        path = CameraPath(bodies, [episode], dt=0.02, camera=camera, aspect=4 / 3)
        for step in (0, 30, 60):
            view = path.view(Moment(0, step, 0.0))
            right = np.cross(view.forward, [0.0, 0.0, 1.0])
            right /= np.linalg.norm(right)
            up = np.cross(right, view.forward)
            away = episode.positions[step, bodies.with_role("body", "left")] - view.eye
            depth = away @ view.forward
            limit = depth * np.tan(np.radians(FIELD_OF_VIEW / 2))
            assert (depth > 0).all()
            assert (np.abs(away @ up) < limit).all() and (np.abs(away @ right) < limit * 4 / 3).all()


def test_side_looks_along_y_and_front_against_the_way_of_the_body():
    bodies = brax_bodies("hopper")
    episode = make_episode(bodies, 100, speed=0.05)
    forward = {
        name: CameraPath(bodies, [episode], dt=0.01, camera=name, aspect=1.3).view(Moment(0, 0, 0.0)).forward
        for name in ("side", "front")
    }
    assert forward["side"] @ [0, 1, 0] > 0.95
    assert forward["front"] @ [-1, 0, 0] > 0.95


def test_a_body_at_constant_speed_stays_in_the_middle_to_the_very_ends():
    bodies = brax_bodies("hopper")
    episode = make_episode(bodies, 200, speed=0.05, turn=0.0)
    path = CameraPath(bodies, [episode], dt=0.01, camera="track", aspect=1.0)
    ahead = [path.view(Moment(0, step, 0.0)).target[0] - 0.05 * step for step in (0, 1, 100, 199, 200)]
    assert np.ptp(ahead) < 0.02


def test_the_camera_rests_where_the_body_does_not_travel():
    bodies = brax_bodies("inverted_pendulum")
    path = CameraPath(bodies, [make_episode(bodies, 50)], dt=0.04, camera="track", aspect=1.0)
    targets = path.targets[0]
    assert (targets == targets[0]).all()


def test_hops_are_smoothed_away():
    bodies = brax_bodies("hopper")
    episode = make_episode(bodies, 400, speed=0.05, turn=0.0)
    hop = 0.2 * np.sin(np.arange(401) * 2 * np.pi * 0.01 * 3)  # 3 Hz
    episode.positions[:, :4, 2] += hop[:, None]
    height = CameraPath(bodies, [episode], dt=0.01, camera="track", aspect=1.0).targets[0][100:300, 2]
    assert np.ptp(height) < 0.2 * 0.4


def test_squares_of_the_floor_have_round_edges():
    assert [square_size(radius) for radius in (0.1, 0.9, 1.6, 100.0)] == [0.05, 0.5, 1.0, 5.0]


# Drawing


def bright(image: np.ndarray) -> np.ndarray:
    """Returns which pixels are of the body and not of the floor or the sky."""
    return image.astype(int).min(axis=-1) > 75


def sphere_bodies() -> TaskBodies:
    return TaskBodies("ball", 2, (Shape(0, "plane", (), role="floor"), Shape(1, "sphere", (0.1,))), is_planar=False)


@pytest.mark.parametrize(("width", "height"), [(200, 150), (640, 120), (120, 200)])
def test_a_small_sphere_appears_where_the_geometry_of_the_camera_has_it(backend, width, height):
    renderer = MujocoRenderer(sphere_bodies(), width=width, height=height, radius=1.0, floor_height=None)
    view = View(np.array([0.0, 0.0, 1.0]), distance=6.0, azimuth=90.0, elevation=0.0)
    positions = np.zeros((2, 3))
    positions[1] = [0.8, 0.0, 1.4]
    rotations = np.tile([1.0, 0.0, 0.0, 0.0], (2, 1))
    rows, columns = np.nonzero(bright(renderer.draw(positions, rotations, view)))
    renderer.close()
    scale = height / 2 / (6.0 * np.tan(np.radians(15.0)))  # pixels per metre, at this distance
    assert columns.mean() == pytest.approx(width / 2 + 0.8 * scale, abs=1.5)
    assert rows.mean() == pytest.approx(height / 2 - 0.4 * scale, abs=1.5)


def test_the_floor_shows_motion_and_the_body_has_a_shadow(backend):
    bodies = brax_bodies("hopper")
    episode = make_episode(bodies, 100, speed=0.04)
    path = CameraPath(bodies, [episode], dt=0.01, camera="track", aspect=4 / 3)
    renderer = MujocoRenderer(bodies, width=160, height=120, radius=path.radius, floor_height=None)
    clock = Clock([episode], dt=0.01, fps=Fraction(30))
    images = [
        renderer.draw(*pose_at(episode, moment), path.view(moment)).astype(int)
        for moment in (clock.moment(0.4), clock.moment(0.5))
    ]
    renderer.close()
    floor = np.s_[90:, :]
    assert (np.abs(images[0][floor] - images[1][floor]).max(axis=-1) > 3).mean() > 0.1
    squares = images[0][60:][~bright(images[0][60:])].sum(axis=-1)
    assert squares.min() < 0.75 * np.median(squares)  # darker than any square: a shadow


def test_the_floor_is_under_a_body_that_has_gone_far(backend):
    renderer = MujocoRenderer(sphere_bodies(), width=160, height=120, radius=1.0, floor_height=None)
    rotations = np.tile([1.0, 0.0, 0.0, 0.0], (2, 1))

    def draw_at(x: float) -> np.ndarray:
        view = View(np.array([x, 0.0, 0.5]), distance=6.0, azimuth=90.0, elevation=-20.0)
        return renderer.draw(np.array([[0.0, 0.0, 0.0], [x, 0.0, 0.5]]), rotations, view).astype(int)

    far, near = draw_at(1000.0), draw_at(0.0)  # a still, and the beginning of a second episode
    renderer.close()
    for image in (far, near):
        assert image[90:].sum(axis=-1).min() > 1.2 * image[:10].sum(axis=-1).max()  # floor below, sky above


def test_limbs_differ_and_targets_stand_out():
    assert shape_color("body", 0) != shape_color("body", 1) != shape_color("left", 1)
    assert shape_color("target", 0) == shape_color("target", 1)


# Machines that cannot draw


def test_a_driver_that_ends_the_process_is_reported():
    assert "signal 6" in str(mujoco_renderer.try_backend("egl", probe="import os; os.abort()"))


def test_the_last_line_of_a_failing_probe_is_the_reason():
    assert mujoco_renderer.try_backend("egl", probe="raise ImportError('no EGL here')") == "ImportError: no EGL here"


def test_a_variable_set_by_the_user_is_the_only_one_tried(monkeypatch):
    tried = []
    monkeypatch.setattr(mujoco_renderer, "try_backend", lambda name: tried.append(name) or "none")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert mujoco_renderer.find_backend.__wrapped__() == (None, "osmesa: none")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(sys, "platform", "linux")
    assert mujoco_renderer.find_backend.__wrapped__() == (None, "egl: none; osmesa: none")
    assert tried == ["osmesa", "egl", "osmesa"]


def test_a_driver_that_fails_after_its_probe_is_reported(monkeypatch):
    def broken(*args):
        raise RuntimeError("no framebuffer of this size")

    mujoco = mujoco_renderer.import_mujoco(mujoco_renderer.find_backend()[0] or "disable")
    monkeypatch.setattr(mujoco_renderer, "find_backend", lambda: ("egl", ""))
    monkeypatch.setattr(mujoco, "Renderer", broken)
    monkeypatch.setattr(mujoco_renderer, "import_mujoco", lambda _: mujoco)
    with pytest.raises(EvoconnError, match="egl: RuntimeError: no framebuffer.*libegl1"):
        MujocoRenderer(sphere_bodies(), width=32, height=32, radius=1.0, floor_height=None)


def test_a_platform_of_pyopengl_does_not_stand_in_the_way(monkeypatch):
    environment = {"PYOPENGL_PLATFORM": "osmesa", "HOME": "/home"}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setitem(sys.modules, "mujoco", ModuleType("mujoco"))
    mujoco_renderer.import_mujoco("egl")
    assert environment == {"MUJOCO_GL": "egl", "HOME": "/home"}


@pytest.mark.slow
def test_mujoco_is_imported_in_one_place():
    importing = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "mujoco" for name in names):
                importing.add(os.path.relpath(path, PACKAGE))
    assert importing == {os.path.join("rendering", "mujoco.py")}
