"""CNI plugins in Python. They know nothing of minirt and import nothing at this level: start-up is the cost."""
