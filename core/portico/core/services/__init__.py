"""The contract's services: check, delegate, convert."""
