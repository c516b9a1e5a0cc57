import threading

import msgspec
import numpy as np
import pytest

from fleet.agent.drivers.experts import expert_action
from fleet.agent.drivers.metaworld import FEED_SIZES_PX, MetaWorldDriver
from fleet.agent.drivers.scenes import Scene
from fleet.protocol.simulation import HELD_OUT_FROM, IMAGE_PX, TASKS, robot_spec, task_named
from fleet.protocol.spec import CameraView

DRAWER, HAMMER, BOX = task_named("drawer-open"), task_named("hammer"), task_named("box-close")
STILL = np.zeros(4, np.float32)


@pytest.fixture(scope="module")
def driver():
    made = MetaWorldDriver()
    yield made
    made.close()


def layout(driver, task=DRAWER, **seed) -> tuple[float, ...]:
    driver.reset(task, **seed)
    return driver.read(images=False).privileged


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def test_a_seed_gives_one_layout_and_another_seed_another(driver):
    first = layout(driver, seed=1)
    assert layout(driver, seed=2) != first
    # What ran in between leaves no trace.
    driver.reset(HAMMER, seed=1)
    for _ in range(5):
        driver.apply(np.ones(4, np.float32))
    assert layout(driver, seed=1) == first


def test_a_held_out_layout_is_no_training_layout_even_of_the_same_number(driver):
    assert layout(driver, seed=1, held_out=True) != layout(driver, seed=1)
    assert layout(driver, seed=HELD_OUT_FROM, held_out=True) == layout(
        driver, seed=HELD_OUT_FROM, held_out=True
    )


def test_training_layouts_come_from_the_tasks_slice_and_held_out_ones_from_everywhere(driver):
    narrow = msgspec.structs.replace(DRAWER, layout_low=0.0, layout_high=0.4)
    slice_x = [layout(driver, narrow, seed=seed)[4] for seed in range(8)]
    held_out_x = [layout(driver, narrow, seed=seed, held_out=True)[4] for seed in range(8)]
    # The drawer is drawn from x in [-0.1, 0.1].
    assert -0.1 <= min(slice_x) <= max(slice_x) <= -0.02
    assert max(held_out_x) > 0.0


def test_the_slice_of_box_close_keeps_lid_and_box_apart():
    scene = Scene("box-close")
    narrow = msgspec.structs.replace(BOX, layout_low=0.0, layout_high=0.4)
    for seed in range(4):
        scene.reset(narrow, seed=seed, held_out=False)
        lid_y, goal_y = scene.observation[5], scene.observation[37]
        assert goal_y >= 0.76
        assert lid_y <= 0.52
    scene.close()


def test_pictures_are_upright_and_differ_between_cameras_and_tasks(driver):
    pictures = {}
    for task in (DRAWER, HAMMER):
        driver.reset(task, seed=3)
        pictures[task.name] = driver.read(images=True).images
        for camera in ("front", "wrist"):
            picture = pictures[task.name][camera]
            assert picture.shape == (IMAGE_PX, IMAGE_PX, 3)
            assert picture.dtype == np.uint8
            assert picture.std() > 10
        front = pictures[task.name]["front"]
        # Dark room above, the wooden table below, the red arm on the left.
        assert front[:16].mean() < 40
        assert 60 < front[-16:, 64:].mean() < 160
        red = (front[..., 0].astype(int) - front[..., 1] > 50) & (front[..., 2] < 60)
        assert red[:, :64].sum() > 3 * red[:, 64:].sum()
        # The wrist camera sees its own cyan finger at the upper left.
        wrist = pictures[task.name]["wrist"].astype(int)
        cyan = (wrist[..., 2] - wrist[..., 0] > 100) & (wrist[..., 1] > 100)
        assert cyan[:64, :64].sum() > 200 > 10 > cyan[64:].sum()
    assert difference(pictures["drawer-open"]["front"], pictures["drawer-open"]["wrist"]) > 20
    for camera in ("front", "wrist"):
        assert difference(pictures["drawer-open"][camera], pictures["hammer"][camera]) > 3


