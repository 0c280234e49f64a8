"""Running a config: the launcher, hooks, optimisers, processes."""
