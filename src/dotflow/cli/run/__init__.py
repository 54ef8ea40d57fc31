"""Running a workflow from the command line: from options to exit code."""
