"""Collects steps off the control loop, encodes them, and writes them to the spool.

The loop hands over a value a tick and never waits; encoding, Arrow and the disk run in this
module's thread. Parts are written during the episode, so that a crash loses seconds; the last
steps are kept back until it is known whether they precede a takeover (Sirius).
"""

import logging
import queue
import threading
from dataclasses import dataclass, field, replace

import numpy as np
import simplejpeg

from fleet.agent.spool import Spool, SpooledEpisode, describe
from fleet.protocol.control import ControlLabel, Lease, Mode
from fleet.protocol.episode import (
    BEFORE_TAKEOVER_STEPS,
    EpisodeHeader,
    EpisodeManifest,
    InterventionSpan,
    LinkQuality,
    Step,
    encode_part,
)
from fleet.protocol.messages import Outcome

log = logging.getLogger(__name__)

JPEG_QUALITY = 90
# About five seconds at 20 Hz: what a crash may lose.
PART_STEPS = 100
# An episode this long goes on in larger parts, so that their number stays under its limit.
MANY_PARTS = 300
LARGE_PART_STEPS = 1000
# Steps waiting for the encoder before an episode is given up: a minute and a half at 20 Hz.
MAX_BACKLOG = 2000


@dataclass(frozen=True, slots=True)
class RecordedTick:
    """A step as the loop knows it: images still raw, and what the span and link figures need."""

    step: Step
    images: dict[str, np.ndarray] = field(default_factory=dict)
    mode: Mode = Mode.AUTONOMOUS
    lease: Lease | None = None
    dead_man: bool = False
    rtt_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class EpisodeEnd:
    """How an episode ended."""

    outcome: Outcome
    judge: str
    ended_wall_ns: int
    discarded_commands: int = 0


class EpisodeWriter:
    """Turns the ticks of one episode into parts and a manifest."""

    def __init__(self, spool: Spool, header: EpisodeHeader) -> None:
        self._episode: SpooledEpisode = spool.begin(header)
        self._header = header
        self._pending: list[Step] = []
        self._spans: list[InterventionSpan] = []
        # The span under way: where it began, and doubt and value there.
        self._open: tuple[int, Lease, float, float] | None = None
        self._steps = 0
        self._ages_ms: list[float] = []
        self._rtts_ms: list[float] = []
        self._dead_man_ticks = 0

    def add(self, tick: RecordedTick) -> None:
        """Take one tick. Raises OSError when the disk does not take a part."""
        lease = tick.lease if tick.mode in (Mode.HANDOVER, Mode.TAKEOVER) else None
        if self._open and (lease is None or lease.epoch != self._open[1].epoch):
            self._close_span()
        if lease is not None and self._open is None:
            self._flag_before_takeover()
            self._open = (self._steps, lease, tick.step.doubt, tick.step.value)
        jpegs = {
            camera: simplejpeg.encode_jpeg(
                np.ascontiguousarray(image), quality=JPEG_QUALITY, colorspace="RGB"
            )
            for camera, image in tick.images.items()
        }
        self._pending.append(replace(tick.step, step=self._steps, images=jpegs))
        self._steps += 1
        if lease is not None:
            self._rtts_ms.append(tick.rtt_ms)
            self._dead_man_ticks += tick.dead_man
            if np.isfinite(tick.step.command_age_ms):
                self._ages_ms.append(tick.step.command_age_ms)
        size = self._part_steps
        if len(self._pending) >= size + BEFORE_TAKEOVER_STEPS and self._settled() >= size:
            self._write(size)

    @property
    def _part_steps(self) -> int:
        return PART_STEPS if len(self._episode.parts) < MANY_PARTS else LARGE_PART_STEPS

    def _settled(self) -> int:
        """Count the pending steps that no later takeover can flag."""
        policy_steps = 0
        for index in range(len(self._pending) - 1, -1, -1):
            label = self._pending[index].control_mode
            if label in (ControlLabel.HUMAN, ControlLabel.TRANSITION):
                return index + 1
            policy_steps += label == ControlLabel.POLICY
            if policy_steps == BEFORE_TAKEOVER_STEPS:
                return index
        return 0

    def _flag_before_takeover(self) -> None:
        """Flag the policy's last steps: its mistake. Holding in between does not end the search."""
        flagged = 0
        for index in range(len(self._pending) - 1, -1, -1):
            step = self._pending[index]
            if flagged == BEFORE_TAKEOVER_STEPS or step.control_mode in (
                ControlLabel.HUMAN,
                ControlLabel.TRANSITION,
            ):
                break
            if step.control_mode == ControlLabel.POLICY:
                self._pending[index] = replace(step, before_takeover=True)
                flagged += 1

    def _close_span(self) -> None:
        assert self._open is not None
        start, lease, doubt, value = self._open
        self._open = None
        self._spans.append(
            InterventionSpan(
                start=start,
                end=self._steps,
                epoch=lease.epoch,
                operator=lease.holder,
                operator_kind=lease.holder_kind,
                doubt=doubt if np.isfinite(doubt) else None,
                value=value if np.isfinite(value) else None,
            )
        )

    def _write(self, count: int) -> None:
        steps, self._pending = self._pending[:count], self._pending[count:]
        index = len(self._episode.parts)
        data = encode_part(self._header, steps, index=index)
        self._episode.add_part(data, first_step=steps[0].step, steps=len(steps))

    def end(self, end: EpisodeEnd, *, complete: bool = True) -> EpisodeManifest | None:
        """Write the rest and close the episode; None when it had no step."""
        if self._open:
            self._close_span()
        while self._pending:
            self._write(min(self._part_steps, len(self._pending)))
        if not self._steps:
            self._episode.discard()
            return None
        manifest = EpisodeManifest(
            header=self._header,
            ended_wall_ns=end.ended_wall_ns,
            steps=self._steps,
            outcome=end.outcome,
            judge=end.judge,
            parts=tuple(self._episode.parts),
            interventions=tuple(self._spans),
            link=LinkQuality(
                command_age_p50_ms=_percentile(self._ages_ms, 50),
                command_age_p95_ms=_percentile(self._ages_ms, 95),
                rtt_p50_ms=_percentile(self._rtts_ms, 50),
                dead_man_ticks=self._dead_man_ticks,
                discarded_commands=end.discarded_commands,
            ),
            complete=complete,
            control_period_s=1.0 / self._header.spec.control_hz,
        )
        self._episode.close(manifest)
        return manifest

    def give_up(self) -> None:
        """Remove what was written of an episode that cannot be completed."""
        self._episode.discard()


