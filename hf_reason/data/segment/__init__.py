"""From a chain of prose to its steps."""
