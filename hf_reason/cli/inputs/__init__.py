"""What a command loads: records, models, students."""
