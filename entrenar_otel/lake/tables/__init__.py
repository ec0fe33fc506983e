"""Tables: what the rows of the lake look like."""
