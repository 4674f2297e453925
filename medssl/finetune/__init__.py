"""A pretrained encoder put to use: segmentation and classification with few labels."""
