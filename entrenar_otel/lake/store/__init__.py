"""Store: where the lake's files lie, what they are called, and how they are written and read."""
