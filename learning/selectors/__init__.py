"""Reads of the learning app."""
