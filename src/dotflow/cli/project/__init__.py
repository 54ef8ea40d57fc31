"""A new project, made from the template."""
