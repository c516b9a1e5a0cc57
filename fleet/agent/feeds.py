"""Live images for people: rendered only while somebody watches, in a thread of their own."""

import logging
import threading
from collections.abc import Callable

import numpy as np
import simplejpeg

from fleet.agent.clock import Clock
from fleet.agent.drivers.base import Driver
from fleet.agent.outbox import Outbox
from fleet.agent.situation import Glimpse
from fleet.protocol import messages as m

log = logging.getLogger(__name__)

# An image of the loop's is shown to people while it is younger than this.
FRESH_S = 0.3
QUALITY = {"thumbnail": 70, "full": 80}


class Feeds:
    """Renders what the last FeedRequest asks for, at its rate; frames are state."""

    def __init__(
        self,
        driver: Driver,
        outbox: Outbox,
        clock: Clock,
        *,
        glimpse: Callable[[], Glimpse | None] = lambda: None,
    ) -> None:
        self._driver = driver
        self._outbox = outbox
        self._clock = clock
        self._glimpse = glimpse
        self._shown: dict[str, int] = {}
        self._seq: dict[tuple[str, str], int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeds", daemon=True)
        # The driver has no scene before its first reset.
        self.ready = threading.Event()
        self._failed = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread."""
        self._stopping.set()
        self.ready.set()
        self._outbox.wake_feeds()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        self.ready.wait()
        due_ns = self._clock.monotonic_ns()
        while not self._stopping.is_set():
            request = self._outbox.wait_for_feed(1.0)
            if request is None:
                continue
            self._clock.sleep_until(due_ns)
            # Late renders are not made up for: frames are state.
            due_ns = self._clock.monotonic_ns() + int(1e9 / request.fps)
            self.send(request)

    def send(self, request: m.FeedRequest) -> None:
        """Render and send every frame of a request once."""
        for camera, size in request.frames:
            try:
                taken = self._take(camera, size)
                if taken is None:
                    continue
                image, t_wall_ns = taken
                jpeg = simplejpeg.encode_jpeg(image, quality=QUALITY[size], colorspace="RGB")
            except Exception:
                if not self._failed:
                    self._failed = True
                    log.exception("feeds: camera %s (%s) does not render", camera, size)
                continue
            self._failed = False
            if len(jpeg) > m.MAX_FRAME_BYTES:
                continue
            seq = self._seq.get((camera, size), 0)
            self._seq[camera, size] = seq + 1
            self._outbox.put_state(
                f"frame {camera} {size}",
                m.Frame(camera=camera, size=size, seq=seq, t_wall_ns=t_wall_ns, jpeg=jpeg),
            )

    def _take(self, camera: str, size: m.FeedSize) -> tuple[np.ndarray, int] | None:
        """Return an image and when it was taken; None when the last one was shown already.

        A thumbnail is what the loop took for the policy, while that is fresh: rendering the same
        again for every watcher of a fleet page would take a quarter of a core from four robots.
        """
        glimpse = self._glimpse() if size == "thumbnail" else None
        if glimpse is not None and camera in glimpse.images:
            age_ns = self._clock.monotonic_ns() - glimpse.t_mono_ns
            if age_ns < FRESH_S * 1e9:
                if self._shown.get(camera) == glimpse.t_mono_ns:
                    return None
                self._shown[camera] = glimpse.t_mono_ns
                return np.ascontiguousarray(glimpse.images[camera]), glimpse.t_wall_ns
        t_wall_ns = self._clock.wall_ns()
        return np.ascontiguousarray(self._driver.render_feed(camera, size)), t_wall_ns
