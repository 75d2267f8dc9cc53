"""Results of a study's runs as tables: from run folders, or from the records of a report."""
