"""What `bin/bench` measures, a module a subject."""
