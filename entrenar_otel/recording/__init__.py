"""The hot path: a call becomes a record in a memory-mapped segment, and is read back from there."""
