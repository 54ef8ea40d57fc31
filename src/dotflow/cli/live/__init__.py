"""The live view of a run: what is shown, and who writes it to the terminal."""
