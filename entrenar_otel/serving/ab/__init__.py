"""A/B: what a test is, what was recorded of it, and what that says."""
