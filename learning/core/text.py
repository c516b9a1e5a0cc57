"""Instructions as hashed words: no vocabulary to ship, and any instruction can be read.

A word's token is its hash, so a new word needs no new table; two words may share a token, which
512 buckets make rare for the dozens of words in use. 0 pads.
"""

import re
import zlib
from functools import lru_cache

import numpy as np

# Words beyond these are cut off; the longest instruction in use has 11.
MAX_WORDS = 16
_WORD = re.compile(r"[a-z0-9]+")


def words_of(instruction: str) -> list[str]:
    """Return the lower-case words of an instruction."""
    return _WORD.findall(instruction.lower())


@lru_cache(maxsize=4096)
def _tokens(instruction: str, buckets: int) -> np.ndarray:
    words = words_of(instruction)[:MAX_WORDS]
    out = np.zeros(MAX_WORDS, np.int64)
    out[: len(words)] = [1 + zlib.crc32(word.encode()) % (buckets - 1) for word in words]
    out.setflags(write=False)  # it is shared by every caller
    return out


def tokenize(instruction: str, *, buckets: int = 512) -> np.ndarray:
    """Return int64 (MAX_WORDS,): a token in 1..buckets-1 for each word, then 0. Read-only."""
    return _tokens(instruction, buckets)