def test_pictures_stay_the_same_after_changing_tasks_and_watching(driver):
    driver.reset(DRAWER, seed=4)
    before = driver.read(images=True).images
    driver.render_feed("front", "thumbnail")
    driver.reset(HAMMER, seed=4)
    driver.read(images=True)
    driver.render_feed("wrist", "full")
    driver.reset(DRAWER, seed=4)
    after = driver.read(images=True).images
    for camera, picture in before.items():
        assert difference(picture, after[camera]) == 0


def test_the_goal_is_not_marked_in_any_picture(driver):
    driver.reset(DRAWER, seed=5)
    for camera, picture in driver.read(images=True).images.items():
        x = picture.astype(int)
        marker = (x[..., 1] > 150) & (x[..., 0] < 60) & (x[..., 2] < 60)
        assert not marker.any(), camera


def test_the_hand_follows_the_action(driver):
    driver.reset(DRAWER, seed=6)
    before = driver.read(images=False).state
    for _ in range(10):
        driver.apply(np.array([1.0, 0.0, 0.5, -1.0], np.float32))
    moved = driver.read(images=False).state - before
    assert moved[0] > 0.05
    assert abs(moved[1]) < 0.02
    assert moved[2] > 0.02


def test_an_expert_succeeds_and_can_take_over_in_the_middle(driver):
    driver.reset(DRAWER, seed=7)
    assert not driver.read(images=False).success
    for _ in range(20):
        driver.apply(np.array([1.0, -1.0, 1.0, 1.0], np.float32))
    for _ in range(DRAWER.timeout_ticks):
        reading = driver.read(images=False)
        if reading.success:
            break
        action = expert_action("drawer-open", reading.privileged)
        assert action.dtype == np.float32
        assert np.abs(action).max() <= 1.0
        driver.apply(action)
    assert reading.success
    assert reading.reward > 5


def test_an_expert_refuses_what_it_cannot_read():
    with pytest.raises(KeyError, match="fold-laundry"):
        expert_action("fold-laundry", (0.0,) * 39)
    with pytest.raises(ValueError, match="39 numbers"):
        expert_action("hammer", ())


def test_an_episode_may_last_longer_than_the_simulators_limit(driver):
    driver.reset(DRAWER, seed=8)
    for _ in range(510):
        driver.apply(STILL)
    assert np.isfinite(driver.read(images=False).state).all()


def test_people_watch_from_another_thread_while_the_loop_runs(driver):
    driver.reset(DRAWER, seed=9)
    seen: dict[tuple[str, str], list[np.ndarray]] = {}
    errors: list[Exception] = []
    ready, changed = threading.Event(), threading.Event()

    def watch():
        try:
            for camera in ("front", "wrist"):
                for size in FEED_SIZES_PX:
                    seen[camera, size] = [driver.render_feed(camera, size)]
            ready.set()
            assert changed.wait(60)
            for camera, size in seen:
                seen[camera, size].append(driver.render_feed(camera, size))
        except Exception as error:
            errors.append(error)
            ready.set()

    thread = threading.Thread(target=watch)
    thread.start()
    while not ready.is_set():
        driver.apply(np.array([0.5, 0.0, 0.2, 0.0], np.float32))
        driver.read(images=True)
    driver.reset(HAMMER, seed=9)
    changed.set()
    while thread.is_alive():
        driver.apply(STILL)
    thread.join()
    assert not errors
    for (_, size), (drawer, hammer) in seen.items():
        width, height = FEED_SIZES_PX[size]
        assert drawer.shape == hammer.shape == (height, width, 3)
        assert difference(drawer, hammer) > 3
    with pytest.raises(KeyError):
        driver.render_feed("ceiling", "full")


