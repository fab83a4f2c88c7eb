"""Results measured again: a record of ours, or a published table."""
