"""Data: images and tables of any source go in; one manifest with leak-free folds comes out."""
