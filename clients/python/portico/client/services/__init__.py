"""One class for each service of the contract."""
