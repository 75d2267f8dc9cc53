"""What everything else stands on: errors, random addresses, files, signals, plug-ins."""
