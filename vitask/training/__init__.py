"""Training: the objective, the tasks, and a loop that knows neither."""
