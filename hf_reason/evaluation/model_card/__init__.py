"""The model card: its sections, and the template that a recipe fills."""
