"""From files in published layouts to raw traces."""
