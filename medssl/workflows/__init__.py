"""Whole jobs, each read from top to bottom: pretrain, embed, demo."""
