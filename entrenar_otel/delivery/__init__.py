"""What leaves the process: bounded queues, and threads for receivers that may be slow, raise or hang."""
