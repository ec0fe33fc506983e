"""Where people train: one callback per framework, each in the module of its name."""
