"""Models of other people's programs, read and written."""
