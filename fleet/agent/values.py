"""The value function on a robot: fetched, verified, tried, kept on disk. Never needed to act.

Whatever is wrong with it costs the value and nothing else: the robot goes on, and says why there is
none. All slow work runs in this module's thread; the control loop asks `take` between episodes, so
that the values of one episode are of one function. What computes them is `valuing.py`.
"""

import logging
import random
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np

from fleet.agent import statefile
from fleet.agent.drivers.base import Reading
from fleet.agent.uploader import backoff_s
from fleet.agent.weights import Rejected, Weights
from fleet.protocol import messages as m
from fleet.protocol.episode import sha256_of
from fleet.protocol.spec import RobotSpec, ValueRef
from learning.core.types import Observation
from learning.core.value import MAX_VALUE_BYTES, BadValueFunction, ValueFunction, load_value

log = logging.getLogger(__name__)

# More than this share of a control period for one value is too slow for a robot that must tick.
MAX_SHARE_OF_PERIOD = 0.5
_TRIES = 5
_FILE = "current.json"
_REJECTED_KEPT = 100
# Values over which the mean cost that is told runs.
_TIMED = 50


@dataclass(frozen=True, slots=True)
class ActiveValue:
    """A value function that was verified on this robot."""

    ref: ValueRef
    network: ValueFunction


def try_value(
    network: ValueFunction, spec: RobotSpec, reading: Reading | None, instruction: str
) -> None:
    """Run a value function on a real observation (on zeros when there was none yet).

    Raises:
        Rejected: It does not fit the robot, its value is not finite, or it is too slow for it.
    """
    config = network.config
    if config.state_dim != len(spec.state_names):
        raise Rejected(
            f"it is for {config.state_dim} state components, the robot has {len(spec.state_names)}"
        )
    cameras = {camera.name: camera for camera in spec.cameras}
    if missing := [name for name in config.cameras if name not in cameras]:
        raise Rejected(f"the robot has no camera {missing[0]}")
    images = {} if reading is None else reading.images
    observation = Observation(
        images={
            name: images.get(
                name, np.zeros((cameras[name].height_px, cameras[name].width_px, 3), np.uint8)
            )
            for name in config.cameras
        },
        state=np.zeros(config.state_dim, np.float32) if reading is None else reading.state,
        instruction=instruction,
    )
    took_s = []
    for _ in range(_TRIES):
        started = time.thread_time()
        try:
            value = network.value_at(observation)
        except Exception as error:
            raise Rejected(f"it does not run: {error}") from None
        took_s.append(time.thread_time() - started)
    if not np.isfinite(value):
        raise Rejected("its value is not finite")
    # The quickest of them, in the processor's time: what this machine is busy with meanwhile says
    # nothing of the network.
    if min(took_s) > MAX_SHARE_OF_PERIOD / spec.control_hz:
        raise Rejected(
            f"a value takes {1e3 * min(took_s):.0f} ms, too long for a tick of "
            f"{1e3 / spec.control_hz:.0f} ms"
        )


