"""Housekeeping of the object store: what no row names goes away, after a grace."""

from datetime import timedelta

from django.utils import timezone

from learning import blobs
from learning.models import EpisodePart, Learner, PolicyVersion, Sidecar, ValueVersion

# Objects without a row are left alone this long: their row may be on its way.
ORPHAN_GRACE = timedelta(hours=1)
# Every column that names an object.
_NAMES = (
    (EpisodePart, "sha256"),
    (PolicyVersion, "sha256"),
    (Learner, "checkpoint_sha256"),
    (ValueVersion, "sha256"),
    (Sidecar, "sha256"),
)


def sweep_orphans(*, grace: timedelta = ORPHAN_GRACE) -> int:
    """Delete objects older than `grace` that no row names; return how many. Safe to repeat."""
    store = blobs.store()
    deleted = 0
    old: list[str] = []
    for blob in store.iter_blobs():
        if blob.modified_at < timezone.now() - grace:
            old.append(blob.sha256)
        if len(old) >= 500:
            deleted += _delete_unnamed(store, old)
            old = []
    return deleted + _delete_unnamed(store, old)


def _delete_unnamed(store: blobs.BlobStore, candidates: list[str]) -> int:
    named: set[str] = set()
    for model, field in _NAMES:
        found = model.objects.filter(**{f"{field}__in": candidates})
        named.update(found.values_list(field, flat=True))
    unnamed = [sha256 for sha256 in candidates if sha256 not in named]
    for sha256 in unnamed:
        store.delete(sha256)
    return len(unnamed)
