"""A file one can run: metadata, preprocessing, prediction. No torch."""
