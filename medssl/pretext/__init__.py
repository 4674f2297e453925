"""Pretext tasks: one file a task, a registry that finds them, and the mixture that trains several at once."""
