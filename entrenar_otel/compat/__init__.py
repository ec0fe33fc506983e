"""Compat: what scripts for other trackers call, on top of a Monitor."""
