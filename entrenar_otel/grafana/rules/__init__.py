"""What Prometheus watches: rules made from renacer.toml, as a file that it reads."""
