"""Device: values that a GPU has yet to compute, and the calls of `log` that wait for them."""
