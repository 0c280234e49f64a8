"""What is called from Python: several tasks, predictions, counts."""
