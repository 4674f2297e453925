"""The command line: one file a verb; parses, calls a workflow, prints."""
