"""Gateways: processes that translate other protocols into the contract. They store nothing."""
