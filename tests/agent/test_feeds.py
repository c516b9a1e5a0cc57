import numpy as np
import simplejpeg

from fleet.agent.feeds import FRESH_S, Feeds
from fleet.agent.outbox import Outbox
from fleet.agent.situation import Glimpse
from fleet.protocol import messages as m
from tests.fakes import FakeClock, FakeDriver


def watching(driver: FakeDriver) -> tuple[Feeds, Outbox, FakeClock]:
    outbox, clock = Outbox(), FakeClock()
    return Feeds(driver, outbox, clock), outbox, clock


def test_exactly_what_is_asked_for_is_rendered_and_numbered():
    feeds, outbox, clock = watching(FakeDriver())
    request = m.FeedRequest(frames=(("front", "full"), ("front", "thumbnail")))
    for _ in range(2):
        feeds.send(request)
    first, second = outbox.take(), outbox.take()
    assert [(f.size, f.seq) for f in (first, second)] == [("full", 1), ("thumbnail", 1)]
    assert simplejpeg.decode_jpeg(first.jpeg).shape == (24, 32, 3)
    assert simplejpeg.decode_jpeg(second.jpeg).shape == (16, 16, 3)
    assert first.t_wall_ns == clock.wall_ns()
    assert outbox.take() is None


def test_a_camera_that_does_not_render_does_not_take_the_others_with_it(caplog):
    driver = FakeDriver()
    render = driver.render_feed

    def broken(camera: str, size: m.FeedSize) -> np.ndarray:
        if camera == "gone":
            raise KeyError(camera)
        return render(camera, size)

    driver.render_feed = broken
    feeds, outbox, _ = watching(driver)
    for _ in range(3):
        feeds.send(m.FeedRequest(frames=(("gone", "full"), ("front", "full"))))
    assert outbox.take().camera == "front"
    assert caplog.text.count("does not render") <= 3


def test_a_thumbnail_is_the_loops_own_image_while_that_is_fresh():
    driver, outbox, clock = FakeDriver(), Outbox(), FakeClock()
    image = np.full((8, 8, 3), 200, np.uint8)
    glimpse = Glimpse({"front": image}, clock.monotonic_ns(), 777)
    feeds = Feeds(driver, outbox, clock, glimpse=lambda: glimpse)
    both = m.FeedRequest(frames=(("front", "thumbnail"), ("front", "full")))
    feeds.send(both)
    thumbnail, full = outbox.take(), outbox.take()
    assert simplejpeg.decode_jpeg(thumbnail.jpeg).shape == (8, 8, 3)
    assert thumbnail.t_wall_ns == 777
    assert simplejpeg.decode_jpeg(full.jpeg).shape == (24, 32, 3)
    # The same image is not sent twice, and an old one is not shown as new.
    feeds.send(m.FeedRequest(frames=(("front", "thumbnail"),)))
    assert outbox.take() is None
    clock.advance(FRESH_S)
    feeds.send(m.FeedRequest(frames=(("front", "thumbnail"),)))
    assert simplejpeg.decode_jpeg(outbox.take().jpeg).shape == (16, 16, 3)


def test_nothing_is_rendered_while_nobody_watches():
    driver = FakeDriver()
    calls = []
    driver.render_feed = lambda camera, size: calls.append(camera)
    feeds, outbox, _ = watching(driver)
    feeds.ready.set()
    assert outbox.wait_for_feed(0.0) is None
    feeds.start()
    feeds.stop()
    assert not calls


class CountingClock(FakeClock):
    """A clock on which rendering takes no time, that stops its feed after some sleeps."""

    feeds: Feeds
    sleeps = 0

    def sleep_until(self, t_mono_ns: int) -> None:
        super().sleep_until(t_mono_ns)
        self.sleeps += 1
        if self.sleeps == 21:
            self.feeds._stopping.set()


def test_frames_come_at_most_as_often_as_asked_for():
    driver, outbox, clock = FakeDriver(), Outbox(), CountingClock()
    feeds = clock.feeds = Feeds(driver, outbox, clock)
    outbox.ask_feed(m.FeedRequest(frames=(("front", "full"),), fps=10.0))
    feeds.ready.set()
    begun_ns = clock.now_ns
    feeds._run()
    # 21 frames at 10 a second.
    assert (clock.now_ns - begun_ns) / 1e9 == 2.0
    assert outbox.take().seq == 20
