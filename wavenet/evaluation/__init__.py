"""How good and how fast: what is measured of a model, each measure in a file of its own."""
