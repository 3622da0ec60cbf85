"""All sandboxes of one owner: quotas, expiry, snapshots."""
