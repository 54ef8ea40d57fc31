"""What a step prints, on its way to the history."""
