"""Are two answers the same, does an equation hold? Filters, metrics, votes and rewards ask here."""
