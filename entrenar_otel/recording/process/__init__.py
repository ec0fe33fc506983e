"""Process: who records here, whether it lives, and how others command it."""
