"""One page that shows a run. Reads files only: no torch."""
