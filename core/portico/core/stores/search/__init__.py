"""Text search without a database: tokens, stems, ranking, highlights."""
