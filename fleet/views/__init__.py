"""Pages of the fleet app."""
