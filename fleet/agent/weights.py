"""A version's weights: fetched whole or not at all, and tried before anything moves with them."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import numpy as np

from fleet.agent.drivers.base import Reading
from fleet.protocol.spec import PolicyRef, RobotSpec, ValueRef
from learning.core.policies.base import MAX_ARTIFACT_BYTES, Policy
from learning.core.types import Observation

# A proposal may miss a limit by rounding.
_RANGE_TOLERANCE = 1e-4


class Rejected(Exception):
    """The announced version must not run here; the message says why."""


def try_policy(policy: Policy, spec: RobotSpec, reading: Reading | None, instruction: str) -> None:
    """Run a policy once on a real observation (on zeros when there was none yet).

    Raises:
        Rejected: It does not fit the robot, or its actions are not finite or out of range.
    """
    config = policy.config
    if config.action_dim != len(spec.action_names) or config.state_dim != len(spec.state_names):
        raise Rejected(
            f"it has {config.state_dim} state and {config.action_dim} action components, the robot "
            f"{len(spec.state_names)} and {len(spec.action_names)}"
        )
    cameras = {camera.name: camera for camera in spec.cameras}
    if missing := [name for name in config.cameras if name not in cameras]:
        raise Rejected(f"the robot has no camera {missing[0]}")
    state = np.zeros(config.state_dim, np.float32) if reading is None else reading.state
    images = {} if reading is None else reading.images
    shown = {
        name: images.get(
            name, np.zeros((cameras[name].height_px, cameras[name].width_px, 3), np.uint8)
        )
        for name in config.cameras
    }
    try:
        chunk, _ = policy.act(Observation(images=shown, state=state, instruction=instruction))
        actions = chunk.detach().numpy()
    except Exception as error:
        raise Rejected(f"it does not run: {error}") from None
    if actions.shape != (config.horizon, config.action_dim):
        raise Rejected(f"its chunk has shape {actions.shape}")
    if not np.isfinite(actions).all():
        raise Rejected("its actions are not finite")
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    if (actions < low - _RANGE_TOLERANCE).any() or (actions > high + _RANGE_TOLERANCE).any():
        raise Rejected("its actions are outside the robot's limits")


class Weights:
    """Fetches weights over HTTP.

    Args:
        folder: Where a download waits to be completed.
        server: Base URL; the token is sent there and nowhere else.
        token: The robot's bearer token.
    """

    def __init__(self, folder: Path, *, server: str, token: str) -> None:
        self._folder = folder
        self._server = server
        self._token = token
        self._client = httpx.Client(timeout=httpx.Timeout(30.0, connect=5.0))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def fetch(self, ref: PolicyRef | ValueRef, *, check: Callable[[], None]) -> bytes:
        """Return the bytes of what was announced, going on where an earlier attempt was cut.

        Args:
            ref: What was announced.
            check: Called between blocks; raises when the version is no longer wanted.

        Raises:
            Rejected: Too large, or more bytes came than were announced.
            httpx.HTTPError: The server or the way to it failed; try again.
            OSError: The disk failed, or the answer was too short; try again.
        """
        if ref.size_bytes > MAX_ARTIFACT_BYTES:
            raise Rejected(f"{ref.size_bytes} bytes are over the limit of {MAX_ARTIFACT_BYTES}")
        partial = self._folder / f"{ref.sha256}.partial"
        for other in self._folder.glob("*.partial"):
            if other != partial:
                other.unlink()
        self._download(ref, partial, check)
        data = partial.read_bytes()
        partial.unlink()
        return data

    def _download(
        self, ref: PolicyRef | ValueRef, partial: Path, check: Callable[[], None]
    ) -> None:
        url = urljoin(self._server + "/", ref.url)
        headers = {"Authorization": f"Bearer {self._token}"} if self._is_ours(url) else {}
        have = partial.stat().st_size if partial.exists() else 0
        if have == ref.size_bytes:
            return
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": f'"{ref.sha256}"'}
        with self._client.stream("GET", url, headers=headers) as response:
            response.raise_for_status()
            with open(partial, "ab" if response.status_code == 206 else "wb") as file:
                for block in response.iter_bytes():
                    check()
                    file.write(block)
                    if file.tell() > ref.size_bytes:
                        break
        size = partial.stat().st_size
        if size < ref.size_bytes:
            raise OSError(f"{size} of {ref.size_bytes} bytes came")
        if size > ref.size_bytes:
            partial.unlink()
            raise Rejected(f"more than the announced {ref.size_bytes} bytes came")

    def _is_ours(self, url: str) -> bool:
        ours, theirs = urlsplit(self._server), urlsplit(url)
        return (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)
