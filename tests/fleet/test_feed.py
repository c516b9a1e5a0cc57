import time
from collections import deque

from fleet.protocol import browser as b
from fleet.protocol import messages as m
from fleet.services.live.feeds import Shot, Viewer
from fleet.services.live.hub import Hub
from tests.factories import Cast
from tests.fleet.peers import RobotPeer, ViewerPeer, settled

FRONT = ("arm-01", "front", "thumbnail")
WRIST = ("arm-01", "wrist", "full")


def frame(seq: int, feed: tuple[str, str, str] = FRONT, *, t_wall_ns: int = 0) -> m.Frame:
    return m.Frame(
        camera=feed[1],
        size=feed[2],
        seq=seq,
        t_wall_ns=t_wall_ns or time.time_ns(),
        jpeg=b"jpeg%d" % seq,
    )


def shown(seq: int, feed: tuple[str, str, str] = FRONT) -> b.FrameShown:
    return b.FrameShown(robot=feed[0], camera=feed[1], size=feed[2], seq=seq)


async def watching(viewer: ViewerPeer, robot: RobotPeer, *feeds: tuple[str, str, str]) -> None:
    await viewer.send(b.WatchFrames(feeds=feeds))
    wanted = {(camera, size) for _, camera, size in feeds}
    await robot.until(m.FeedRequest, lambda request: set(request.frames) == wanted)


async def test_a_robot_sends_frames_only_while_somebody_watches(robot, viewer, opened, script):
    await watching(viewer, robot, FRONT)
    second = await opened(ViewerPeer(token="script-token"))
    await second.send(b.WatchFrames(feeds=(FRONT, WRIST)))
    await robot.until(m.FeedRequest, lambda r: len(r.frames) == 2)
    await second.close()
    assert (await robot.until(m.FeedRequest)).frames == (("front", "thumbnail"),)
    await viewer.close()
    assert (await robot.until(m.FeedRequest)).frames == ()


async def test_a_frame_arrives_with_its_age(robot, viewer):
    await watching(viewer, robot, FRONT)
    await robot.send(frame(1, t_wall_ns=time.time_ns() - 20_000_000_000))
    header, jpeg = await viewer.frame()
    assert jpeg == b"jpeg1"
    assert (header.robot, header.camera, header.size, header.seq) == (*FRONT, 1)
    # The robot's clock is known as well as its hello was quick.
    assert 15_000 <= header.age_ms < 60_000


async def test_the_age_is_told_on_the_servers_clock(hub: Hub, robot, viewer):
    await watching(viewer, robot, FRONT)
    ahead_ns = 3600 * 10**9
    await robot.heartbeat(clock_offset_ns=-ahead_ns)
    await robot.send(frame(1, t_wall_ns=time.time_ns() + ahead_ns))
    header, _ = await viewer.frame()
    assert header.age_ms < 10_000
    assert abs(header.t_wall_ns - time.time_ns()) < 60e9


async def test_a_viewer_that_shows_nothing_gets_two_frames_and_then_the_newest(robot, viewer):
    await watching(viewer, robot, FRONT)
    await robot.send(frame(1))
    assert (await viewer.frame())[0].seq == 1
    await robot.send(frame(2))
    assert (await viewer.frame())[0].seq == 2
    for seq in range(3, 50):
        await robot.send(frame(seq))
    assert await viewer.quiet()
    await viewer.send(shown(1))
    assert (await viewer.frame())[0].seq == 49
    assert await viewer.quiet()


async def test_showing_a_frame_returns_the_credit_of_those_before_it(robot, viewer):
    await watching(viewer, robot, FRONT)
    for seq in (1, 2):
        await robot.send(frame(seq))
        await viewer.frame()
    await viewer.send(shown(2))
    for seq in (3, 4):
        await robot.send(frame(seq))
        assert (await viewer.frame())[0].seq == seq


async def test_credit_cannot_be_made_up(robot, viewer):
    await watching(viewer, robot, FRONT)
    for seq in (1, 2):
        await robot.send(frame(seq))
        await viewer.frame()
    for seq in (99, 100, 3):
        await viewer.send(shown(seq))
    await robot.send(frame(3))
    assert await viewer.quiet()


async def test_one_stalled_feed_does_not_stop_another(robot, viewer):
    await watching(viewer, robot, FRONT, WRIST)
    for seq in (1, 2):
        await robot.send(frame(seq))
        assert (await viewer.frame())[0].seq == seq
    await robot.send(frame(3))
    await robot.send(frame(9, WRIST))
    assert (await viewer.frame())[0].camera == "wrist"


async def test_cameras_the_robot_does_not_have_are_not_asked_for(robot, viewer):
    unknown = (("arm-01", "tail", "full"), ("no-one", "x", "full"))
    await viewer.send(b.WatchFrames(feeds=(FRONT, *unknown)))
    assert (await robot.until(m.FeedRequest)).frames == (("front", "thumbnail"),)


