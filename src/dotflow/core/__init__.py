"""What a workflow is: values and rules. No I/O, no thread, no process."""