def _percentile(values: list[float], q: float) -> float:
    return float(np.percentile(values, q)) if values else 0.0


class Recorder:
    """The thread between the control loop and the spool."""

    def __init__(self, spool: Spool, *, max_backlog: int = MAX_BACKLOG) -> None:
        self._spool = spool
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._max_backlog = max_backlog
        self._overflowed = False
        self._writer: EpisodeWriter | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        # What the last failure was, for the heartbeat; empty when recording works.
        self.error = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begin(self, header: EpisodeHeader) -> None:
        """Start an episode; never waits."""
        self._overflowed = False
        self._queue.put(header)

    def add(self, tick: RecordedTick) -> None:
        """Record one tick; never waits."""
        if self._queue.qsize() < self._max_backlog:
            self._queue.put(tick)
        elif not self._overflowed:
            self._overflowed = True
            log.error("recorder: %d steps behind; this episode is cut", self._max_backlog)

    def end(self, end: EpisodeEnd) -> None:
        """End the episode; never waits."""
        self._queue.put((end, not self._overflowed))

    def stop(self, timeout_s: float = 10.0) -> None:
        """Write what is pending and end the thread."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def drain(self) -> None:
        """Handle what is queued now, for a caller that runs no thread."""
        while not self._queue.empty():
            self.take(self._queue.get())

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self.take(item)

    def take(self, item: object) -> None:
        """Handle one item of the queue; a failure costs its episode, never the thread."""
        try:
            match item:
                case EpisodeHeader():
                    self._writer = EpisodeWriter(self._spool, item)
                case RecordedTick() if self._writer is not None:
                    self._writer.add(item)
                case (EpisodeEnd() as end, bool() as complete) if self._writer is not None:
                    manifest = self._writer.end(end, complete=complete)
                    self._writer, self.error = None, ""
                    if manifest is not None:
                        log.info("episode %s", describe(manifest))
        except Exception as error:
            writer, self._writer = self._writer, None
            self.error = f"recording failed, an episode is lost: {error}"
            log.exception("recorder: an episode is lost")
            if writer is not None:
                writer.give_up()
