"""Python values to bytes and parts, and back; never touches storage."""
