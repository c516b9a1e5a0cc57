"""Operators that are programs: clients of the same lease and commands as a person."""
