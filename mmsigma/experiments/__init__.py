"""Reports about models and runs."""
