"""What runs where the step runs. It imports no provider and works in any process on any machine."""
