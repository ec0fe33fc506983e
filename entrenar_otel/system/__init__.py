"""System: the machine a run is on, read beside the training: process, host, container, GPUs."""
