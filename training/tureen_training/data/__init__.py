"""From human feedback to training signal: readers, records, labels, splits."""
