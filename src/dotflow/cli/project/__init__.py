"""Making a new project from the template."""
