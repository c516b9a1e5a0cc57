"""Policies, buffers, samplers and learners. Pure: torch, numpy and `fleet.protocol` only."""
