"""One file a verb: takes values and folders, returns a record."""
