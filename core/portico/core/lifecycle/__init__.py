"""What ends stored data: retention, deletion, ephemeral runs, erasure of a user."""
