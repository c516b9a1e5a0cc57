"""Experiments: clients of the running system, and what is computed off its clock. No Django."""
