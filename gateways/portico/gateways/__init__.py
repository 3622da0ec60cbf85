"""Gateways: processes that translate a protocol into the contract and hold nothing themselves."""
