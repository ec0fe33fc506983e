"""Web: the small HTTP server under everything that listens."""
