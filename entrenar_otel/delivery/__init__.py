"""What leaves: bounded queues and threads for whatever may be slow, raise or hang."""