class ValueKeeper:
    """Keeps the value function that is computed, and the next one.

    Args:
        folder: Where the one on disk lives.
        server: Base URL; the token is sent there and nowhere else.
    """

    def __init__(self, folder: Path, spec: RobotSpec, *, server: str, token: str) -> None:
        self._folder = folder
        self._spec = spec
        folder.mkdir(parents=True, exist_ok=True)
        self._weights = Weights(folder, server=server, token=token)
        self._changed = threading.Condition()
        # What the server wants, what of it is still to be fetched, and what `take` will find.
        self._told: ValueRef | None = None
        self._heard = False
        self._wanted: ValueRef | None = None
        self._ready: list[ActiveValue | None] = []
        self._rejected: dict[str, str] = {}
        self._reason = ""
        # Written by the control loop alone, which must not wait for a lock at every inference.
        self._took_ms, self._timed = 0.0, 0
        self._stopping = False
        self._rng = random.Random()
        self._thread = threading.Thread(target=self._run, name="values", daemon=True)
        # The last reading with images and its words: what a new one is tried on.
        self.last_seen: tuple[Reading | None, str] = (None, "")
        self.active = self._load()

    # ---- the control loop's side: never blocks ---------------------------------------------

    def take(self) -> None:
        """Between episodes: let the verified one be computed, or none where none is wanted."""
        with self._changed:
            if not self._ready:
                return
            self.active = self._ready.pop()
            self._took_ms, self._timed = 0.0, 0

    def took(self, seconds: float) -> None:
        """Note what a value cost."""
        self._timed = min(self._timed + 1, _TIMED)
        self._took_ms += (1e3 * seconds - self._took_ms) / self._timed

    def fail(self, why: str) -> None:
        """Compute the active one no more: it failed. The robot goes on without."""
        with self._changed:
            failed, self.active = self.active, None
            if failed is not None:
                self._refuse(failed.ref, why)

    # ---- the link's side: never blocks -----------------------------------------------------

    def offer(self, ref: ValueRef | None) -> None:
        """Take what the server wants computed; None is none."""
        with self._changed:
            if self._heard and ref == self._told:
                return
            self._heard = True
            self._told, self._wanted, self._reason = ref, None, ""
            self._ready.clear()
            if ref is None:
                self._ready.append(None)
            elif self.active is not None and self.active.ref.sha256 == ref.sha256:
                # The same weights; the server may have another number or correlation for them.
                self._ready.append(replace(self.active, ref=ref))
            elif ref.sha256 in self._rejected:
                self._reason = self._rejected[ref.sha256]
            else:
                self._wanted, self._reason = ref, f"value function {ref.number} is on its way"
            self._changed.notify_all()

    def status(self) -> m.ValueStatus:
        """Return what the server and pages are told."""
        with self._changed:
            active, told = self.active, self._told
            return m.ValueStatus(
                told=told.sha256 if told else "",
                number=active.ref.number if active else None,
                correlation=active.ref.correlation if active else None,
                reason=self._reason[:500],
                took_ms=round(self._took_ms, 2),
            )

    def ranks(self, correlation: float) -> bool:
        """Say whether the active one orders held-out moments at least this well."""
        active = self.active
        known = active.ref.correlation if active else None
        return known is not None and known >= correlation

    # ---- the thread ------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._weights.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._wanted)
                if self._stopping:
                    return
            self.work()

    def work(self) -> None:
        """Fetch and verify what is wanted, if anything; keep it on disk."""
        ref = self._wanted
        if ref is None:
            return
        try:
            artifact = self._fetch(ref)
            if (found := sha256_of(artifact)) != ref.sha256:
                raise Rejected(f"its sha256 is {found[:12]}…, not {ref.sha256[:12]}…")
            candidate = ActiveValue(ref, self._verify(artifact))
        except _Superseded:
            return
        except (Rejected, BadValueFunction) as error:
            with self._changed:
                self._refuse(ref, str(error))
            return
        self._save(ref, artifact)
        with self._changed:
            if self._wanted is ref:
                self._wanted, self._reason = None, ""
                self._ready = [candidate]
                log.info("value: function %d verified", ref.number)

    def _verify(self, artifact: bytes) -> ValueFunction:
        network = load_value(artifact)
        reading, instruction = self.last_seen
        try_value(network, self._spec, reading, instruction)
        return network

    def _fetch(self, ref: ValueRef) -> bytes:
        if ref.size_bytes > MAX_VALUE_BYTES:
            raise Rejected(f"{ref.size_bytes} bytes are over the limit of {MAX_VALUE_BYTES}")
        failures = 0
        while True:
            try:
                return self._weights.fetch(ref, check=lambda: self._check_wanted(ref))
            except (httpx.HTTPError, OSError) as error:
                failures += 1
                with self._changed:
                    if self._wanted is ref:
                        why = f"value function {ref.number} cannot be fetched yet: {error}"
                        if failures == 1:
                            log.warning("value: %s", why)
                        self._reason = why
                    self._changed.wait_for(
                        lambda: self._stopping or self._wanted is not ref,
                        backoff_s(failures, self._rng),
                    )
            self._check_wanted(ref)

    def _check_wanted(self, ref: ValueRef) -> None:
        if self._stopping or self._wanted is not ref:
            raise _Superseded

    def _refuse(self, ref: ValueRef, why: str) -> None:
        self._rejected[ref.sha256] = reason = f"value function {ref.number} was refused: {why}"
        if len(self._rejected) > _REJECTED_KEPT:
            self._rejected.pop(next(iter(self._rejected)))
        if self._told is not None and self._told.sha256 == ref.sha256:
            self._reason, self._wanted = reason, None
            self._ready.clear()
        log.warning("value: %s", reason)

    # ---- disk ------------------------------------------------------------------------------

    def _save(self, ref: ValueRef, artifact: bytes) -> None:
        try:
            # Weights first: a reference on disk always names weights that are there.
            statefile.write_bytes(self._folder / f"{ref.sha256}.safetensors", artifact)
            statefile.write_state(self._folder / _FILE, ref)
            for path in self._folder.glob("*.safetensors"):
                if path.stem != ref.sha256:
                    path.unlink()
        except OSError as error:
            log.warning("value: function %d is not kept on disk: %s", ref.number, error)

    def _load(self) -> ActiveValue | None:
        ref = statefile.read_state(self._folder / _FILE, ValueRef)
        if ref is None:
            return None
        try:
            artifact = (self._folder / f"{ref.sha256}.safetensors").read_bytes()
            if sha256_of(artifact) != ref.sha256:
                raise BadValueFunction("its sha256 differs")
            return ActiveValue(ref, self._verify(artifact))
        except (OSError, BadValueFunction, Rejected) as error:
            log.warning("value: the function on disk does not load: %s", error)
            return None


class _Superseded(Exception):
    """Another one is wanted by now, or the agent stops."""
