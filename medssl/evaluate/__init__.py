"""Numbers about trained encoders."""
