"""The body of a durable step: its calls, which are kept when they have returned."""
