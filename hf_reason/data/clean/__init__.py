"""What is kept of the records: filters, duplicates, contamination, domains, splits."""
