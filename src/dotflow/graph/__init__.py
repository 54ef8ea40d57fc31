"""What a workflow is: tasks, names, links, items, conditions, plan."""
