"""Fair measurements: one live process a row, turn about."""
