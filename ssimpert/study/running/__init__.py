"""Running a study: tasks, the processes that do them, and the one writer of their records."""
