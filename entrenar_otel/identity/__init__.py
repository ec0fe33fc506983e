"""Identity: which run, rank and attempt this process is, and whether it is a helper of one."""
