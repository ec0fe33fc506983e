"""Stats: numeric cores, which know nothing of findings."""
