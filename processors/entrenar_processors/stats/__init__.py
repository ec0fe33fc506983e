"""Statistics: plain numeric cores, without a notion of findings."""