def test_the_state_variant_reads_the_privileged_state_and_has_no_cameras():
    driver = MetaWorldDriver("state")
    driver.reset(DRAWER, seed=10)
    reading = driver.read(images=True)
    assert reading.images == {}
    assert reading.state.shape == (21,)
    assert len(driver.spec.state_names) == 21
    expected = np.array(reading.privileged)[[*range(18), 36, 37, 38]]
    np.testing.assert_allclose(reading.state, expected, rtol=1e-6)
    assert robot_spec("image").state_names == driver.spec.state_names[:4]
    driver.close()


def test_a_robot_without_a_scene_says_so(driver):
    fresh = MetaWorldDriver()
    with pytest.raises(RuntimeError, match="reset first"):
        fresh.read(images=False)
    with pytest.raises(KeyError):
        fresh.reset(msgspec.structs.replace(DRAWER, name="fold-laundry"), seed=0)
    fresh.close()


def shown_at(point_m: np.ndarray, view: CameraView, *, width: int, height: int) -> np.ndarray:
    """Where a picture shows a point, in pixels: the formula at `CameraView`."""
    way = point_m - np.asarray(view.position_m)
    right, down, forward = (way @ np.asarray(v) for v in (view.right, view.down, view.forward))
    return np.array([width / 2, height / 2]) + view.focal_heights * height * (
        np.array([right, down]) / forward
    )


def test_the_front_cameras_view_says_where_its_pictures_show_the_fingers():
    driver = MetaWorldDriver()
    driver.reset(DRAWER, seed=3)
    scene = driver._current()
    fingers = [scene.model.body(name).id for name in ("rightpad", "leftpad")]
    painted = np.isin(scene.model.geom_bodyid, fingers)
    scene.model.geom_matid[painted] = -1
    scene.model.geom_rgba[painted] = (1.0, 0.0, 1.0, 1.0)
    for action in ([0, 0, 0, 0], [1, 0, 0, 0], [-1, -1, 0, 0], [0, 0, 1, 0]):
        for _ in range(14):
            driver.apply(np.array(action, np.float32))
        middle = np.mean([scene.data.body(body).xpos for body in fingers], axis=0)
        for size, (width, height) in FEED_SIZES_PX.items():
            red, green, blue = np.moveaxis(driver.render_feed("front", size).astype(int), 2, 0)
            rows, columns = np.nonzero((red - green > 60) & (blue - green > 60))
            assert rows.size > 8
            expected = shown_at(middle, driver.spec.cameras[0].view, width=width, height=height)
            off = np.array([columns.mean(), rows.mean()]) - expected
            assert np.abs(off).max() < 0.06 * height
    driver.close()


def test_a_plan_of_actions_is_where_the_hand_goes(driver):
    hand = driver.spec.hand
    driver.reset(DRAWER, seed=3)
    start = driver.read(images=False).state[:3]
    for _ in range(20):
        driver.apply(np.array([1, 0, 0, 0], np.float32))
    moved = driver.read(images=False).state[:3] - start
    # The hand follows with some lag.
    assert moved[0] == pytest.approx(20 * hand.unit_m, abs=0.04)
    assert np.abs(moved[1:]).max() < 0.03


def test_the_front_camera_stands_where_the_specification_says_in_every_task():
    view = robot_spec().cameras[0].view
    for task in TASKS:
        scene = Scene(task.name)
        scene.reset(task, seed=1, held_out=False)
        camera = scene.data.camera("corner4")
        axes = camera.xmat.reshape(3, 3).T  # right, up, backward of a camera that hangs upside down
        np.testing.assert_allclose(camera.xpos, view.position_m, atol=1e-4)
        for said, axis in ((view.right, -axes[0]), (view.down, axes[1]), (view.forward, -axes[2])):
            np.testing.assert_allclose(said, axis, atol=1e-4)
        fovy = np.deg2rad(scene.model.camera("corner4").fovy[0])
        assert view.focal_heights == pytest.approx(0.5 / np.tan(fovy / 2), abs=1e-6)
        scene.close()
