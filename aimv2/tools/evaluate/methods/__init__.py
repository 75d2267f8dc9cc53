"""What is measured on features: classifiers, neighbours, zero-shot classification and retrieval, with intervals."""
