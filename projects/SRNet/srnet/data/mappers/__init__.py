"""From a dataset's record to what a model takes."""
