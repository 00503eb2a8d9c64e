"""Works computed in this process."""
