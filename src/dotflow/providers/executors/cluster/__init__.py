"""What the executors of all clusters share."""
