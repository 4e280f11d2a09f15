"""The stages of `circle`: a server that changes its models, users, a round of learning, and the report."""
