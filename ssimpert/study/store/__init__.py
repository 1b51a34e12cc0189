"""The folder of a study: records that are appended and synced, failures, the lock, and how folders are joined."""