async def test_frames_nobody_asked_for_go_nowhere(hub: Hub, robot, viewer):
    await watching(viewer, robot, FRONT)
    await robot.send(frame(1, WRIST))
    await robot.send(frame(2))
    assert (await viewer.frame())[0].seq == 2


async def test_anybody_signed_in_may_watch(robot, opened, crew: Cast):
    viewer = await opened(ViewerPeer(crew.viewer))
    await watching(viewer, robot, FRONT)
    await robot.send(frame(1))
    assert (await viewer.frame())[0].seq == 1


async def test_a_viewer_who_left_holds_no_memory(hub: Hub, robot, viewer):
    await watching(viewer, robot, FRONT)
    await viewer.close()
    await settled(lambda: not hub.feeds._viewers)


def test_a_stalled_viewer_holds_one_waiting_frame_a_feed():
    viewer = Viewer(lambda: None)
    viewer.want((FRONT,))
    for seq in range(1000):
        viewer.offer(Shot(FRONT, seq, 0, bytes(1000)))
        viewer.take()
    subscription = viewer._subscriptions[FRONT]
    assert len(subscription.unshown) == b.FRAME_CREDIT
    assert subscription.newest.seq == 999


def test_asking_again_for_the_same_feed_gives_no_new_credit():
    viewer = Viewer(lambda: None)
    viewer.want((FRONT,))
    for seq in range(b.FRAME_CREDIT):
        viewer.offer(Shot(FRONT, seq, 0, b""))
        assert viewer.take() is not None
    viewer.want((FRONT, WRIST))
    viewer.offer(Shot(FRONT, 7, 0, b""))
    assert viewer.take() is None


def play(*, feeds: int, every_ms: int, draw_ms: float, way_ms: int, stall_ms: int, for_ms: int):
    """Show feeds to a browser that draws one frame after the other; return ages in ms by feed.

    `way_ms` passes between server and browser in either direction. The browser composes itself
    after every `stall_ms`, for as long; it draws nothing meanwhile.
    """
    now = 0
    viewer = Viewer(lambda: None, lambda: now / 1000)
    names = [("arm", f"camera-{i}", "thumbnail") for i in range(feeds)]
    viewer.want(tuple(names))
    arriving, answers = deque(), deque()
    ages: dict[tuple[str, str, str], list[float]] = {name: [] for name in names}
    free_at = 0.0
    for now in range(for_ms):
        for i, feed in enumerate(names):
            if (now + i * every_ms // feeds) % every_ms == 0:
                viewer.offer(Shot(feed, now, now, b""))
        while (shot := viewer.take()) is not None:
            arriving.append((now + way_ms, shot))
        composes = stall_ms and (now // stall_ms) % 2
        while not composes and arriving and arriving[0][0] <= now and free_at <= now:
            _, shot = arriving.popleft()
            free_at = max(free_at, now - 1) + draw_ms
            answers.append((free_at + way_ms, shot))
            ages[shot.feed].append(free_at - shot.taken_wall_ns)
        while answers and answers[0][0] <= now:
            _, shot = answers.popleft()
            viewer.shown(shot.feed, shot.seq)
    return ages


def late_half(ages: dict[tuple[str, str, str], list[float]]) -> list[float]:
    return sorted(age for of_one in ages.values() for age in of_one[len(of_one) // 2 :])


def test_a_browser_that_is_too_slow_sees_fewer_frames_and_none_that_is_old():
    ages = play(feeds=50, every_ms=100, draw_ms=9, way_ms=2, stall_ms=0, for_ms=10_000)
    late = late_half(ages)
    # Nearly as many as it can draw, hardly older than the newest there was, and of every robot.
    assert sum(map(len, ages.values())) > 0.85 * 10_000 / 9
    assert late[int(0.95 * len(late))] < 100
    assert min(map(len, ages.values())) > 0.7 * max(map(len, ages.values()))


def test_a_browser_that_draws_in_bursts_is_not_starved():
    ages = play(feeds=50, every_ms=100, draw_ms=2, way_ms=2, stall_ms=40, for_ms=10_000)
    late = late_half(ages)
    assert sum(map(len, ages.values())) > 0.7 * 10_000 / (2 * 2)
    assert late[int(0.95 * len(late))] < 130


def test_a_browser_far_away_still_sees_every_frame():
    ages = play(feeds=4, every_ms=50, draw_ms=1, way_ms=30, stall_ms=0, for_ms=6000)
    assert sum(map(len, ages.values())) > 0.9 * 4 * 6000 / 50
    assert late_half(ages)[-1] < 30 + 20


def test_frames_that_are_never_shown_hold_back_their_own_feed_only():
    now = 0.0
    viewer = Viewer(lambda: None, lambda: now)
    viewer.want((FRONT, WRIST))
    shown = 0
    for seq in range(200):
        now += 0.05
        viewer.offer(Shot(FRONT, seq, 0, b""))
        viewer.offer(Shot(WRIST, seq, 0, b""))
        while (shot := viewer.take()) is not None:
            if shot.feed == WRIST:
                viewer.shown(WRIST, shot.seq)
                shown += 1
    assert shown > 150
