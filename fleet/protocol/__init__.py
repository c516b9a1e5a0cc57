"""What robots, servers and browsers say to each other. Pure: msgspec, numpy and pyarrow only."""
