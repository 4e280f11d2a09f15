"""Which example comes next: domains, curriculum, length groups."""
