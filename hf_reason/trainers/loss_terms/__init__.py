"""Terms of the training loss, one object each (see `base`)."""
