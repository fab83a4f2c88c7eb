"""Progress of long work: bars, a live view, log lines, a stream of events."""
