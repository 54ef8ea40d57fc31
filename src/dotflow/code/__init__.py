"""What a step's code is: fingerprints."""
