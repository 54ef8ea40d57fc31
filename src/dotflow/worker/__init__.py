"""What runs where the step runs. It knows no provider and fits in any process on any machine."""
