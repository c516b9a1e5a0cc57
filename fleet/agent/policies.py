"""Weights on a robot: fetched, verified, swapped between episodes, rolled back when they fail.

All slow work runs in this module's thread. The control loop asks `take` at an episode boundary
and gets a version that is already loaded and tried, or nothing. Two versions stay on disk: the
current one, and the last that ran a whole episode without a fault (last-known-good), so that a
restarted robot acts without a server. A version may hold only what differs from a base: that is
fetched once and stays beside them for as long as one of them needs it (`bases.py`).
"""

import contextlib
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from fleet.agent import statefile
from fleet.agent.bases import Bases, base_ref
from fleet.agent.clock import Clock
from fleet.agent.drivers.base import Reading
from fleet.agent.uploader import backoff_s
from fleet.agent.weights import Rejected, Weights, try_policy
from fleet.protocol import messages as m
from fleet.protocol.episode import sha256_of
from fleet.protocol.spec import PolicyRef, RobotSpec
from learning.core.policies.base import BadArtifact, BaseRef, Policy, load_policy

log = logging.getLogger(__name__)

_REJECTED_KEPT = 100
_FAILED_FILE = "failed.json"


class _Failed(msgspec.Struct, frozen=True):
    """Versions that failed while they acted, by sha256, with the reason."""

    reasons: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class ActivePolicy:
    """A version that was verified on this robot."""

    ref: PolicyRef
    policy: Policy
    artifact: bytes


class Superseded(Exception):
    """A newer announcement came while one was in progress."""


