"""Scores from one confusion matrix, for every runtime alike."""
