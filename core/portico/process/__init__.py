"""What each process of Portico needs of the system that it starts in, whoever started it."""
