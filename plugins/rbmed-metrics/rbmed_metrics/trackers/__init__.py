"""Reports that hand records to experiment trackers, each an extra of this distribution; nothing leaves the machine."""
