"""Container log files in CRI format: what one line means, which lines a request wants, and a reader of files.

A ground-floor room: the agent reads the logs of running containers with it, the provider those it archived. Times are
nanoseconds since the epoch. The reader does blocking file reads in bounded blocks; callers decide where it runs.
"""
