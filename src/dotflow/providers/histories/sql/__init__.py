"""What the histories in databases share: the rules of the queue."""
