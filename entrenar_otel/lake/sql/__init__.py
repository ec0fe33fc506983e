"""SQL: one SELECT over the files and the live segments, within limits."""
