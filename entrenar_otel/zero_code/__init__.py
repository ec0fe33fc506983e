"""Zero code: what records a program that has no line of ours."""
