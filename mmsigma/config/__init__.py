"""Composing a config from a trunk, a tuner, a head and data."""
