"""Records that are made: word problems, distractors."""
