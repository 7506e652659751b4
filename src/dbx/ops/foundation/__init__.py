"""A set transformer of counts, trained to predict genes that are hidden from it."""
