"""Benchmarks of the running system on this machine: `make bench`. Not run by `make test`."""
