"""Reads. `access` is the only way to a guarded object."""
