"""What happens around the steps: one Ignite handler a concern, attached in the order in which they act."""
