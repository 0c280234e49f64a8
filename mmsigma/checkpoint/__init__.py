"""What trains, as files: the record in a checkpoint, adapters alone, merged models."""
