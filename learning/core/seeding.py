"""One place where every random generator of a training process is seeded."""

import random

import numpy as np
import torch


def seed_everything(seed: int) -> np.random.Generator:
    """Seed Python's, numpy's and torch's global generators; return a generator for sampling."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # libraries draw from the global one
    torch.manual_seed(seed)
    return np.random.default_rng(seed)
