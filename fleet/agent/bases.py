"""The bases of versions that hold only what differs from one: on disk once, for all who need it."""

from collections.abc import Callable, Iterable
from pathlib import Path

from fleet.agent import statefile
from fleet.protocol.episode import sha256_of
from fleet.protocol.spec import PolicyRef
from learning.core.policies.base import BadArtifact, BaseRef, base_of


class Bases:
    """Finds bases in the policies' folder, where they lie beside the versions.

    Args:
        folder: Of files named by their sha256.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # The last one asked for: the next version needs the same.
        self._newest: bytes | None = None

    def get(self, base: BaseRef, fetch: Callable[[BaseRef], bytes]) -> bytes:
        """Return a base: the one at hand, or from disk, or as `fetch` gets it."""
        if self._newest is None or sha256_of(self._newest) != base.sha256:
            try:
                self._newest = self.on_disk(base)
            except BadArtifact:
                self._newest = fetch(base)
        return self._newest

    def on_disk(self, base: BaseRef) -> bytes:
        """Return a base from disk. Raises BadArtifact when it is not there or damaged."""
        try:
            data = self._path(base.sha256).read_bytes()
        except OSError as error:
            raise BadArtifact(f"its base {base.sha256[:12]}… is not on disk: {error}") from None
        if sha256_of(data) != base.sha256:
            raise BadArtifact(f"its base {base.sha256[:12]}… is damaged on disk")
        return data

    def keep_for(self, artifact: bytes) -> None:
        """Write the base of a version that was loaded with it, unless it is there.

        Raises:
            OSError: The disk does not take it, or another version's base is at hand by now.
        """
        base = base_of(artifact)
        if base is None:
            return
        try:
            self.on_disk(base)
        except BadArtifact as error:
            if self._newest is None or sha256_of(self._newest) != base.sha256:
                raise OSError(str(error)) from None
            statefile.write_bytes(self._path(base.sha256), self._newest)

    def needed_by(self, versions: Iterable[str]) -> set[str]:
        """Return the sha256 of every base that versions on disk need."""
        needed = set()
        for sha256 in versions:
            try:
                base = base_of(self._path(sha256).read_bytes())
            except (OSError, BadArtifact):
                continue
            if base is not None:
                needed.add(base.sha256)
        return needed

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.safetensors"


def base_ref(base: BaseRef, version: PolicyRef) -> PolicyRef:
    """Return where the server has a base: every published version's weights are at this path."""
    return PolicyRef(
        number=version.number,
        sha256=base.sha256,
        url=f"/api/policies/{base.sha256}/weights",
        size_bytes=base.size_bytes,
    )
