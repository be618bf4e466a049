"""Quality and speed of a model, each measure in a file of its own."""
