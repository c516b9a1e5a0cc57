"""Learning algorithms, one file each; `base` is their contract."""