class PolicyKeeper:
    """Keeps the policy that acts, and the next one.

    Args:
        folder: Where the two versions on disk live.
        spec: The robot's.
        server: Base URL; the token is sent there and nowhere else.
        report: Sends a PolicyReport; must not block.
    """

    def __init__(
        self,
        folder: Path,
        spec: RobotSpec,
        clock: Clock,
        *,
        server: str,
        token: str,
        report: Callable[[m.PolicyReport], None],
    ) -> None:
        self._folder = folder
        self._spec = spec
        self._clock = clock
        self._report = report
        folder.mkdir(parents=True, exist_ok=True)
        self._changed = threading.Condition()
        self._wanted: m.PolicyAnnouncement | None = None
        self._ready: ActivePolicy | None = None
        # What the thread is to write: the version of each slot on disk, None for no version.
        self._to_save: dict[str, ActivePolicy | None] = {}
        # Versions never to try again, with the reason; those that failed in use survive a restart.
        self._rejected: dict[str, str] = {}
        failed = statefile.read_state(folder / _FAILED_FILE, _Failed)
        self._failed = failed.reasons if failed else {}
        self._rejected.update(self._failed)
        self._stopping = False
        self._weights = Weights(folder, server=server, token=token)
        self._bases = Bases(folder)
        self._thread = threading.Thread(target=self._run, name="policies", daemon=True)
        self._rng = random.Random()
        self.active = self._load("current") or self._load("good")
        self._good = self._load("good")
        self.since_wall_ns = clock.wall_ns() if self.active else 0
        # The last reading with images and its words: what a new version is tried on.
        self.last_seen: tuple[Reading | None, str] = (None, "")

    # ---- the control loop's side: never blocks ---------------------------------------------

    def take(self) -> bool:
        """Between episodes: swap in the verified version, if one is waiting; say whether."""
        with self._changed:
            ready, self._ready = self._ready, None
            if ready is None:
                return False
            self.active = ready
            self.since_wall_ns = self._clock.wall_ns()
            self._to_save["current"] = ready
            self._changed.notify_all()
        self._tell(ready.ref, "applied")
        log.info("policy: %d applied", ready.ref.number)
        return True

    def proved(self) -> None:
        """The active version ran a whole episode without a fault: it becomes last-known-good."""
        with self._changed:
            if self.active is None or (self._good and self._good.ref == self.active.ref):
                return
            self._good = self.active
            self._to_save["good"] = self.active
            self._changed.notify_all()

    def roll_back(self, reason: str) -> None:
        """Replace the active version by the last-known-good one, and never run it again."""
        with self._changed:
            bad = self.active
            if bad is None:
                return
            self._remember_rejected(bad.ref.sha256, reason)
            if self._ready is not None and self._ready.ref.sha256 == bad.ref.sha256:
                self._ready = None
            good = self._good if self._good and self._good.ref.sha256 != bad.ref.sha256 else None
            self.active = good
            self.since_wall_ns = self._clock.wall_ns()
            self._failed[bad.ref.sha256] = reason
            self._to_save["current"] = good
            self._changed.notify_all()
        log.warning(
            "policy: %d rolled back to %s: %s",
            bad.ref.number,
            good.ref.number if good else "none",
            reason,
        )
        self._tell(bad.ref, "rolled_back", reason)

    # ---- the link's side: never blocks -----------------------------------------------------

    def clear(self) -> None:
        """Forget every version, in memory and on disk; those that failed stay known."""
        with self._changed:
            if (self.active, self._good, self._ready, self._wanted) == (None,) * 4:
                return
            self.active = self._good = self._ready = self._wanted = None
            self._to_save |= {"current": None, "good": None}
            self._changed.notify_all()

    def offer(self, announcement: m.PolicyAnnouncement) -> None:
        """Take an announcement; the newest wins over one that is in progress or waiting."""
        ref = announcement.policy
        with self._changed:
            active = self.active
            if active is not None and active.ref.sha256 == ref.sha256:
                # The server may change its mind while another version is on its way.
                self._wanted = self._ready = None
                if active.ref != ref:
                    # The same weights under another number are another version: next episode.
                    self._ready = ActivePolicy(ref, active.policy, active.artifact)
                    self._tell(ref, "verified")
                return
            waiting = (
                self._wanted.policy if self._wanted else None,
                self._ready.ref if self._ready else None,
            )
            if ref in waiting:
                return
            refusal = self._rejected.get(ref.sha256)
            if refusal is None:
                self._wanted = announcement
                self._changed.notify_all()
        if refusal is not None:
            self._tell(ref, "rejected", refusal)

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
                self._changed.wait_for(lambda: self._stopping or self._wanted or self._to_save)
                if self._stopping:
                    break
            self.work()
        self._save_all()

    def work(self) -> None:
        """Do what is due: save what was applied, then fetch and verify what is wanted."""
        self._save_all()
        announcement = self._wanted
        if announcement is None:
            return
        ref = announcement.policy
        try:
            candidate = self._verify(announcement, self._artifact(announcement))
        except Superseded:
            return
        except Rejected as refusal:
            with self._changed:
                self._remember_rejected(ref.sha256, str(refusal))
                if self._wanted is announcement:
                    self._wanted = None
            log.warning("policy: %d rejected: %s", ref.number, refusal)
            self._tell(ref, "rejected", str(refusal))
            return
        with self._changed:
            if self._wanted is not announcement:
                return
            self._wanted, self._ready = None, candidate
            # Told before the loop can take it: "verified" always comes before "applied".
            self._tell(ref, "verified")

    def _verify(self, announcement: m.PolicyAnnouncement, artifact: bytes) -> ActivePolicy:
        ref = announcement.policy
        if (found := sha256_of(artifact)) != ref.sha256:
            raise Rejected(f"its sha256 is {found[:12]}…, not {ref.sha256[:12]}…")

        def fetch(base: BaseRef) -> bytes:
            return self._fetch(announcement, base_ref(base, ref))

        try:
            policy = load_policy(artifact, lambda base: self._bases.get(base, fetch))
        except BadArtifact as error:
            raise Rejected(str(error)) from None
        reading, instruction = self.last_seen
        try_policy(policy, self._spec, reading, instruction)
        return ActivePolicy(ref, policy, artifact)

    def _artifact(self, announcement: m.PolicyAnnouncement) -> bytes:
        if announcement.weights is not None:
            return announcement.weights
        return self._fetch(announcement, announcement.policy)

    def _fetch(self, announcement: m.PolicyAnnouncement, ref: PolicyRef) -> bytes:
        """Fetch `ref`, the announced version or its base, for as long as that one is wanted."""
        failures = 0
        while True:
            try:
                return self._weights.fetch(ref, check=lambda: self._check_current(announcement))
            except (httpx.HTTPError, OSError) as error:
                if ref is not announcement.policy and _not_there(error):
                    # Waiting for a base that the server does not have would block newer versions.
                    raise Rejected(f"the server has no base {ref.sha256[:12]}…") from None
                failures += 1
                if failures == 1:
                    log.warning("policy: %s… not fetched yet: %s", ref.sha256[:12], error)
            with self._changed:
                self._changed.wait_for(
                    lambda: self._gone(announcement), backoff_s(failures, self._rng)
                )
            self._check_current(announcement)

    def _gone(self, announcement: m.PolicyAnnouncement) -> bool:
        return self._stopping or self._wanted is not announcement

    def _check_current(self, announcement: m.PolicyAnnouncement) -> None:
        if self._gone(announcement):
            raise Superseded

    def _remember_rejected(self, sha256: str, reason: str) -> None:
        self._rejected[sha256] = reason
        if len(self._rejected) > _REJECTED_KEPT:
            self._rejected.pop(next(iter(self._rejected)))

    def _tell(self, ref: PolicyRef, status: m.PolicyStatus, reason: str = "") -> None:
        self._report(
            m.PolicyReport(
                number=ref.number,
                sha256=ref.sha256,
                status=status,
                t_wall_ns=self._clock.wall_ns(),
                reason=reason[:500],
            )
        )

    # ---- disk ------------------------------------------------------------------------------

    def _save_all(self) -> None:
        with self._changed:
            newest, self._to_save = self._to_save, {}
            failed = _Failed(reasons=dict(self._failed))
        for slot, version in newest.items():
            try:
                if version is None:
                    (self._folder / f"{slot}.json").unlink(missing_ok=True)
                    continue
                # Weights first: a reference on disk always names weights that are there.
                self._bases.keep_for(version.artifact)
                statefile.write_bytes(
                    self._folder / f"{version.ref.sha256}.safetensors", version.artifact
                )
                statefile.write_state(self._folder / f"{slot}.json", version.ref)
            except OSError as error:
                log.error("policy: the %s version is not kept on disk: %s", slot, error)
        if newest:
            with contextlib.suppress(OSError):
                if failed.reasons:
                    statefile.write_state(self._folder / _FAILED_FILE, failed)
                self._drop_unused()

    def _drop_unused(self) -> None:
        refs = [
            statefile.read_state(self._folder / f"{s}.json", PolicyRef) for s in ("current", "good")
        ]
        kept = {ref.sha256 for ref in refs if ref is not None}
        kept |= self._bases.needed_by(kept)
        for path in self._folder.glob("*.safetensors"):
            if path.stem not in kept:
                path.unlink()

    def _load(self, slot: str) -> ActivePolicy | None:
        ref = statefile.read_state(self._folder / f"{slot}.json", PolicyRef)
        if ref is None:
            return None
        try:
            artifact = (self._folder / f"{ref.sha256}.safetensors").read_bytes()
            if sha256_of(artifact) != ref.sha256:
                raise BadArtifact("its sha256 differs")
            policy = load_policy(artifact, self._bases.on_disk)
            try_policy(policy, self._spec, None, "")
        except (OSError, BadArtifact, Rejected) as error:
            log.warning("policy: the %s version on disk does not load: %s", slot, error)
            return None
        return ActivePolicy(ref, policy, artifact)


def _not_there(error: Exception) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (404, 410)
