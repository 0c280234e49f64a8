"""What computes: trunks, tuners, and the backbone that joins them."""
