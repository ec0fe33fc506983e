"""What a training loop holds: the Monitor, and the parts it is made of."""
