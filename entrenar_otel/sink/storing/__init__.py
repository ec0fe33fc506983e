"""Storing: what requests brought becomes rows and run records of a lake."""
