"""The live view of a run, and the process that writes it to the terminal."""
