"""What deploy managers share."""
