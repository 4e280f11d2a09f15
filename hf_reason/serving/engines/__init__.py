"""Engines: what generates chains for the API. `base` is the interface, `generate` runs models of this process."""
