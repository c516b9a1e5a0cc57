"""Writes of the learning app."""
