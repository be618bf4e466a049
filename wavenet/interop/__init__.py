"""Other people's formats: what is read becomes a model of ours, what is written runs elsewhere."""
