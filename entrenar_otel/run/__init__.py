"""A run in progress: its parts, its heartbeat, and how it begins and ends."""
