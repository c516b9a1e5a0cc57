"""What can go wrong in the learning app, by name. The API turns `status` and `code` into HTTP."""


class LearningError(Exception):
    """A refusal with a stable code; its text is for the peer and holds no internals."""

    status = 400
    code = "refused"


class BadToken(LearningError):
    """Nobody we know sent this."""

    status = 401
    code = "unauthenticated"


class Forbidden(LearningError):
    """The caller is known and may not do this."""

    status = 403
    code = "forbidden"


class NotFound(LearningError):
    """No such thing, or none the caller may see."""

    status = 404
    code = "not_found"


class Conflict(LearningError):
    """Contradicts what is already stored."""

    status = 409
    code = "conflict"


class EpisodeClosed(Conflict):
    """The episode is closed and holds no such part, or was closed by another manifest."""

    code = "episode_closed"


class MissingParts(Conflict):
    """A manifest names parts that are not stored; `missing` holds their indexes."""

    code = "missing_parts"

    def __init__(self, missing: list[int]) -> None:
        """Take the indexes of the missing parts, in order."""
        super().__init__(f"parts {missing} are not stored")
        self.missing = missing


class TooLarge(LearningError):
    """A body over its limit."""

    status = 413
    code = "too_large"


class Unprocessable(LearningError):
    """A body that breaks its format, or is not what its hash says."""

    status = 422
    code = "unprocessable"


class HashMismatch(Unprocessable):
    """A body whose sha256 is not the announced one: damaged on its way."""

    code = "hash_mismatch"


class StoreUnavailable(LearningError):
    """The object store does not answer, or the breaker is open."""

    status = 503
    code = "store_unavailable"


class BlobMissing(LearningError):
    """The object store has no object of this sha256."""

    status = 404
    code = "blob_missing"


class LeaseLost(LearningError):
    """The round's epoch is no longer the learner's: another process took over."""

    status = 409
    code = "lease_lost"
