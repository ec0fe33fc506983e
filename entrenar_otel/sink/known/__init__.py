"""Known: what the lake has already, so that what comes twice is stored once."""
