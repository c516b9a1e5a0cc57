"""Bearer tokens: random, shown once, stored as SHA-256."""

import hashlib
import secrets


def new_token() -> str:
    """Return a token of 256 random bits; a fast hash is safe for it, unlike for a password."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return what is stored instead of the token."""
    return hashlib.sha256(token.encode()).hexdigest()
